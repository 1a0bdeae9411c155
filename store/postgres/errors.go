package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ocikit/ocikit/store"
)

// Errors of this package about the schema, which an operator decides on. Those that a caller of [store.Metadata] decides on
// are in package store.
var (
	// ErrNoSchema: there are no tables of this program. [Migrate] makes them.
	ErrNoSchema = errors.New("no schema")
	// ErrOlderSchema: [Migrate] has something to do first.
	ErrOlderSchema = errors.New("older schema")
	// ErrNewerSchema: a newer version of the program has been there. [Migrate] leaves it alone.
	ErrNewerSchema = errors.New("newer schema")
)

// classify wraps what may pass by itself, or once an operator has made room, in [store.ErrUnavailable]. What is wrong with the
// call or with the set-up stays as it is, and so does the end of the caller's own context.
func classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		if !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return err
	}
	if isUnavailable(err) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "26000" || e.Code == "42P05") { // no such prepared statement; it is there already
		return fmt.Errorf("%w; a pooler is in the way: use default_query_exec_mode=%s", err, pgx.QueryExecModeExec)
	}
	return err
}

func isUnavailable(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return pgconn.SafeToRetry(err) || isNetwork(err) || errors.Is(err, errAgain)
	}
	switch e.Code {
	case "57P01", "57P02", "57P03", "57P05": // shut down, crash, starting up, idle too long
		return true
	case "57014", "55P03", "25P03", "25P04": // time-outs: of statements, locks, transactions
		return true
	case "25006", "55000": // read only; not in a state for this
		return true
	case "23503", "23505", "23502": // others were in the way, every time
		return isConflict(err)
	case "0A000": // a standby
		return strings.Contains(e.Message, "during recovery")
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "40", "53", "58": // connections (poolers use it for all of theirs), conflicts, resources, the machine
		return true
	}
	return false
}

// isNetwork reports whether the error comes from the connection, or from making one.
func isNetwork(err error) bool {
	var network net.Error
	var system syscall.Errno
	return errors.As(err, &network) || errors.As(err, &system) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed)
}
