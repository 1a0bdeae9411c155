package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// reader is a few connections that only read. Each is used by one call at a time, and no cursor outlives its call: an old
// snapshot would keep the write-ahead log from being emptied.
type reader struct {
	db      *sql.DB
	free    chan *connection // has room for all
	closing chan struct{}
}

// newReader opens all of its connections. It closes db, also when it fails.
func newReader(ctx context.Context, db *sql.DB, connections int) (*reader, error) {
	r := &reader{db: db, free: make(chan *connection, connections), closing: make(chan struct{})}
	for range connections {
		c, err := connect(ctx, db)
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		r.free <- c
	}
	return r, nil
}

// close waits for the calls under way and closes the connections. Calls that wait for one fail with [ErrClosed].
func (r *reader) close() error {
	close(r.closing)
	var errs []error
	for range cap(r.free) {
		errs = append(errs, (<-r.free).close())
	}
	return errors.Join(append(errs, r.db.Close())...)
}

// acquire takes a connection, which must be put back into free.
func (r *reader) acquire(ctx context.Context) (*connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if isClosed(r.closing) {
		return nil, ErrClosed
	}
	select {
	case c := <-r.free:
		return c, nil
	case <-r.closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// read runs a query of m. what names it in errors.
func read[T any](ctx context.Context, m *Metadata, what string, query func(*connection) (T, error)) (T, error) {
	var none T
	c, err := m.reader.acquire(ctx)
	if err != nil {
		return none, fmt.Errorf("sqlite: %s: %w", what, err)
	}
	defer func() { m.reader.free <- c }()
	result, err := query(c)
	if err != nil {
		return none, fmt.Errorf("sqlite: %s: %w", what, m.classify(err))
	}
	return result, nil
}
