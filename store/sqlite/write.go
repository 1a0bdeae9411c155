package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	codes "modernc.org/sqlite/lib"
)

// mostEvents is how many events share a commit at most: so many that its flush does not count, and so few that another
// process gets the write lock within milliseconds.
const mostEvents = 128

// writer is the one connection that writes, owned by one goroutine from newWriter to close.
type writer struct {
	db       *sql.DB
	conn     *connection
	now      func() time.Time
	patience time.Duration // how long a transaction waits for another process's write lock

	events  chan *event
	closing chan struct{} // closed: no event begins any more
	stopped chan struct{} // closed: the goroutine has ended, and has answered all that it ran
}

// event is one atomic change that somebody waits for.
type event struct {
	ctx  context.Context
	run  func(*transaction) error
	done chan struct{} // closed when the event has been answered: err and panicked are set

	// taken is set once: by the goroutine, which then runs the event, or by the caller, who then withdraws it.
	taken atomic.Bool

	err      error
	panicked any // what run panicked with, for the caller's own goroutine
}

// transaction is what an event works on: the state that all earlier events left.
type transaction struct {
	*connection
	now time.Time
}

// newWriter starts the goroutine, which close ends. It owns db from now on.
func newWriter(db *sql.DB, conn *connection, now func() time.Time, patience time.Duration) *writer {
	w := &writer{
		db: db, conn: conn, now: now, patience: patience,
		events:  make(chan *event, mostEvents),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go w.work()
	return w
}

// close waits for the commit under way. Events that it does not cover fail with [ErrClosed].
func (w *writer) close() error {
	close(w.closing)
	<-w.stopped
	return errors.Join(w.conn.close(), w.db.Close())
}

// write runs an event of m, and returns once it is committed. what names it in errors. When ctx ends first, an event that has
// not begun never will; one that has is waited for, which takes a commit, so that its caller learns the outcome.
func write[T any](ctx context.Context, m *Metadata, what string, run func(*transaction) (T, error)) (T, error) {
	var result, none T
	if m.looked != "" {
		return none, fmt.Errorf("sqlite: %s: %w", what, ErrReadOnly)
	}
	err := m.writer.do(ctx, func(tx *transaction) (err error) {
		result, err = run(tx)
		return err
	})
	if err != nil {
		return none, fmt.Errorf("sqlite: %s: %w", what, err)
	}
	return result, nil
}

// change is write for an event without a result.
func change(ctx context.Context, m *Metadata, what string, run func(*transaction) error) error {
	_, err := write(ctx, m, what, func(tx *transaction) (struct{}, error) { return struct{}{}, run(tx) })
	return err
}

// do hands an event to the goroutine and waits for its commit.
func (w *writer) do(ctx context.Context, run func(*transaction) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if isClosed(w.closing) {
		return ErrClosed
	}
	e := &event{ctx: ctx, run: run, done: make(chan struct{})}
	select {
	case w.events <- e:
	case <-w.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		if e.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		<-e.done
	case <-w.stopped:
		if e.taken.CompareAndSwap(false, true) {
			return ErrClosed
		}
		<-e.done // by the last commit
	}
	if e.panicked != nil {
		panic(e.panicked) //nolint:forbidigo // it was the caller's own function that did
	}
	return e.err
}

// work commits what waits, until close.
func (w *writer) work() {
	defer close(w.stopped)
	batch := make([]*event, 0, mostEvents)
	for {
		select {
		case <-w.closing:
			return
		case e := <-w.events:
			batch = w.waiting(append(batch[:0], e))
		}
		if err := w.commit(batch); err != nil {
			err = classify(err)
			for _, e := range batch {
				e.err = err // typed errors too: what they were drawn from was never committed
			}
		}
		for _, e := range batch {
			close(e.done)
		}
		clear(batch)
	}
}

// waiting adds to the batch what waits.
func (w *writer) waiting(batch []*event) []*event {
	for len(batch) < cap(batch) {
		select {
		case e := <-w.events:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// commit runs the batch in one transaction. When it fails, nothing of the batch has happened, or, if the commit itself
// failed, nobody knows.
func (w *writer) commit(batch []*event) error {
	if err := w.begin(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for _, e := range batch {
		if err := w.try(e); err != nil {
			return errors.Join(err, w.rollback())
		}
	}
	// Flushes the log, once for all.
	if _, err := w.conn.exec(`commit`); err != nil {
		return errors.Join(fmt.Errorf("commit: %w", err), w.rollback())
	}
	return nil
}

// begin takes the write lock, which other processes may hold.
func (w *writer) begin() error {
	err := patiently(w.patience, w.closing, func() error {
		_, err := w.conn.exec(`begin immediate`)
		return err
	})
	if err != nil && isClosed(w.closing) {
		return ErrClosed
	}
	return err
}

// patiently calls try until another process's lock is not in its way, its patience is at an end, or stop is closed.
// SQLite's own waiting sleeps up to 100 ms between two looks, in which time a busy process has released the lock and taken
// it again a hundred times: so nobody else would ever get it. Looking every millisecond or sooner, at random, hits the
// gaps.
func patiently(patience time.Duration, stop <-chan struct{}, try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if primaryCode(err) != codes.SQLITE_BUSY || time.Now().After(deadline) {
			return err
		}
		select {
		case <-stop:
			return err
		case <-time.After(time.Duration(rand.Int64N(int64(time.Millisecond)))):
		}
	}
}

// rollback ends a transaction that failed, unless SQLite has done so by itself.
func (w *writer) rollback() error {
	_, err := w.conn.exec(`rollback`)
	if primaryCode(err) == codes.SQLITE_ERROR { // no transaction is active
		return nil
	}
	return err
}

// try runs one event in a savepoint, and undoes it alone when it fails. It returns an error when the whole transaction
// has failed.
func (w *writer) try(e *event) error {
	if !e.taken.CompareAndSwap(false, true) {
		return nil // withdrawn
	}
	if e.err = e.ctx.Err(); e.err != nil {
		return nil //nolint:nilerr // the event is refused, the transaction goes on
	}
	if _, err := w.conn.exec(`savepoint event`); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	tx := &transaction{w.conn, w.now()}
	if e.runIn(tx); e.err == nil && e.panicked == nil {
		if _, err := w.conn.exec(`release event`); err != nil {
			return fmt.Errorf("release savepoint: %w", err)
		}
		return nil
	}
	if endsTransaction(e.err) {
		return e.err
	}
	if _, err := w.conn.exec(`rollback to event`); err != nil {
		return fmt.Errorf("roll back to savepoint: %w", err)
	}
	if _, err := w.conn.exec(`release event`); err != nil {
		return fmt.Errorf("release savepoint: %w", err)
	}
	return nil
}

// runIn runs the event and keeps its outcome. The functions that callers hand in may panic, which is theirs to see.
func (e *event) runIn(tx *transaction) {
	defer func() {
		if p := recover(); p != nil {
			e.panicked = p
		}
	}()
	e.err = e.run(tx)
}
