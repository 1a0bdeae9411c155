package sqlite

import (
	"errors"
	"io/fs"
	"os"

	codes "modernc.org/sqlite/lib"
)

// logOf is the name of the write-ahead log of the file at path.
func logOf(path string) string { return path + "-wal" }

// cannotLock reports whether a file could not be opened for reading because nothing can be made beside it, where those who write would see
// who reads, and nobody has. Whoever writes makes it: so nobody does.
func cannotLock(path string, err error) bool {
	switch primaryCode(err) {
	case codes.SQLITE_READONLY, codes.SQLITE_CANTOPEN:
		_, err := os.Lstat(logOf(path))
		return errors.Is(err, fs.ErrNotExist)
	}
	return false
}

// leaveNothing has SQLite delete the files beside the one at path that were made for reading it: connections that may not write leave
// them there, and those who write may not be allowed to open what belongs to whoever has looked. They stay if anybody uses them, or
// anything is in them.
func leaveNothing(path string) {
	if left, err := os.Lstat(logOf(path)); err != nil || left.Size() > 0 {
		return
	}
	db, err := newPool(path, "rw", Options{}, nil)
	if err != nil {
		return
	}
	_, _ = db.Exec(`select 1 from sqlite_master limit 1`) // the last one who has read, and may write, deletes them when it closes
	_ = db.Close()
}

func (m *Metadata) classify(err error) error {
	if m.looked != "" {
		return classifyLooking(err)
	}
	return classify(err)
}

// classifyLooking is classify for a file that is only read: that it cannot be written to does not pass.
func classifyLooking(err error) error {
	if primaryCode(err) == codes.SQLITE_READONLY {
		return err
	}
	return classify(err)
}
