package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ocikit/ocikit/internal/modeltest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// modes are all ways in which pgx sends statements; the pool's owner chooses one.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

func in(mode pgx.QueryExecMode) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) { config.ConnConfig.DefaultQueryExecMode = mode }
}

func TestAnswersAsTheReferenceDoesInEveryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			modeltest.Metadata(t, 2, 1000, func(t *testing.T, now func() time.Time) []store.Metadata {
				options := &postgres.Options{Schema: newSchema(t), Now: now}
				return []store.Metadata{open(t, newPool(t, 0, in(mode)), options), open(t, newPool(t, 0, in(mode)), options)}
			})
		})
	}
}
