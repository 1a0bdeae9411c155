package filesystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/ocikit/ocikit/store"
)

// Complete implements [store.Objects]. It costs a rename and what is synced for it.
func (o *Objects) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	if err := o.complete(ctx, m, parts); err != nil {
		return fmt.Errorf("complete object %q: %w", m.Key, classify(err))
	}
	return nil
}

// complete can be interrupted anywhere and called again: the upload is unfinished until the rename, and finished after it.
func (o *Objects) complete(ctx context.Context, m store.Multipart, list []store.Part) error {
	data, parts, ok := o.upload(m)
	if !ok {
		return store.ErrMultipartUnknown
	}
	list = slices.SortedFunc(slices.Values(list), func(a, b store.Part) int { return cmp.Compare(a.Number, b.Number) })
	size, err := sizeOf(list)
	if err != nil {
		return err
	}
	folder, object := o.object(m.Key)
	switch err := o.finish(ctx, data, parts, object, list, size); {
	case errors.Is(err, store.ErrMultipartUnknown):
		// The upload ended. If it was not aborted, then somebody's answer was lost, maybe before the names were synced.
		if found, statErr := o.files.stat(object); statErr != nil || found.size != size {
			return err
		}
	case err != nil:
		return err
	}
	if err := o.files.syncDir(folder); err != nil {
		return err
	}
	if err := o.files.syncDir(o.staged()); err != nil {
		return err
	}
	// Only now, since the data cannot come back under its old name, without which it would need its table. Where an open file
	// cannot be removed, a writer that waits for its lock keeps it; New removes it later.
	_ = o.files.remove(parts)
	return nil
}

// sizeOf returns the size of all parts, which must be without gaps.
func sizeOf(list []store.Part) (size int64, err error) {
	var number int32
	for _, part := range list {
		if part.Number <= number || part.Offset != size || part.Size < 1 || part.Size > math.MaxInt64-size {
			return 0, fmt.Errorf("part %d at %d does not follow part %d, which ends at %d: %w", part.Number, part.Offset, number, size, store.ErrInvalidPart)
		}
		number, size = part.Number, size+part.Size
	}
	if size == 0 {
		return 0, fmt.Errorf("no parts: %w", store.ErrInvalidPart)
	}
	return size, nil
}

// finish turns the data into the object, under the upload's lock.
func (o *Objects) finish(ctx context.Context, data, parts, object string, list []store.Part, size int64) error {
	lock, err := o.lock(ctx, parts)
	if err != nil {
		return err
	}
	defer lock.Close()
	found, err := o.files.stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		return store.ErrMultipartUnknown
	} else if err != nil {
		return err
	}
	t, err := openTable(lock)
	if err != nil {
		return err
	}
	valid, err := t.read()
	if err != nil {
		return err
	}
	for _, part := range list {
		if !valid.has(part) {
			return fmt.Errorf("part %d: %w", part.Number, store.ErrInvalidPart)
		}
	}
	if found.size < size { // never after a sync
		return fmt.Errorf("%d of %d bytes are there: %w", found.size, size, store.ErrInvalidPart)
	}
	if found.size > size || valid.truncated {
		if err := o.truncate(t, valid.fence, data, size); err != nil {
			return err
		}
	}
	if err := o.makeDurableFolder(filepath.Dir(object)); err != nil {
		return err
	}
	if err := o.files.rename(data, object); err != nil {
		return err
	}
	// A power cut may have left both names. Renaming one onto the other does nothing then.
	return removeQuietly(o.files, data)
}

// truncate drops what was written after the last part that counts. Its parts are struck first: this Complete may fail after all,
// and another one must not take them for valid. The record also tells that other one that the file's size may not be durable.
func (o *Objects) truncate(t *table, fence int64, name string, size int64) error {
	if err := t.append(record{fence: fence, part: store.Part{Offset: size, Size: toTheEnd}, end: size}); err != nil {
		return err
	}
	if err := o.files.syncData(t.file); err != nil {
		return err
	}
	data, err := o.files.open(name, os.O_WRONLY)
	if err != nil {
		return err
	}
	if err = data.Truncate(size); err == nil {
		err = o.files.sync(data)
	}
	return errors.Join(err, data.Close())
}
