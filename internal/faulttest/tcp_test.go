package faulttest_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTCPPassesBothDirectionsAndTheirEnds(t *testing.T) {
	t.Parallel()
	proxy := faulttest.NewTCP(t, newEcho(t))
	connection := dial(t, proxy)
	require.Equal(t, "hello\n", say(t, connection, "hello"))
	require.NoError(t, connection.(*net.TCPConn).CloseWrite())
	rest, err := io.ReadAll(connection)
	require.NoError(t, err)
	require.Equal(t, "goodbye\n", string(rest), "what the target says when the client has ended")
}

func TestTCPCutEndsConnectionsAndAcceptsNewOnes(t *testing.T) {
	t.Parallel()
	proxy := faulttest.NewTCP(t, newEcho(t))
	connection := dial(t, proxy)
	require.Equal(t, "hello\n", say(t, connection, "hello"))
	proxy.Cut()
	_, err := connection.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF, "a cut is not an orderly end")
	require.Equal(t, "again\n", say(t, dial(t, proxy), "again"))
}

func TestTCPRefusesConnectionsUntilItDoesNot(t *testing.T) {
	t.Parallel()
	proxy := faulttest.NewTCP(t, newEcho(t))
	open := dial(t, proxy)
	require.Equal(t, "hello\n", say(t, open, "hello"))
	proxy.Refuse(t, true)
	_, err := net.Dial("tcp", proxy.Address())
	require.Error(t, err)
	require.Equal(t, "still\n", say(t, open, "still"), "a connection that there was stays")
	proxy.Refuse(t, false)
	require.Equal(t, "again\n", say(t, dial(t, proxy), "again"))
}

func TestTCPStallLosesNothing(t *testing.T) {
	t.Parallel()
	proxy := faulttest.NewTCP(t, newEcho(t))
	connection := dial(t, proxy)
	require.Equal(t, "hello\n", say(t, connection, "hello"))
	proxy.Stall(true)
	_, err := connection.Write([]byte("late\n"))
	require.NoError(t, err)
	require.NoError(t, connection.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = connection.Read(make([]byte, 1))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "nothing must be passed: %v", err)
	require.NoError(t, connection.SetReadDeadline(time.Time{}))
	proxy.Stall(false)
	line, err := bufio.NewReader(connection).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "late\n", line)
}

func TestTCPDelaysEachDirection(t *testing.T) {
	t.Parallel()
	const delay = 50 * time.Millisecond
	proxy := faulttest.NewTCP(t, newEcho(t))
	connection := dial(t, proxy)
	proxy.Delay(delay)
	began := time.Now()
	require.Equal(t, "hello\n", say(t, connection, "hello"))
	require.GreaterOrEqual(t, time.Since(began), 2*delay)
}

func TestTCPLosesTheAnswerToACommitThatTookEffect(t *testing.T) {
	t.Parallel()
	server := backendtest.Postgres(t)
	url := server.Database(t)
	proxy := faulttest.NewTCP(t, server.Address())
	direct := connect(t, url)
	_, err := direct.Exec(t.Context(), "create table things (name text)")
	require.NoError(t, err)

	through := connect(t, strings.Replace(url, server.Address(), proxy.Address(), 1))
	insert := func(name string) error {
		return pgx.BeginFunc(t.Context(), through, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "insert into things values ($1)", name)
			return err
		})
	}
	require.NoError(t, insert("before"))
	lost := proxy.LoseAnswer(faulttest.Contains("commit"))
	require.Error(t, insert("lost"), "the client must not learn that it was committed")
	tooltest.RequireEvent(t, lost, "the answer is lost")
	require.True(t, through.IsClosed())
	var names []string
	require.NoError(t, direct.QueryRow(t.Context(), "select array_agg(name order by name) from things").Scan(&names))
	require.Equal(t, []string{"before", "lost"}, names)
}

func TestTCPMutedServerStillHears(t *testing.T) {
	t.Parallel()
	server := backendtest.Postgres(t)
	url := server.Database(t)
	proxy := faulttest.NewTCP(t, server.Address())
	direct := connect(t, url)
	_, err := direct.Exec(t.Context(), "create table things (name text)")
	require.NoError(t, err)

	through := connect(t, strings.Replace(url, server.Address(), proxy.Address(), 1))
	proxy.Mute(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := through.Exec(ctx, "insert into things values ('heard')")
		result <- err
	}()
	assert.Eventually(t, func() bool {
		var heard int
		err := direct.QueryRow(t.Context(), "select count(*) from things").Scan(&heard)
		return err == nil && heard == 1
	}, 30*time.Second, 10*time.Millisecond, "the insert should reach the server")
	cancel()
	require.Error(t, <-result, "the client must hear nothing")
}

// newEcho starts a server that sends each line back, says goodbye at the end, and
// returns its address.
func newEcho(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			go func() {
				defer connection.Close()
				if _, err := io.Copy(connection, connection); err == nil {
					_, _ = io.WriteString(connection, "goodbye\n")
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, proxy *faulttest.TCP) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", proxy.Address())
	require.NoError(t, err)
	t.Cleanup(func() { connection.Close() })
	return connection
}

func say(t *testing.T, connection net.Conn, line string) string {
	t.Helper()
	_, err := io.WriteString(connection, line+"\n")
	require.NoError(t, err)
	answer := make([]byte, len(line)+1)
	_, err = io.ReadFull(connection, answer)
	require.NoError(t, err)
	return string(answer)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close(context.WithoutCancel(t.Context())) })
	return connection
}
