package cas

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Options configures [New]. The zero value works.
type Options struct {
	InlineLimit int64         // bytes; the largest content that Put takes. Default 64 KiB; negative: only empty content
	Grace       time.Duration // how long content that nothing refers to is kept after it was asked for; default 24 h
}

// Store finds and keeps content by digest. Make one with [New]; it is safe for concurrent use.
type Store struct {
	index   store.Contents
	objects store.Objects
	options Options
}

// New returns a Store over the index and the objects. opts may be nil.
func New(index store.Contents, objects store.Objects, opts *Options) *Store {
	s := &Store{index: index, objects: objects}
	if opts != nil {
		s.options = *opts
	}
	if s.options.InlineLimit == 0 {
		s.options.InlineLimit = 64 << 10
	}
	if s.options.Grace == 0 {
		s.options.Grace = 24 * time.Hour
	}
	return s
}

// Fits reports whether content of that many bytes can be [Store.Put].
func (s *Store) Fits(size int64) bool { return size <= max(s.options.InlineLimit, 0) }

// Put keeps small content in the index itself, and links it to the repository: one transaction, no object. It fails with
// [*MismatchError] when data does not have the digest d, or with [ErrDigest]; nothing is kept then.
func (s *Store) Put(ctx context.Context, repository string, d digest.Digest, data []byte) error {
	if _, err := ParseDigest(string(d)); err != nil {
		return fmt.Errorf("put content: %w", err)
	}
	if !s.Fits(int64(len(data))) {
		return fmt.Errorf("put content: %d bytes are too many to keep inline", len(data))
	}
	if got := d.Algorithm().FromBytes(data); got != d {
		return fmt.Errorf("put content: %w", &MismatchError{Want: d, Got: got})
	}
	if err := s.index.PutContent(ctx, repository, store.Content{Digest: d, Size: int64(len(data)), Inline: data}); err != nil {
		return fmt.Errorf("put content: %w", err)
	}
	return nil
}

// Find locates content that the repository may read, with one query, and reads none of it. [store.ErrContentUnknown].
func (s *Store) Find(ctx context.Context, repository string, d digest.Digest) (Content, error) {
	found, err := s.index.Content(ctx, repository, d)
	if err != nil {
		return Content{}, fmt.Errorf("find content: %w", err)
	}
	return Content{Content: found, objects: s.objects}, nil
}

// Stat tells the size of content for somebody who will not upload it because it is here: it is kept for at least half
// of Options.Grace from now on. [store.ErrContentUnknown].
func (s *Store) Stat(ctx context.Context, repository string, d digest.Digest) (size int64, err error) {
	found, err := s.index.RenewContent(ctx, repository, d, s.options.Grace)
	if err != nil {
		return 0, fmt.Errorf("stat content: %w", err)
	}
	return found.Size, nil
}

// Content is content that was found.
type Content struct {
	store.Content
	objects store.Objects
}

// Open reads length bytes from offset on; -1 means up to the end, and a length that reaches past it is clipped. Inline
// content costs no request; any other, one. The caller closes the reader, which is an io.WriterTo where that saves a copy;
// reads fail when ctx ends. [store.ErrOutOfRange] when offset is past the end.
func (c Content) Open(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || offset > c.Size || length < -1 {
		return nil, fmt.Errorf("open content: %w", store.ErrOutOfRange)
	}
	if length < 0 || length > c.Size-offset {
		length = c.Size - offset
	}
	switch {
	case length == 0:
		return newInline(nil), nil
	case c.IsInline():
		return newInline(c.Inline[offset : offset+length]), nil
	}
	r, err := c.objects.Open(ctx, c.Key, offset, length)
	if err != nil {
		return nil, fmt.Errorf("open content: %w", err)
	}
	return r, nil
}

// Verify reads all of the content, and fails with [*MismatchError] when it does not have its digest any more.
func (c Content) Verify(ctx context.Context) error {
	r, err := c.Open(ctx, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := c.Digest.Algorithm().FromReader(r)
	if err != nil {
		return fmt.Errorf("verify content: %w", err)
	}
	if got != c.Digest {
		return fmt.Errorf("verify content: %w", &MismatchError{Want: c.Digest, Got: got})
	}
	return nil
}

// MismatchError says that bytes do not have the digest that they should have.
type MismatchError struct {
	Want digest.Digest
	Got  digest.Digest // "" if all that is known is that it is another
}

func (e *MismatchError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("content does not have digest %s", e.Want)
	}
	return fmt.Sprintf("content has digest %s, not %s", e.Got, e.Want)
}

// inline reads bytes of the index.
type inline struct{ *bytes.Reader }

func newInline(data []byte) inline { return inline{bytes.NewReader(data)} }

// Close does nothing.
func (inline) Close() error { return nil }
