package filesystem

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// files is what the store needs of a file system, so that tests can take the power away between any two operations.
// Names are absolute. Errors are those of package os.
type files interface {
	open(name string, flag int) (file, error) // of a regular file, as in os.OpenFile
	mkdir(name string) error
	rename(from, to string) error // replaces to
	remove(name string) error
	stat(name string) (info, error)
	names(dir string, visit func(name string)) error // in any order, in constant memory

	sync(f file) error         // all of the file, but not its name
	syncData(f file) error     // its bytes, and what it takes to read them
	syncDir(name string) error // the names in it

	tryLock(f file) (locked bool, err error) // against every other open file, in this process, too
	unlock(f file) error                     // closing does, too
}

// file is an open file.
type file interface {
	io.Reader
	io.ReaderAt
	io.WriterAt
	io.Seeker
	io.Closer
	Truncate(size int64) error
}

// info is what the store needs to know of a file.
type info struct {
	size     int64
	modified time.Time
}

// unsynced is a file system that syncs nothing.
type unsynced struct{ files }

func (unsynced) sync(file) error      { return nil }
func (unsynced) syncData(file) error  { return nil }
func (unsynced) syncDir(string) error { return nil }

// osFiles is the operating system's file system. Its files are *os.File, which io.Copy sends to a socket without a copy.
// What it makes is the user's own: a registry may hold what not everybody may read.
type osFiles struct{}

func (osFiles) open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err // not a nil *os.File, which would not be a nil file
	}
	return f, nil
}

func (osFiles) mkdir(name string) error      { return os.Mkdir(name, 0o700) }
func (osFiles) rename(from, to string) error { return os.Rename(from, to) }
func (osFiles) remove(name string) error     { return os.Remove(name) }

func (osFiles) stat(name string) (info, error) {
	found, err := os.Lstat(name)
	if err != nil {
		return info{}, err
	}
	return info{size: found.Size(), modified: found.ModTime()}, nil
}

func (osFiles) names(dir string, visit func(name string)) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(256)
		for _, name := range names {
			visit(name)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (osFiles) sync(f file) error            { return f.(*os.File).Sync() }
func (osFiles) syncData(f file) error        { return syncData(f.(*os.File)) }
func (osFiles) syncDir(name string) error    { return syncDir(name) }
func (osFiles) tryLock(f file) (bool, error) { return tryLock(f.(*os.File)) }
func (osFiles) unlock(f file) error          { return unlock(f.(*os.File)) }

// removeQuietly removes a file that may be missing.
func removeQuietly(files files, name string) error {
	if err := files.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
