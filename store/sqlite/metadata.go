package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"

	"github.com/ocikit/ocikit/store"
)

// Options are what Open may be told. The zero value, and a nil pointer, are right for a registry that must not lose
// anything.
type Options struct {
	// NoSync does not wait for the disk. It is much faster, survives the end of the process, and after a power cut
	// the file may be damaged beyond use: for tests, and for what can be had again.
	NoSync bool

	// ReadOnly is for looking at what others work on: a file that is absent is not made, one of an earlier version is refused with
	// [ErrOlderVersion] rather than brought up to date, and calls that would change something fail with [ErrReadOnly]. The file keeps
	// every byte. It may be on media that cannot be written to: where no log can be made beside it, and there is none, it is taken
	// for a file that nobody writes to, and one who begins to do so makes what is read wrong.
	ReadOnly bool

	// BusyTimeout is how long a call waits for another process's lock before it fails with store.ErrUnavailable.
	// 0 means 5 s.
	BusyTimeout time.Duration

	// Now is the store's clock, for tests; it is called from any goroutine, and must not block. nil means time.Now.
	Now func() time.Time

	frozen bool // with ReadOnly: nobody can write to the file
}

// defaultBusyTimeout is far longer than any transaction of this package takes.
const defaultBusyTimeout = 5 * time.Second

// Metadata is the index in a SQLite file. It is safe for concurrent use, and so is the file by any number of processes.
type Metadata struct {
	writer *writer
	reader *reader
	now    func() time.Time
	looked string // the absolute path of a file that is only read

	closed sync.Once
	err    error // of closing
}

var _ store.Metadata = (*Metadata)(nil)

// Open opens the file at path, which it creates if it does not exist (its folder must), and brings its schema up to date. It
// fails with [ErrNewerVersion] when a newer version of the program has been there. options may be nil.
// The caller closes what it returns.
func Open(path string, options *Options) (*Metadata, error) {
	m, err := open(context.Background(), path, options)
	if err != nil {
		if options == nil || !options.ReadOnly {
			err = classify(err)
		} else {
			err = classifyLooking(err)
		}
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	return m, nil
}

func open(ctx context.Context, path string, options *Options) (*Metadata, error) {
	var o Options
	if options != nil {
		o = *options
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.BusyTimeout <= 0 {
		o.BusyTimeout = defaultBusyTimeout
	}
	writer, err := openWriter(ctx, path, o)
	if o.frozen = o.ReadOnly && cannotLock(path, err); o.frozen {
		writer, err = openWriter(ctx, path, o)
	}
	if err != nil {
		return nil, err
	}
	// The writer has made the file what it should be. Readers share the machine's cores; beyond sixteen their caches, 2 MiB
	// each, are dearer than the waiting.
	reader, err := openReader(ctx, path, o, min(max(4, runtime.NumCPU()), 16))
	if err != nil {
		return nil, errors.Join(err, writer.close())
	}
	m := &Metadata{writer: writer, reader: reader, now: o.Now}
	if o.ReadOnly {
		m.looked, err = filepath.Abs(path)
	}
	return m, err
}

// Close ends the goroutine that writes and closes the file. A commit that is under way is finished and answered; what still
// waits, and every later call, fails with [ErrClosed]. It may be called again.
func (m *Metadata) Close() error {
	m.closed.Do(func() {
		// The writer is the last, since the last connection empties the log into the file.
		if err := errors.Join(m.reader.close(), m.writer.close()); err != nil {
			m.err = fmt.Errorf("sqlite: close: %w", err)
		}
		if m.looked != "" {
			leaveNothing(m.looked)
		}
	})
	return m.err
}

func openWriter(ctx context.Context, path string, o Options) (*writer, error) {
	db, err := openPool(path, o, writerPragmas(o)...)
	if err != nil {
		return nil, err
	}
	// Processes that open a new file at the same time get into each other's way, in a manner that SQLite does not wait for.
	if err := patiently(o.BusyTimeout, ctx.Done(), func() error { return prepare(ctx, db, o) }); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate: %w", err), db.Close())
	}
	conn, err := connect(ctx, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	// From here on writer.begin does the waiting.
	if _, err := conn.exec(`pragma busy_timeout = 0`); err != nil {
		return nil, errors.Join(err, conn.close(), db.Close())
	}
	return newWriter(db, conn, o.Now, o.BusyTimeout), nil
}

func writerPragmas(o Options) []string {
	if o.ReadOnly {
		return []string{"query_only(1)"} // the journal's mode is in the file: to say which one would change it
	}
	synchronous := "synchronous(full)" // flush the log in every commit
	if o.NoSync {
		synchronous = "synchronous(off)"
	}
	return []string{
		"journal_mode(wal)", synchronous, "fullfsync(1)", "checkpoint_fullfsync(1)",
		"cache_size(-16384)",           // KiB
		"temp_store(memory)",           // what savepoints would put into a file
		"wal_autocheckpoint(4000)",     // pages
		"journal_size_limit(67108864)", // bytes; a log that has grown beyond gives the rest back
	}
}

func openReader(ctx context.Context, path string, o Options, connections int) (*reader, error) {
	db, err := openPool(path, o, "query_only(1)")
	if err != nil {
		return nil, err
	}
	return newReader(ctx, db, connections)
}

// create makes the file, if it is not there, readable by its owner alone: manifests and small blobs are in it, which may not
// be for everybody on the machine. SQLite gives the files beside it the same mode.
func create(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// openPool returns a pool whose connections all have the pragmas. It opens none yet.
func openPool(path string, o Options, pragmas ...string) (*sql.DB, error) {
	if path == "" || path == ":memory:" {
		return nil, errors.New("a file is needed: connections to a database in memory share nothing")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	mode := "rw"
	if !o.ReadOnly {
		err = create(path)
	} else {
		mode = "ro"
		_, err = os.Stat(path)
	}
	if err != nil {
		return nil, err
	}
	return newPool(path, mode, o, pragmas)
}

// newPool returns a pool of a file that is there.
func newPool(path, mode string, o Options, pragmas []string) (*sql.DB, error) {
	// As a URI with an absolute path nothing in the name means something to SQLite.
	file := filepath.ToSlash(path)
	if !strings.HasPrefix(file, "/") {
		file = "/" + file // C:/…
	}
	query := url.Values{
		"mode":    {mode},
		"_txlock": {"immediate"},
		"_pragma": append(pragmas, "foreign_keys(1)", fmt.Sprintf("busy_timeout(%d)", o.BusyTimeout.Milliseconds())),
	}
	if o.frozen {
		query.Set("immutable", "1")
	}
	connector, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: file, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}
