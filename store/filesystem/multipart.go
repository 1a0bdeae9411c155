package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/ocikit/ocikit/store"
)

// Begin implements [store.Objects]. An upload exists for as long as its data file has its name, so that file is made first, and
// is what Complete renames and Abort removes.
func (o *Objects) Begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	m := store.Multipart{Key: key, ID: store.NewID()}
	if err := o.begin(ctx, m); err != nil {
		return store.Multipart{}, fmt.Errorf("begin multipart upload of %q: %w", key, classify(err))
	}
	return m, nil
}

func (o *Objects) begin(ctx context.Context, m store.Multipart) error {
	data, parts, ok := o.upload(m)
	if !ok {
		return errKey
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := o.makeEmpty(data, parts)
	if err == nil {
		err = o.files.syncDir(o.staged())
	}
	if err != nil {
		return errors.Join(err, removeQuietly(o.files, data), removeQuietly(o.files, parts))
	}
	return nil
}

func (o *Objects) makeEmpty(names ...string) error {
	for _, name := range names {
		f, err := o.files.open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Abort implements [store.Objects].
func (o *Objects) Abort(ctx context.Context, m store.Multipart) error {
	data, parts, ok := o.upload(m)
	if !ok {
		return nil // nothing was ever begun there
	}
	if err := o.abort(ctx, data, parts); err != nil {
		return fmt.Errorf("abort multipart upload of %q: %w", m.Key, classify(err))
	}
	return nil
}

func (o *Objects) abort(ctx context.Context, data, parts string) error {
	lock, err := o.lock(ctx, parts)
	known := !errors.Is(err, store.ErrMultipartUnknown) // else completed, aborted, or a Begin that came no further than its data
	if err != nil && known {
		return err
	}
	err = o.files.remove(data)
	if known {
		err = errors.Join(err, lock.Close())
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// The table is not ours to remove: a Complete that still needs it may be under way, after its rename.
	case err != nil:
		return err
	default:
		_ = o.files.remove(parts) // where an open file cannot be removed, New removes it later
	}
	return o.files.syncDir(o.staged())
}

// Begun implements [store.Objects]. Its cost grows with the number of unfinished uploads of all keys.
func (o *Objects) Begun(ctx context.Context, key store.Key) ([]store.Multipart, error) {
	if !key.Valid() {
		return nil, fmt.Errorf("list multipart uploads of %q: %w", key, errKey)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list multipart uploads of %q: %w", key, err)
	}
	prefix := toName(string(key)) + idMark
	var begun []store.Multipart
	err := o.files.names(o.staged(), func(name string) {
		id, isKey := strings.CutPrefix(name, prefix)
		id, isData := strings.CutSuffix(id, dataMark)
		m := store.Multipart{Key: key, ID: id}
		if _, _, ok := o.upload(m); ok && isKey && isData {
			begun = append(begun, m)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list multipart uploads of %q: %w", key, classify(err))
	}
	slices.SortFunc(begun, func(a, b store.Multipart) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(begun, func(a, b store.Multipart) bool { return a == b }), nil
}
