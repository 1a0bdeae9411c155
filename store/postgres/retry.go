package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// outcome is what is known of a transaction that returned.
type outcome int

const (
	committed    outcome = iota
	neverSent            // no connection
	notCommitted         // it has been rolled back, or will be
	unknown              // the answer to its commit was lost
)

const (
	// mostAttempts is how often a transaction is run that others got in the way of. One that waited for others in a
	// circle lets them pass by its end, so a few do, however many take part.
	mostAttempts = 12
	// mostConnections is how often it is run because its connection had gone: one that was idle in the pool while the database
	// was restarted is found out only when it is used. Connections that the pool makes anew are not tried again.
	mostConnections = 3
	// shortestPause and longestPause bound the mean pause before another attempt, which doubles each time.
	shortestPause, longestPause = time.Millisecond, 64 * time.Millisecond
)

// errAgain ends an attempt of a transaction that has found rows changed between two of its looks.
var errAgain = errors.New("rows have changed meanwhile")

// again runs attempts until one tells something final. One whose outcome is unknown is never run again: only its caller
// can tell what a repetition finds.
func again(ctx context.Context, attempt func() (outcome, error)) error {
	connections := 0
	for i := 1; ; i++ {
		known, err := attempt()
		switch {
		case err == nil, known == unknown, known == neverSent, ctx.Err() != nil, i == mostAttempts:
			return err
		case isConflict(err):
		case isBroken(err) && connections < mostConnections:
			connections++
			continue
		default:
			return err
		}
		if err := pause(ctx, i); err != nil {
			return err
		}
	}
}

// pause waits before another attempt, a random time, so that those who met do not meet again.
func pause(ctx context.Context, attempt int) error {
	mean := min(shortestPause<<(attempt-1), longestPause)
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(2 * mean))))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// isConflict reports whether a transaction failed because of what others did at the same time, so that it may succeed when it
// is run again.
func isConflict(err error) bool {
	if errors.Is(err, errAgain) {
		return true
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01": // serialisation failure, deadlock
		return true
	case "23503": // foreign key: what was there is gone; the next look tells
		return true
	case "23505": // unique: it was absent, and has come
		return true
	case "23502": // not null: the repository went before it could be locked; see [transaction.link]
		return e.TableName == "links" && e.ColumnName == "repository"
	case "0A000": // a cached plan's columns have changed: pgx has forgotten it by now
		return e.Routine == "RevalidateCachedQuery"
	case "26000": // so has the server
		return true
	}
	return false
}

// isBroken reports whether the error is a connection's, not an answer to a statement.
func isBroken(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.SeverityUnlocalized != "ERROR"
	}
	return pgconn.SafeToRetry(err) || isNetwork(err)
}

// isServerError reports whether the server has refused a statement, and lives: then the transaction was rolled back.
func isServerError(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.SeverityUnlocalized == "ERROR"
}
