package postgres

import (
	"context"
	"fmt"
)

// query runs one statement that reads, in one round trip. It is a transaction by itself, in one state of the index, whatever
// the isolation. what names it in errors.
func query[T any](ctx context.Context, m *Metadata, what, statement string, args []any, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	return send(ctx, m, notCommitted, what, statement, args, scan) // looking again harms nobody
}

// single is query for a statement that is a whole event.
func single[T any](ctx context.Context, m *Metadata, what, statement string, args []any, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	return send(ctx, m, unknown, what, statement, args, scan)
}

// send runs one statement. lost is what is known when its answer was lost.
func send[T any](ctx context.Context, m *Metadata, lost outcome, what, statement string, args []any, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	var all []T
	err := again(ctx, func() (outcome, error) {
		conn, err := m.pool.Acquire(ctx)
		if err != nil {
			return neverSent, err
		}
		defer conn.Release()
		rows, err := conn.Query(ctx, m.statement(statement), args...)
		if err == nil {
			all, err = collect(rows, scan)
		}
		if isServerError(err) {
			return notCommitted, err
		}
		return lost, err
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: %s: %w", what, classify(ctx, err))
	}
	return all, nil
}

// row is query for one row at most, else the error none.
func row[T any](ctx context.Context, m *Metadata, what string, none error, statement string, args []any, scan func(scan func(...any) error) (T, error)) (T, error) {
	all, err := query(ctx, m, what, statement, args, scan)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("postgres: %s: %w", what, none)
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return all[0], nil
}
