package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// stage is an index, and a connection beside it on which a test plays somebody else, stopped between two statements.
type stage struct {
	*postgres.Metadata
	schema string
	rival  *pgx.Conn
	watch  *pgxpool.Pool
}

// newStage makes one. The database's default isolation is one at which nothing here would hold.
func newStage(t *testing.T, change ...func(*pgxpool.Config)) *stage {
	t.Helper()
	schema := newSchema(t)
	change = append([]func(*pgxpool.Config){func(config *pgxpool.Config) {
		config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
	}}, change...)
	watch := newPool(t, 2)
	conn, err := watch.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	return &stage{
		Metadata: open(t, newPool(t, 4, change...), &postgres.Options{Schema: schema}),
		schema:   schema, rival: conn.Conn(), watch: watch,
	}
}

// sql runs a statement of the rival, and returns how many rows it found or changed.
func (s *stage) sql(t *testing.T, statement string, args ...any) int64 {
	t.Helper()
	tag, err := s.rival.Exec(t.Context(), strings.ReplaceAll(statement, "{schema}", s.schema), args...)
	require.NoError(t, err, statement)
	return tag.RowsAffected()
}

// begin begins the rival's transaction.
func (s *stage) begin(t *testing.T) { s.sql(t, `begin isolation level read committed`) }

// meet begins a call, waits until it waits for the rival, lets the rival go on, and returns what the call returned.
func (s *stage) meet(t *testing.T, call func(context.Context) error, goOn func()) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call(t.Context()) }()
	for blocked := false; !blocked; {
		select {
		case err := <-done:
			require.FailNow(t, "the call must wait for the rival", "it returned %v", err)
		default:
		}
		require.NoError(t, s.watch.QueryRow(t.Context(), `
			select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))`, s.rival.PgConn().PID()).Scan(&blocked))
	}
	goOn()
	return <-done
}

// lockAsCollector plays a collector's first step: it locks a candidate, the content and the link, if they are to be had.
func (s *stage) lockAsCollector(t *testing.T, repository string, content store.Content) (candidate, contents, link int64) {
	t.Helper()
	s.begin(t)
	candidate = s.sql(t, `select from {schema}.candidates where repository = $1 and digest = $2 for update skip locked`, repository, content.Digest.String())
	if candidate == 0 {
		return 0, 0, 0
	}
	contents = s.sql(t, `select from {schema}.contents where digest = $1 for update skip locked`, content.Digest.String())
	link = s.sql(t, `
		select from {schema}.links where repository = (select id from {schema}.repositories where name = $1) and digest = $2
		for update skip locked`, repository, content.Digest.String())
	return candidate, contents, link
}

// collect plays the rest: the content is deleted with its link, which is the last one.
func (s *stage) collect(t *testing.T, repository string, content store.Content) {
	t.Helper()
	d := content.Digest.String()
	edges := s.sql(t, `
		select from {schema}.edges where repository = (select id from {schema}.repositories where name = $1) and child = $2`, repository, d)
	require.Zero(t, edges, "a collector looks for edges before it deletes")
	s.sql(t, `delete from {schema}.links where repository = (select id from {schema}.repositories where name = $1) and digest = $2`, repository, d)
	s.sql(t, `insert into {schema}.garbage (key, condemned) select key, now() from {schema}.contents where digest = $1 and key is not null`, d)
	s.sql(t, `delete from {schema}.contents where digest = $1`, d)
	s.sql(t, `delete from {schema}.candidates where repository = $1 and digest = $2`, repository, d)
	s.sql(t, `commit`)
}

// object pushes content that is in an object, and returns it.
func (s *stage) object(t *testing.T, repository, text string) store.Content {
	t.Helper()
	content, finish := s.upload(t, repository, text)
	require.NoError(t, s.FinishSession(t.Context(), finish))
	return content
}

// upload returns content that is in an object, and the event that is left to push it.
func (s *stage) upload(t *testing.T, repository, text string) (store.Content, store.Finish) {
	t.Helper()
	content := inline(text)
	content.Inline, content.Key = nil, store.NewBlobKey()
	id := store.NewID()
	require.NoError(t, s.CreateSession(t.Context(), id, repository, ""))
	session, err := s.ClaimSession(t.Context(), store.Claim{
		SessionRef: store.SessionRef{ID: id, Repository: repository}, Reserve: store.Reservation{Blob: content.Key},
	})
	require.NoError(t, err)
	return content, store.Finish{ID: id, Version: session.Version, Content: content}
}

// keeper gives the repository a link that stays, so that it does not go with the one that a test is about.
func (s *stage) keeper(t *testing.T, repository string) {
	t.Helper()
	require.NoError(t, s.PutContent(t.Context(), repository, inline("keeper of "+repository)))
}
