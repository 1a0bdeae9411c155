package memory

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ocikit/ocikit/store"
)

// multipart is an upload that was begun. Parts are kept apart, so the fence has nothing to protect here, and is obeyed all the
// same: what a test sees is what the strictest store would do.
type multipart struct {
	fence int64
	parts map[int32]stored
}

type stored struct {
	tag  string
	data []byte
}

// Begin implements [store.Objects].
func (o *Objects) Begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	if err := ctx.Err(); err != nil {
		return store.Multipart{}, fmt.Errorf("begin multipart upload of %s: %w", key, err)
	}
	if !key.Valid() {
		return store.Multipart{}, fmt.Errorf("begin multipart upload: invalid key %q", key)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	m := store.Multipart{Key: key, ID: store.NewID()}
	o.multipart[m] = &multipart{parts: map[int32]stored{}}
	return m, nil
}

// PutPart implements [store.Objects].
func (o *Objects) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	fail := func(err error) (store.Part, error) {
		return store.Part{}, fmt.Errorf("put part %d of %s: %w", part.Number, m.Key, err)
	}
	if part.Number < 1 || part.Number > o.limits.MaxParts || part.Size > o.limits.MaxPart {
		return fail(fmt.Errorf("number %d or size %d outside the limits", part.Number, part.Size))
	}
	data, err := read(ctx, r, part.Size)
	if err != nil {
		return fail(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	upload, ok := o.multipart[m]
	switch {
	case !ok:
		return fail(store.ErrMultipartUnknown)
	case fence < upload.fence:
		return fail(store.ErrFenced)
	}
	upload.fence = fence
	part.Tag = store.NewID()
	upload.parts[part.Number] = stored{tag: part.Tag, data: data}
	return part, nil
}

// Complete implements [store.Objects].
func (o *Objects) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	fail := func(err error) error { return fmt.Errorf("complete %s: %w", m.Key, err) }
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	parts = slices.SortedFunc(slices.Values(parts), func(a, b store.Part) int { return cmp.Compare(a.Number, b.Number) })
	o.mu.Lock()
	defer o.mu.Unlock()
	upload, ok := o.multipart[m]
	if !ok {
		if object, ok := o.objects[m.Key]; ok && object.size == total(parts) {
			return nil
		}
		return fail(store.ErrMultipartUnknown)
	}
	object := object{modified: o.now()}
	for i, part := range parts {
		stored, ok := upload.parts[part.Number]
		switch {
		case !ok || stored.tag != part.Tag:
			return fail(fmt.Errorf("part %d: %w", part.Number, store.ErrInvalidPart))
		case i < len(parts)-1 && (part.Size < o.limits.MinPart || o.limits.EqualParts && part.Size != parts[0].Size):
			return fail(fmt.Errorf("part %d of %d bytes may not be followed by another", part.Number, part.Size))
		}
		object.segments = append(object.segments, stored.data)
		object.size += int64(len(stored.data))
	}
	if object.size == 0 {
		return fail(fmt.Errorf("no parts: %w", store.ErrInvalidPart))
	}
	o.objects[m.Key] = object
	delete(o.multipart, m)
	return nil
}

func total(parts []store.Part) (size int64) {
	for _, part := range parts {
		size += part.Size
	}
	return size
}

// Abort implements [store.Objects].
func (o *Objects) Abort(ctx context.Context, m store.Multipart) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("abort %s: %w", m.Key, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.multipart, m)
	return nil
}

// Begun implements [store.Objects].
func (o *Objects) Begun(ctx context.Context, key store.Key) ([]store.Multipart, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list multipart uploads of %s: %w", key, err)
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	var begun []store.Multipart
	for m := range o.multipart {
		if m.Key == key {
			begun = append(begun, m)
		}
	}
	slices.SortFunc(begun, func(a, b store.Multipart) int { return strings.Compare(a.ID, b.ID) })
	return begun, nil
}
