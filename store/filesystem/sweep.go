package filesystem

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// crashAge is the age at which a file that a call left behind cannot be one that is still written: no call lasts so long.
const crashAge = 24 * time.Hour

// sweep removes what crashes left and nothing else would ever find: temporary files, and tables of uploads that ended.
func (o *Objects) sweep(now time.Time) error {
	var failed error
	visit := func(dir string, clean func(name string) error) {
		err := o.files.names(o.join(dir), func(name string) {
			name = o.join(dir, name)
			found, err := o.files.stat(name)
			if err == nil && now.Sub(found.modified) > crashAge {
				err = clean(name)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
		})
		failed = errors.Join(failed, err)
	}
	visit("temp", o.files.remove)
	visit("staged", o.sweepTable)
	return failed
}

// sweepTable removes a table whose data is gone.
func (o *Objects) sweepTable(name string) error {
	upload, ok := strings.CutSuffix(name, partsMark)
	if !ok {
		return nil
	}
	if _, err := o.files.stat(upload + dataMark); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The Complete that renamed the data may not have synced the names yet: while the data can come back, so must its table.
	file, _, _ := strings.Cut(filepath.Base(upload), idMark)
	if key, ok := toKey(file); ok {
		folder, _ := o.object(key)
		if err := o.files.syncDir(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := o.files.syncDir(o.staged()); err != nil {
		return err
	}
	return o.files.remove(name)
}
