package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/ocikit/ocikit/store"
)

// Errors of this package. Those that a caller of [store.Metadata] decides on are in package store.
var (
	// ErrNewerVersion: the file was made by a newer version of the program. [Open] leaves it alone.
	ErrNewerVersion = errors.New("database is of a newer version")
	// ErrOlderVersion: the file was made by an earlier version of the program, and Options.ReadOnly leaves it so.
	ErrOlderVersion = errors.New("database is of an earlier version")
	// ErrReadOnly: the call would change something, and the file was opened with Options.ReadOnly. Nothing has changed.
	ErrReadOnly = errors.New("database is only read")
	// ErrClosed: the call came after Close, or Close came before the call's turn. Nothing has changed.
	ErrClosed = errors.New("database is closed")
)

// primaryCode returns SQLite's result code that err holds, without its extension, or SQLITE_OK if it holds none.
func primaryCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return codes.SQLITE_OK
}

// classify wraps what may pass by itself, or once an operator has made room, in [store.ErrUnavailable].
func classify(err error) error {
	switch primaryCode(err) {
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_PROTOCOL, codes.SQLITE_INTERRUPT, // other processes
		codes.SQLITE_FULL, codes.SQLITE_IOERR, codes.SQLITE_NOMEM, codes.SQLITE_CANTOPEN, // the machine
		codes.SQLITE_READONLY, codes.SQLITE_PERM: // the mount
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// endsTransaction reports whether SQLite may have rolled back the whole transaction together with the statement that
// failed. What merely concerns the statement's own values leaves the transaction as it was before the statement.
func endsTransaction(err error) bool {
	switch primaryCode(err) {
	case codes.SQLITE_OK, codes.SQLITE_CONSTRAINT, codes.SQLITE_TOOBIG, codes.SQLITE_MISMATCH:
		return false
	}
	return true
}
