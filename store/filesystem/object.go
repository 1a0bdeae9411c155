package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ocikit/ocikit/store"
)

// Put implements [store.Objects].
func (o *Objects) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	if err := o.put(ctx, key, r, size); err != nil {
		return fmt.Errorf("put object %q: %w", key, classify(err))
	}
	return nil
}

// put writes a file that nobody knows, and gives it its name when its bytes are durable.
func (o *Objects) put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	switch {
	case !key.Valid():
		return errKey
	case size < 1:
		return fmt.Errorf("a size of %d bytes", size)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	temp := o.newTemp()
	if err := o.writeTemp(ctx, temp, r, size); err != nil {
		return errors.Join(err, removeQuietly(o.files, temp))
	}
	folder, object := o.object(key)
	if err := o.makeDurableFolder(folder); err != nil {
		return errors.Join(err, o.files.remove(temp))
	}
	if err := o.files.rename(temp, object); err != nil {
		return errors.Join(err, o.files.remove(temp))
	}
	return o.files.syncDir(folder)
}

func (o *Objects) writeTemp(ctx context.Context, temp string, r io.ReadSeeker, size int64) error {
	f, err := o.files.open(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if err = o.write(ctx, f, 0, r, size); err == nil {
		err = o.files.syncData(f)
	}
	return errors.Join(err, f.Close())
}

// Delete implements [store.Objects]. A power cut may bring back what was deleted just before.
func (o *Objects) Delete(ctx context.Context, keys []store.Key) error {
	failed := map[store.Key]error{}
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete objects: %w", err)
		}
		if !key.Valid() {
			failed[key] = errKey
			continue
		}
		_, object := o.object(key)
		if err := removeQuietly(o.files, object); err != nil {
			failed[key] = classify(err)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("delete objects: %w", &store.DeleteError{Failed: failed})
	}
	return nil
}

// errKey refuses a key that could be any path.
var errKey = errors.New("invalid key")
