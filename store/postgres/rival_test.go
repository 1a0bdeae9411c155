package postgres_test

import (
	"context"
	"strings"
	"sync/atomic"
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
	pid    uint32 // of the rival's connection, or of the call that has stopped
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
		schema:   schema, rival: conn.Conn(), pid: conn.Conn().PgConn().PID(), watch: watch,
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
			select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))`, s.pid).Scan(&blocked))
	}
	goOn()
	return <-done
}

// stopReview begins a review of all candidates, and stops it once it has locked what it takes and looked at it. From then on calls
// wait for it until it goes on.
func (s *stage) stopReview(t *testing.T) (goOn func()) {
	t.Helper()
	const carryOut = 3 // the round trip that it stops before
	resume := s.stop(t, carryOut, func(m *postgres.Metadata) error {
		_, err := m.ReviewCandidates(t.Context(), store.Review{Limit: 10})
		return err
	})
	return func() { require.NoError(t, resume()) }
}

// stop begins a call on a connection of its own, and stops it before a round trip. goOn returns what the call returned.
func (s *stage) stop(t *testing.T, trip int32, call func(*postgres.Metadata) error) (goOn func() error) {
	t.Helper()
	var trips atomic.Int32
	reached, resume := make(chan struct{}), make(chan struct{})
	m := open(t, newPool(t, 1, func(config *pgxpool.Config) {
		config.ConnConfig.Tracer = tracer(func() {
			if trips.Add(1) == trip {
				close(reached)
				<-resume
			}
		})
		config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
			s.pid = conn.PgConn().PID()
			return nil
		}
	}), &postgres.Options{Schema: s.schema})
	trips.Store(0)
	ended := make(chan error, 1)
	go func() { ended <- call(m) }()
	select {
	case <-reached:
	case err := <-ended:
		require.FailNow(t, "the call must come to that round trip", "it returned %v", err)
	}
	return func() error {
		close(resume)
		return <-ended
	}
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
	require.NoError(t, s.PutManifest(t.Context(), manifest(repository, "keeper of "+repository)))
}
