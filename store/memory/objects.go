package memory

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ocikit/ocikit/store"
)

// ObjectsOptions configures [NewObjects]. The zero value works.
type ObjectsOptions struct {
	Limits store.Limits     // a field that is zero takes its default: parts of 1 byte to 1 GiB, preferably 4 MiB, a million of them
	Now    func() time.Time // the clock of Object.Modified; default time.Now
}

// Objects is a [store.Objects] in memory. Make one with [NewObjects].
type Objects struct {
	limits store.Limits
	now    func() time.Time

	mu        sync.RWMutex
	objects   map[store.Key]object
	multipart map[store.Multipart]*multipart
}

type object struct {
	segments [][]byte // never changed, so that readers need no lock; parts become an object without a copy
	size     int64
	modified time.Time
}

// NewObjects returns an empty store. opts may be nil.
func NewObjects(opts *ObjectsOptions) *Objects {
	if opts == nil {
		opts = &ObjectsOptions{}
	}
	o := &Objects{
		limits:    opts.Limits,
		now:       opts.Now,
		objects:   map[store.Key]object{},
		multipart: map[store.Multipart]*multipart{},
	}
	setDefault(&o.limits.MinPart, 1)
	setDefault(&o.limits.MaxPart, 1<<30)
	setDefault(&o.limits.PartSize, 4<<20)
	setDefault(&o.limits.MaxParts, 1_000_000)
	if o.now == nil {
		o.now = time.Now
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Limits implements [store.Objects].
func (o *Objects) Limits() store.Limits { return o.limits }

// Put implements [store.Objects].
func (o *Objects) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	if !key.Valid() {
		return fmt.Errorf("put object: invalid key %q", key)
	}
	data, err := read(ctx, r, size)
	if err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.objects[key] = object{segments: [][]byte{data}, size: size, modified: o.now()}
	return nil
}

// Open implements [store.Objects].
func (o *Objects) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open object %s: %w", key, err)
	}
	o.mu.RLock()
	object, ok := o.objects[key]
	o.mu.RUnlock()
	switch {
	case !ok:
		return nil, fmt.Errorf("open object %s: %w", key, store.ErrObjectUnknown)
	case offset < 0 || offset >= object.size || length == 0 || length < -1:
		return nil, fmt.Errorf("open object %s at %d for %d bytes: %w", key, offset, length, store.ErrOutOfRange)
	}
	if length < 0 || length > object.size-offset {
		length = object.size - offset
	}
	return &reader{ctx: ctx, segments: object.segments, skip: offset, left: length}, nil
}

// Delete implements [store.Objects].
func (o *Objects) Delete(ctx context.Context, keys []store.Key) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete objects: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		delete(o.objects, key)
	}
	return nil
}

// List implements [store.Objects].
func (o *Objects) List(ctx context.Context, prefix string, after store.Key, limit int) ([]store.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	var list []store.Object
	for _, key := range slices.Sorted(maps.Keys(o.objects)) {
		if key > after && strings.HasPrefix(string(key), prefix) && len(list) < limit {
			list = append(list, store.Object{Key: key, Size: o.objects[key].size, Modified: o.objects[key].modified})
		}
	}
	return list, nil
}

// read reads the size bytes that r holds from its start.
func read(ctx context.Context, r io.ReadSeeker, size int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if size < 1 {
		return nil, fmt.Errorf("a size of %d", size)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	return data, ctx.Err()
}

// reader reads left bytes of the segments, after the first skip. It is an io.WriterTo, so that no buffer is needed to send them.
type reader struct {
	ctx        context.Context
	segments   [][]byte
	skip, left int64
}

// next returns the bytes that come next, in one segment, without consuming them; none at the end.
func (r *reader) next() []byte {
	for r.left > 0 && r.skip >= int64(len(r.segments[0])) {
		r.skip -= int64(len(r.segments[0]))
		r.segments = r.segments[1:]
	}
	if r.left == 0 {
		return nil
	}
	segment := r.segments[0][r.skip:]
	return segment[:min(int64(len(segment)), r.left)]
}

func (r *reader) consume(n int) {
	r.skip += int64(n)
	r.left -= int64(n)
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.next())
	r.consume(n)
	return n, nil
}

func (r *reader) WriteTo(w io.Writer) (written int64, err error) {
	for r.left > 0 {
		if err := r.ctx.Err(); err != nil {
			return written, err
		}
		n, err := w.Write(r.next())
		written += int64(n)
		r.consume(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (r *reader) Close() error {
	r.left = 0
	return nil
}
