package postgres_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// through makes the pool connect to another address than the server's own.
func through(t testing.TB, address string) func(*pgxpool.Config) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.ParseUint(port, 10, 16)
	require.NoError(t, err)
	return func(config *pgxpool.Config) {
		config.ConnConfig.Host, config.ConnConfig.Port, config.ConnConfig.Fallbacks = host, uint16(number), nil
	}
}

func TestLostAnswerIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		message string // whose answer is lost
		call    func(context.Context, store.Metadata) error
		happens func(t *testing.T, m store.Metadata) // what must have happened, once
	}{
		"PutContent": {"insert", func(ctx context.Context, m store.Metadata) error { return m.PutContent(ctx, "a", inline("new")) },
			func(t *testing.T, m store.Metadata) {
				_, err := m.Content(t.Context(), "a", inline("new").Digest)
				require.NoError(t, err)
			}},
		"DeleteTag": {"delete from", func(ctx context.Context, m store.Metadata) error { return m.DeleteTag(ctx, "a", "latest") },
			func(t *testing.T, m store.Metadata) {
				require.ErrorIs(t, m.DeleteTag(t.Context(), "a", "latest"), store.ErrManifestUnknown)
			}},
		"DeleteManifest": {"delete from", func(ctx context.Context, m store.Metadata) error {
			return m.DeleteManifest(ctx, "a", manifest("a", "image").Manifest.Digest, nil)
		}, func(t *testing.T, m store.Metadata) {
			_, err := m.Manifest(t.Context(), "a", store.ManifestRef{Tag: "latest"})
			require.ErrorIs(t, err, store.ErrManifestUnknown)
		}},
		"ClaimSession": {"sessions set", func(ctx context.Context, m store.Metadata) error {
			_, err := m.ClaimSession(ctx, store.Claim{SessionRef: store.SessionRef{ID: "id", Repository: "a"}})
			return err
		}, func(t *testing.T, m store.Metadata) {
			session, err := m.Session(t.Context(), store.SessionRef{ID: "id", Repository: "a"})
			require.NoError(t, err)
			require.EqualValues(t, 1, session.Version, "one claim, which was not sent again")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := &postgres.Options{Schema: newSchema(t)}
			direct := open(t, newPool(t, 0), options)
			require.NoError(t, direct.PutManifest(t.Context(), manifest("a", "image", "latest")))
			require.NoError(t, direct.CreateSession(t.Context(), "id", "a", ""))

			proxy := faulttest.NewTCP(t, backendtest.Postgres(t).Address())
			m := open(t, newPool(t, 1, through(t, proxy.Address()), in(pgx.QueryExecModeExec)), options)
			lost := proxy.LoseAnswer(faulttest.Contains(test.message))
			err := test.call(t.Context(), m)
			require.ErrorIs(t, err, store.ErrUnavailable, "an answer that was lost leaves the outcome unknown, and is not sent again")
			<-lost
			test.happens(t, direct)
			require.NoError(t, m.Ping(t.Context()), "the next call works")
		})
	}
}

func TestTransactionThatWasNotCommittedRunsAgainOnAnotherConnection(t *testing.T) {
	t.Parallel()
	options := &postgres.Options{Schema: newSchema(t)}
	proxy := faulttest.NewTCP(t, backendtest.Postgres(t).Address())
	m := open(t, newPool(t, 2, through(t, proxy.Address()), in(pgx.QueryExecModeExec)), options)
	require.NoError(t, m.CreateSession(t.Context(), "id", "a", ""))
	lost := proxy.LoseAnswer(faulttest.Contains("for no key update"))
	session, err := m.ClaimSession(t.Context(), store.Claim{SessionRef: store.SessionRef{ID: "id", Repository: "a"}})
	require.NoError(t, err, "a connection that ends before the commit was sent costs nothing")
	require.EqualValues(t, 1, session.Version)
	<-lost

	lost = proxy.LoseAnswer(faulttest.Contains("select"))
	_, err = m.Session(t.Context(), store.SessionRef{ID: "id", Repository: "a"})
	require.NoError(t, err, "a look can be made again")
	<-lost
}

func TestConnectionsThatIdledThroughARestartAreNotNoticed(t *testing.T) {
	t.Parallel()
	server := backendtest.NewPostgres(t, "max_connections=40")
	config, err := pgxpool.ParseConfig(server.URL())
	require.NoError(t, err)
	config.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, postgres.Migrate(t.Context(), pool, nil))
	m := open(t, pool, nil)
	put := manifest("a", "image", "latest")
	require.NoError(t, m.PutManifest(t.Context(), put))

	server.Kill()
	for name, call := range map[string]func(context.Context) error{
		"read": func(ctx context.Context) error {
			_, err := m.Manifest(ctx, "a", store.ManifestRef{Tag: "latest"})
			return err
		},
		"write": func(ctx context.Context) error { return m.PutManifest(ctx, put) },
		"ping":  m.Ping,
	} {
		require.ErrorIs(t, call(t.Context()), store.ErrUnavailable, "a %s while nothing listens", name)
	}
	server.Start(t)
	got, err := m.Manifest(t.Context(), "a", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err)
	require.Equal(t, put.Manifest.Bytes, got.Bytes, "what was acknowledged is there after a crash")
	server.Restart(t)
	require.NoError(t, m.PutManifest(t.Context(), put), "connections that ended meanwhile are replaced")
}

func TestErrorsTellWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	schema := newSchema(t)
	setting := func(name, value string) func(*pgxpool.Config) {
		return func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams[name] = value }
	}
	put := func(ctx context.Context, m store.Metadata) error { return m.PutContent(ctx, "a", inline("x")) }
	grantVersions(t, schema)
	for name, test := range map[string]struct {
		change      func(*pgxpool.Config)
		unavailable bool
		says        string
	}{
		"ReadOnly":         {setting("default_transaction_read_only", "on"), true, "read-only"},
		"LockTimeout":      {setting("lock_timeout", "10ms"), true, "lock timeout"},
		"StatementTimeout": {setting("statement_timeout", "10ms"), true, "statement timeout"},
		"NoPermission":     {setting("role", "pg_monitor"), false, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, newPool(t, 2, test.change), &postgres.Options{Schema: schema})
			if strings.HasSuffix(name, "Timeout") {
				s := &stage{schema: schema, rival: acquire(t, newPool(t, 1))}
				s.begin(t)
				s.sql(t, `lock table {schema}.candidates in access exclusive mode`)
				defer s.sql(t, `rollback`)
			}
			err := put(t.Context(), m)
			require.ErrorContains(t, err, test.says)
			assert.Equal(t, test.unavailable, isUnavailable(err), "%v", err)
			assert.NotContains(t, err.Error(), "\n", "one line")
		})
	}
}

// grantVersions lets every role see the schema's version, and nothing else.
func grantVersions(t *testing.T, schema string) {
	t.Helper()
	conn := acquire(t, newPool(t, 1))
	_, err := conn.Exec(t.Context(), "grant usage on schema "+schema+" to pg_monitor; grant select on "+schema+".goose_db_version to pg_monitor",
		pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
}

func isUnavailable(err error) bool { return assert.ErrorIs(new(testing.T), err, store.ErrUnavailable) }

func TestFailingToConnectTellsWhy(t *testing.T) {
	t.Parallel()
	refused := faulttest.NewTCP(t, backendtest.Postgres(t).Address())
	refused.Refuse(t, true)
	for name, test := range map[string]struct {
		change      func(*pgxpool.Config)
		unavailable bool
		code        string
	}{
		"Refused":         {through(t, refused.Address()), true, ""},
		"UnknownDatabase": {func(config *pgxpool.Config) { config.ConnConfig.Database = "absent" }, false, "3D000"},
		"UnknownRole":     {func(config *pgxpool.Config) { config.ConnConfig.User = "nobody" }, false, "28000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := postgres.New(t.Context(), newPool(t, 1, test.change), nil)
			require.Error(t, err)
			assert.Equal(t, test.unavailable, isUnavailable(err), "%v", err)
			var server *pgconn.PgError
			if test.code != "" && assert.ErrorAs(t, err, &server) {
				assert.Equal(t, test.code, server.Code)
			}
		})
	}
}

func TestTooManyConnectionsIsUnavailable(t *testing.T) {
	t.Parallel()
	server := backendtest.NewPostgres(t, "max_connections=5", "superuser_reserved_connections=0", "max_wal_senders=0")
	pools := make([]*pgxpool.Pool, 2)
	for i := range pools {
		config, err := pgxpool.ParseConfig(server.URL())
		require.NoError(t, err)
		config.MaxConns = 5
		pools[i], err = pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pools[i].Close)
	}
	require.NoError(t, postgres.Migrate(t.Context(), pools[0], nil))
	m := open(t, pools[0], nil)
	for held := 0; held < 5; {
		connection, err := pools[1].Acquire(t.Context())
		if err != nil { // what the index had is being closed
			pools[0].Reset()
			continue
		}
		t.Cleanup(connection.Release)
		held++
	}
	require.ErrorIs(t, m.Ping(t.Context()), store.ErrUnavailable)
}

func TestCallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	content := inline("content")
	require.NoError(t, s.PutContent(t.Context(), "a", content))
	s.begin(t)
	s.sql(t, `select from {schema}.contents for update`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	err := s.meet(t, func(context.Context) error { return s.PutContent(ctx, "a", content) }, cancel)
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, store.ErrUnavailable)
	s.sql(t, `rollback`)
	require.NoError(t, s.PutContent(t.Context(), "a", content), "the pool has a connection for the next call")
}

func TestOneConnectionIsEnough(t *testing.T) {
	t.Parallel()
	m := open(t, newPool(t, 1), &postgres.Options{Schema: newSchema(t)})
	done := make(chan error)
	const callers = 32
	for i := range callers {
		go func() {
			for j := range 5 {
				layer := inline(store.NewID())
				if err := m.PutContent(t.Context(), "a", layer); err != nil {
					done <- err
					return
				}
				put := manifest("a", store.NewID(), "latest", []string{"even", "odd"}[(i+j)%2])
				put.References = []store.Reference{{Digest: layer.Digest}}
				if err := m.PutManifest(t.Context(), put); err != nil {
					done <- err
					return
				}
				if _, err := m.RenewContent(t.Context(), "a", layer.Digest, -time.Hour); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range callers {
		require.NoError(t, <-done)
	}
}
