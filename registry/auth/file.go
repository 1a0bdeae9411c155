package auth

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxFile is the largest file that is read, in bytes: a hundred thousand users.
	maxFile = 8 << 20

	// settles is how old a file must be before its modification time tells of every change. A younger one can change again
	// without looking different, since file systems keep times no finer than 2 s (FAT).
	settles = 2 * time.Second
)

// file is the value of a text file. Every use looks whether the file has changed, and reads it again if so: what it says is in
// force with the next request, on every replica that sees it. A change that cannot be read or parsed leaves the last good
// value in force, so that a mistake locks nobody out and lets nobody in.
type file[T any] struct {
	path   string
	parse  func(text []byte) (T, error)
	logger *slog.Logger

	latest atomic.Pointer[reading[T]]
	mu     sync.Mutex // held while reading the file
	logged string     // the problem that was, so that it is logged once; guarded by mu
}

// reading is what came of reading the file once.
type reading[T any] struct {
	value   T           // of the last text that was good
	text    []byte      // that was read, good or not; nil if none could be
	problem error       // with text
	info    os.FileInfo // of the file as it was read; nil if it could not be
	settled bool        // info tells of every change from here on
}

// openFile reads and parses a file. logger may be nil.
func openFile[T any](path string, logger *slog.Logger, parse func([]byte) (T, error)) (*file[T], error) {
	if logger == nil {
		logger = slog.Default()
	}
	f := &file[T]{path: path, parse: parse, logger: logger}
	latest, err := f.read(&reading[T]{})
	if err != nil {
		return nil, err
	}
	f.latest.Store(latest)
	return f, nil
}

// value returns what the file says now, or said when it was last good.
func (f *file[T]) value() T {
	latest := f.latest.Load()
	if latest.current(f.path) {
		return latest.value
	}
	f.mu.Lock() // the others wait: who asks after the file has changed sees the change
	defer f.mu.Unlock()
	latest = f.latest.Load()
	if latest.current(f.path) {
		return latest.value
	}
	next, err := f.read(latest)
	f.latest.Store(next)
	f.report(err, !bytes.Equal(next.text, latest.text))
	return next.value
}

// current reports whether the file is still the one that was read.
func (r *reading[T]) current(path string) bool {
	if r.info == nil || !r.settled {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, r.info) && info.ModTime().Equal(r.info.ModTime()) && info.Size() == r.info.Size()
}

// read reads the file. With an error, what it returns keeps last's value.
func (f *file[T]) read(last *reading[T]) (*reading[T], error) {
	next := &reading[T]{value: last.value}
	text, info, err := readFile(f.path)
	if err != nil {
		return next, err
	}
	age := time.Since(info.ModTime())
	next.text, next.info = text, info
	next.settled = age > settles || age < -settles // from a clock that is ahead: it would not get old for long
	if last.text != nil && bytes.Equal(text, last.text) {
		next.problem = last.problem
		return next, next.problem
	}
	value, err := f.parse(text)
	if err != nil {
		next.problem = fmt.Errorf("%s: %w", f.path, err)
		return next, next.problem
	}
	next.value = value
	return next, nil
}

// report logs, once each, a problem, its end, and a change.
func (f *file[T]) report(err error, changed bool) {
	switch {
	case err != nil && err.Error() != f.logged:
		f.logged = err.Error()
		f.logger.Error("file not read again, what it said before stays in force", "error", err)
	case err == nil && (changed || f.logged != ""):
		f.logged = ""
		f.logger.Info("file read again", "path", f.path)
	}
}

// readFile returns the text of a regular file, and what described the file before it was read.
func readFile(path string) ([]byte, os.FileInfo, error) {
	info, err := os.Stat(path) // before it is opened, which waits if it is a pipe
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: not a regular file, so it could not be read again when it changes", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, nil, fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return text, info, nil
}
