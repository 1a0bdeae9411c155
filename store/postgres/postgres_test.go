package postgres_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(backendtest.Run(m)) }

func TestMetadata(t *testing.T) {
	t.Parallel()
	storetest.Metadata(t, func(t *testing.T, now func() time.Time) []store.Metadata {
		options := &postgres.Options{Schema: newSchema(t), Now: now}
		return []store.Metadata{open(t, newPool(t, 0), options), open(t, newPool(t, 0), options)}
	})
}

// newPool returns a pool for the shared server, for the time of the test. 0 connections means as many as pgxpool's default.
func newPool(t testing.TB, connections int32, change ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(backendtest.Postgres(t).URL())
	require.NoError(t, err)
	if connections > 0 {
		config.MaxConns = connections
	}
	for _, change := range change {
		change(config)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// newSchema makes an empty index in a schema of its own, by the plain SQL, which takes one round trip.
func newSchema(t testing.TB) string {
	t.Helper()
	schema := "test_" + strings.ReplaceAll(store.NewID(), "-", "_")
	pool := newPool(t, 1)
	_, err := pool.Exec(t.Context(), "begin;"+plainSQL(t, schema)+"commit", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	return schema
}

// plainSQL is all migrations.
func plainSQL(t testing.TB, schema string) string {
	t.Helper()
	files, err := postgres.Migrations(schema)
	require.NoError(t, err)
	names, err := fs.Glob(files, "*.sql")
	require.NoError(t, err)
	var text strings.Builder
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		require.NoError(t, err)
		text.Write(data)
	}
	return text.String()
}

// open opens the index.
func open(t testing.TB, pool *pgxpool.Pool, options *postgres.Options) *postgres.Metadata {
	t.Helper()
	m, err := postgres.New(t.Context(), pool, options)
	require.NoError(t, err)
	return m
}

// inline is content whose bytes are the text.
func inline(text string) store.Content {
	return store.Content{Digest: digest.FromString(text), Size: int64(len(text)), Inline: []byte(text)}
}

// manifest is a put of a manifest whose bytes are the text, with its tags.
func manifest(repository, text string, tags ...string) store.ManifestPut {
	return store.ManifestPut{
		Repository: repository,
		Manifest:   store.Manifest{Digest: digest.FromString(text), MediaType: "text/plain", Bytes: []byte(text)},
		Tags:       tags,
	}
}
