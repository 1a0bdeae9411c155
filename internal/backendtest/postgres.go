package backendtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/ocikit/ocikit/internal/tooltest"
)

// postgresFolders is where PostgreSQL's packages keep its programs.
const postgresFolders = "/usr/lib/postgresql/[1-9][0-9]/bin"

// PostgresServer is a PostgreSQL server with the superuser postgres, who needs
// no password.
type PostgresServer struct {
	Server
	shared bool
}

// Postgres returns the server that the tests of this binary share. It keeps
// nothing on a crash; it takes 400 connections at once.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	programs := requirePostgres(t)
	return sharedPostgres.get(t, func() (*PostgresServer, error) {
		server, err := startPostgres(programs, map[string]string{
			"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
			"max_connections": "400",
		})
		if err != nil {
			return nil, err
		}
		server.shared = true
		return server, nil
	})
}

// NewPostgres starts a server of the test's own, which keeps what it
// acknowledged whatever happens to it, with settings beyond those of a new
// cluster, as "name=value". It ends with the test.
func NewPostgres(t testing.TB, settings ...string) *PostgresServer {
	t.Helper()
	all := map[string]string{}
	for _, setting := range settings {
		name, value, found := strings.Cut(setting, "=")
		if !found {
			t.Fatalf("the setting %q of PostgreSQL has no value", setting)
		}
		all[name] = value
	}
	server, err := startPostgres(requirePostgres(t), all)
	if err != nil {
		t.Fatal(err)
	}
	server.own(t)
	return server
}

// URL returns the address of the database postgres.
func (s *PostgresServer) URL() string { return s.url("postgres") }

func (s *PostgresServer) url(database string) string {
	return "postgres://postgres@" + s.address + "/" + database + "?sslmode=disable"
}

// Database makes an empty database and returns its URL. It is dropped at the
// test's end, whoever is connected to it.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := unique("test")
	if err := s.execute("create database " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.shared { // it goes with the server, which may be down
			return
		}
		if err := s.execute("drop database " + name + " with (force)"); err != nil {
			t.Error(err)
		}
	})
	return s.url(name)
}

func (s *PostgresServer) execute(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	connection, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	_, err = connection.Exec(ctx, statement)
	if err = errors.Join(err, connection.Close(ctx)); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// postgresPrograms is what a server needs of the machine.
type postgresPrograms struct {
	initdb, postgres string
	// user is who runs them: PostgreSQL refuses to run as root. nil is oneself.
	user *syscall.Credential
}

func requirePostgres(t testing.TB) postgresPrograms {
	t.Helper()
	programs := postgresPrograms{
		initdb:   tooltest.Require(t, "initdb", postgresFolders),
		postgres: tooltest.Require(t, "postgres", postgresFolders),
	}
	if os.Geteuid() != 0 {
		return programs
	}
	account := tooltest.RequireUser(t, "postgres")
	ids := make([]uint32, 0, 2)
	for _, text := range []string{account.Uid, account.Gid} {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatalf("the user postgres has the id %q: %v", text, err)
		}
		ids = append(ids, uint32(id))
	}
	programs.user = &syscall.Credential{Uid: ids[0], Gid: ids[1]}
	return programs
}

func startPostgres(programs postgresPrograms, settings map[string]string) (*PostgresServer, error) {
	address, err := tooltest.FindAddress()
	if err != nil {
		return nil, err
	}
	// Not under the test's own folder, which the user postgres may not enter.
	folder, err := os.MkdirTemp("", "ocikit-postgres")
	if err != nil {
		return nil, fmt.Errorf("make the folder of PostgreSQL: %w", err)
	}
	s := &PostgresServer{Server: Server{
		name: "PostgreSQL", address: address, folder: folder,
		command: func() *exec.Cmd { return programs.server(folder, address, settings) },
		// After kill -9, the server's own children take a moment to end.
		passing: func(log string) bool {
			return strings.Contains(log, "is still in use") || strings.Contains(log, "Is another postmaster")
		},
	}}
	s.probe = s.select1
	if err = programs.initialise(folder); err == nil {
		err = s.start()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (p postgresPrograms) initialise(folder string) error {
	if p.user != nil {
		if err := os.Chown(folder, int(p.user.Uid), int(p.user.Gid)); err != nil {
			return fmt.Errorf("give the folder to the user postgres: %w", err)
		}
	}
	output, err := p.command(folder, p.initdb, "-D", filepath.Join(folder, "data"),
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, output)
	}
	return nil
}

func (p postgresPrograms) server(folder, address string, settings map[string]string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(address)
	args := []string{
		"-D", filepath.Join(folder, "data"), "-p", port,
		"-c", "listen_addresses=" + host,
		"-c", "unix_socket_directories=",
	}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return p.command(folder, p.postgres, args...)
}

func (p postgresPrograms) command(folder, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = folder
	cmd.Env = []string{"PATH=" + filepath.Dir(program) + ":/usr/bin:/bin", "HOME=" + folder, "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.user}
	return cmd
}

func (s *PostgresServer) select1(ctx context.Context) error {
	connection, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	_, err = connection.Exec(ctx, "select 1")
	return errors.Join(err, connection.Close(ctx))
}
