package postgres_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/modeltest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
	"github.com/ocikit/ocikit/store/storetest"
)

// startPooler starts a PgBouncer before the shared server, for the time of the test, and returns its address. It gives each
// transaction one of a few sessions, whoever had it before.
func startPooler(t *testing.T) string {
	t.Helper()
	program := tooltest.Require(t, "pgbouncer", "/usr/sbin")
	host, port, err := net.SplitHostPort(backendtest.Postgres(t).Address())
	require.NoError(t, err)
	address, err := tooltest.FindAddress()
	require.NoError(t, err)
	_, own, err := net.SplitHostPort(address)
	require.NoError(t, err)
	// Not under the test's own folder, which the user postgres may not enter.
	folder, err := os.MkdirTemp("", "ocikit-pgbouncer") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	config := filepath.Join(folder, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
[databases]
postgres = host=%s port=%s user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 6
max_client_conn = 400
log_connections = 0
log_disconnections = 0
`, host, port, own), 0o644)) //nolint:gosec // another user reads it
	cmd := exec.Command(program, config)
	cmd.Dir = folder
	if os.Geteuid() == 0 { // as whom it refuses to run
		account := tooltest.RequireUser(t, "postgres")
		uid, err := strconv.ParseUint(account.Uid, 10, 32)
		require.NoError(t, err)
		gid, err := strconv.ParseUint(account.Gid, 10, 32)
		require.NoError(t, err)
		require.NoError(t, os.Chown(folder, int(uid), int(gid)))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	tooltest.StartProcess(t, cmd).AwaitReady(t, func() error {
		conn, err := pgx.Connect(t.Context(), "postgres://postgres@"+address+"/postgres?sslmode=disable&default_query_exec_mode=exec")
		if err != nil {
			return err
		}
		return conn.Close(t.Context())
	})
	return address
}

// poolerModes are those that need no prepared statements.
var poolerModes = []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}

func TestMetadataThroughAPooler(t *testing.T) {
	t.Parallel()
	address := startPooler(t)
	storetest.Metadata(t, func(t *testing.T, now func() time.Time) []store.Metadata {
		mode := pgx.QueryExecModeExec
		options := &postgres.Options{Schema: newSchema(t), Now: now}
		return []store.Metadata{
			open(t, newPool(t, 0, through(t, address), in(mode)), options), open(t, newPool(t, 0, through(t, address), in(mode)), options),
		}
	})
}

func TestAnswersAsTheReferenceDoesThroughAPooler(t *testing.T) {
	t.Parallel()
	address := startPooler(t)
	for _, mode := range poolerModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			modeltest.Metadata(t, 1, 1000, func(t *testing.T, now func() time.Time) []store.Metadata {
				options := &postgres.Options{Schema: newSchema(t), Now: now}
				return []store.Metadata{open(t, newPool(t, 0, through(t, address), in(mode)), options), open(t, newPool(t, 0), options)}
			})
		})
	}
}

func TestMigrateThroughAPooler(t *testing.T) {
	t.Parallel()
	pool := newPool(t, 1, through(t, startPooler(t)), in(pgx.QueryExecModeExec))
	options := &postgres.Options{Schema: "through_a_pooler"}
	require.NoError(t, postgres.Migrate(t.Context(), pool, options))
	require.NoError(t, open(t, pool, options).Ping(t.Context()))
}

func TestPreparedStatementsThroughAPoolerAreAClearError(t *testing.T) {
	t.Parallel()
	address := startPooler(t)
	options := &postgres.Options{Schema: newSchema(t)}
	m := open(t, newPool(t, 1, through(t, address), in(pgx.QueryExecModeExec)), options)
	require.NoError(t, m.PutContent(t.Context(), "a", inline("x")), "other modes work")
	for range 20 {
		_, err := postgres.New(t.Context(), newPool(t, 1, through(t, address), in(pgx.QueryExecModeCacheStatement)), options)
		if err == nil {
			continue
		}
		var server *pgconn.PgError
		require.ErrorAs(t, err, &server)
		assert.ErrorContains(t, err, "default_query_exec_mode=exec", "the error says what to do")
		return
	}
	t.Fatal("a session that somebody else has prepared statements on must refuse them")
}
