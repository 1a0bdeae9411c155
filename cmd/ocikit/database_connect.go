package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// startTimeout is how long each store may take to answer when a command starts: who has configured a wrong host is told so soon.
const startTimeout = 10 * time.Second

// connect returns PostgreSQL's pool once the server has answered. For a server, m counts what is sent to it, and bounds how long each
// of that may take; log and m are nil for commands that change the schema. The caller closes the pool.
func (d database) connect(ctx context.Context, log *slog.Logger, m *metrics) (*pgxpool.Pool, error) {
	pooled, err := d.isPooled(ctx)
	if err != nil {
		return nil, d.explain(err)
	}
	config := d.pool.Copy()
	if pooled && !d.modeIsSet {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if m != nil {
		config.ConnConfig.Tracer = deadlines{m}
		if pooled && !d.modeIsSet {
			log.Info("a pooler is in between, which may lose prepared statements, so that none are used: PostgreSQL has more to do. " +
				"If it keeps them (PgBouncer from 1.21 on), add default_query_exec_mode=cache_statement to --database")
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, d.explain(err)
	}
	return pool, nil
}

// isPooled reports whether something is between here and PostgreSQL that gives each transaction a session as it likes: then the
// process that the connection was said to be of is not the one that answers.
func (d database) isPooled(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	config := d.pool.ConnConfig.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // works with and without
	connection, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	defer func() { _ = connection.Close(ctx) }() // it has answered, or not
	var process uint32
	err = connection.QueryRow(ctx, "select pg_backend_pid()").Scan(&process)
	return process != connection.PgConn().PID(), err
}

// Codes of PostgreSQL's that have a usual reason. The others speak for themselves.
var databaseFixes = map[string]string{
	"28P01": "set the right one in the URL, in PGPASSWORD or in ~/.pgpass",
	"28000": "allow it in pg_hba.conf, or connect as another user, or with another sslmode=",
	"3D000": "create it with createdb, or name another one",
	"42501": "grant it, or connect as another user",
	"42704": "correct what follows the question mark: PostgreSQL knows no such setting",
	"53300": "raise its max_connections, or give each replica fewer with pool_max_conns=",
	"57P03": "it is starting or stopping: try again",
}

// explain returns what keeps the database from answering, and what to do about it, in one line and without a password.
func (d database) explain(err error) error {
	address := hostPort(d.pool.ConnConfig)
	var server *pgconn.PgError
	switch {
	case errors.Is(err, postgres.ErrNoSchema), errors.Is(err, postgres.ErrOlderSchema), errors.Is(err, postgres.ErrNewerSchema):
		return errors.New(oneLine(err)) // says what to do
	case errors.As(err, &server):
		if fix, ok := databaseFixes[server.Code]; ok {
			return fmt.Errorf("PostgreSQL at %s: %s: %s", address, server.Message, fix)
		}
		return fmt.Errorf("PostgreSQL at %s: %s (SQLSTATE %s)", address, server.Message, server.Code)
	case isUnknownHost(err):
		return fmt.Errorf("no host is known as %s: correct the URL's host", d.pool.ConnConfig.Host)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("nothing listens at %s: start PostgreSQL, or correct the URL's host and port", address)
	case isTLS(err):
		return fmt.Errorf("PostgreSQL at %s: %s: set sslmode= and sslrootcert= to what the server has", address, innermost(err))
	case isTimeout(err):
		return fmt.Errorf("no answer from %s in time: correct the URL's host and port, or open the way to it", address)
	}
	text := innermost(err)
	if text == store.ErrUnavailable.Error() { // it has a reason that is no error
		_, text, _ = strings.Cut(oneLine(err), text+": ")
	}
	return fmt.Errorf("PostgreSQL at %s: %s", address, text)
}

func isTLS(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(tls.RecordHeaderError)) ||
		strings.Contains(err.Error(), "refused TLS")
}

func isUnknownHost(err error) bool { return errors.As(err, new(*net.DNSError)) }

// isTimeout reports whether nobody answered in time, or nobody can be reached.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

// innermost returns the text of the error that the others wrap, the last where several are wrapped, which is the cause: what it was
// about is said by who asks.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) > 0 {
			inner = joined.Unwrap()[len(joined.Unwrap())-1]
		}
		if inner == nil {
			return oneLine(err)
		}
		err = inner
	}
}

// oneLine returns an error's text in one line.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
