package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// transaction is one event. Its statements are queued, and sent together when an answer is needed; the first round trip
// begins the transaction, and the last one commits it. Statements run in their order, and each sees what was committed
// before it began: so one that follows a lock sees all that the lock was waited for.
//
// Statements never fail for what callers decide on. An error of the database therefore means that the event has to run
// again or has failed, and that nothing of it has happened.
type transaction struct {
	m     *Metadata
	conn  *pgxpool.Conn
	batch *pgx.Batch // of the next round trip
	begun bool       // some round trip was made
}

// errNothing ends an event that finds its effect there already. The transaction is rolled back, and the call succeeds.
var errNothing = errors.New("nothing to do")

// begin is the first statement of each transaction: every statement takes a snapshot of its own, whatever the database's default is.
const begin = `begin isolation level read committed`

// change runs an event of m in a transaction, again when that may help. what names it in errors.
func change(ctx context.Context, m *Metadata, what string, event func(context.Context, *transaction) error) error {
	err := again(ctx, func() (outcome, error) { return m.attempt(ctx, event) })
	if errors.Is(err, errNothing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("postgres: %s: %w", what, classify(ctx, err))
	}
	return nil
}

// attempt runs the event once, on one connection.
func (m *Metadata) attempt(ctx context.Context, event func(context.Context, *transaction) error) (outcome, error) {
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		return neverSent, err
	}
	defer conn.Release() // a connection that is not outside a transaction is closed
	tx := &transaction{m: m, conn: conn, batch: &pgx.Batch{}}
	tx.batch.Queue(begin)
	if err := event(ctx, tx); err != nil {
		tx.rollback(ctx)
		return notCommitted, err
	}
	tx.batch.Queue(`commit`)
	if err := tx.roundTrip(ctx); err != nil {
		tx.rollback(ctx)
		if isServerError(err) {
			return notCommitted, err
		}
		return unknown, err
	}
	return committed, nil
}

// rollback ends a transaction that must not be committed. Where that fails the connection goes, and the transaction with it.
func (tx *transaction) rollback(ctx context.Context) {
	if tx.begun && !tx.conn.Conn().IsClosed() && tx.conn.Conn().PgConn().TxStatus() != 'I' {
		_, _ = tx.conn.Exec(ctx, `rollback`)
	}
}

// roundTrip sends what is queued, and waits for all answers. It returns the first error: the ones after it, with which pgx's own
// Close would come back, tell of a connection that is closed, as if nothing had been sent.
func (tx *transaction) roundTrip(ctx context.Context) error {
	batch := tx.batch
	tx.batch, tx.begun = &pgx.Batch{}, true
	results := tx.conn.SendBatch(ctx, batch)
	for _, queued := range batch.QueuedQueries {
		var err error
		if queued.Fn != nil {
			err = queued.Fn(results)
		} else {
			_, err = results.Exec()
		}
		if err != nil {
			_ = results.Close()
			return err
		}
	}
	return results.Close()
}

// exec queues a statement whose rows nobody needs.
func (tx *transaction) exec(statement string, args ...any) {
	tx.batch.Queue(tx.m.statement(statement), args...)
}

// rows queues a query, whose rows are there after the next round trip. scan gets each row's Scan.
func rows[T any](tx *transaction, statement string, args []any, scan func(scan func(...any) error) (T, error)) *[]T {
	all := new([]T)
	tx.batch.Queue(tx.m.statement(statement), args...).Query(func(rows pgx.Rows) error {
		collected, err := collect(rows, scan)
		*all = collected
		return err
	})
	return all
}

// values queues a query that has one column.
func values[T any](tx *transaction, statement string, args ...any) *[]T {
	return rows(tx, statement, args, scanOne[T])
}

func scanOne[T any](scan func(...any) error) (value T, err error) {
	err = scan(&value)
	return value, err
}

// collect reads all rows.
func collect[T any](rows pgx.Rows, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// first returns a query's row, if there was one.
func first[T any](rows *[]T) (row T, found bool) {
	if len(*rows) == 0 {
		return row, false
	}
	return (*rows)[0], true
}
