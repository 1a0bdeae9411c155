package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/ocikit/ocikit/store"
)

// PutPart implements [store.Objects]. A part that is stored replaces whatever shares a byte with it, under any number.
// r is read under the upload's lock, so it should have its bytes at hand.
func (o *Objects) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	part.Tag = newTag()
	if err := o.putPart(ctx, m, fence, part, r); err != nil {
		return store.Part{}, fmt.Errorf("put part %d of object %q: %w", part.Number, m.Key, classify(err))
	}
	return part, nil
}

func (o *Objects) putPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) error {
	name, parts, ok := o.upload(m)
	switch {
	case !ok:
		return store.ErrMultipartUnknown
	case part.Number < 1 || part.Number > maxParts || part.Size < 1 || part.Size > maxPartSize:
		return fmt.Errorf("number %d or size %d outside the limits", part.Number, part.Size)
	case part.Offset < 0 || part.Offset > math.MaxInt64-part.Size:
		return fmt.Errorf("an offset of %d", part.Offset)
	}
	lock, err := o.lock(ctx, parts)
	if err != nil {
		return err
	}
	defer lock.Close()
	// The upload may have ended while the lock was waited for. As long as we have the lock, the file stays what it is.
	data, err := o.files.open(name, os.O_WRONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return store.ErrMultipartUnknown
	} else if err != nil {
		return err
	}
	defer data.Close()
	if err := o.writePart(ctx, lock, data, fence, part, r); err != nil {
		return err
	}
	// Others may write from here on. It is enough that both are durable before anybody learns the tag.
	if err := o.files.unlock(lock); err != nil {
		return err
	}
	if err := o.files.syncData(data); err != nil {
		return err
	}
	if err := o.files.syncData(lock); err != nil {
		return err
	}
	return data.Close()
}

// writePart writes a part and its record, both not synced yet.
func (o *Objects) writePart(ctx context.Context, lock, data file, fence int64, part store.Part, r io.ReadSeeker) error {
	t, err := openTable(lock)
	if err != nil {
		return err
	}
	last, err := t.last()
	switch {
	case err != nil:
		return err
	case fence < last.fence:
		return store.ErrFenced
	case part.Offset < last.end:
		last.end, err = o.strike(t, last, fence, part)
	case fence > last.fence:
		err = t.append(record{fence: fence, end: last.end}) // counts even if this call fails from here on
	}
	if err != nil {
		return err
	}
	if err := o.write(ctx, data, part.Offset, r, part.Size); err != nil {
		return err
	}
	return t.append(record{fence: fence, part: part, end: max(last.end, part.Offset+part.Size)})
}

// strike makes sure that no part that shares a byte with the given one is valid any more, durably, since its bytes are about
// to change. It returns where the last part ends after that.
func (o *Objects) strike(t *table, last record, fence int64, part store.Part) (end int64, err error) {
	valid, err := t.read()
	if err != nil {
		return 0, err
	}
	if !valid.strike(part) && fence == last.fence {
		return last.end, nil
	}
	struck := record{fence: fence, part: store.Part{Offset: part.Offset, Size: part.Size}, end: valid.end()}
	if err := t.append(struck); err != nil {
		return 0, err
	}
	return struck.end, o.files.syncData(t.file)
}
