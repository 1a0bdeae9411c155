package upstream

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// Blob implements [registry.Reader]. One that is kept is read like any other of the store. Else this begins to fetch it, or joins whoever
// does; the fetch is held until ctx ends.
func (r *Registry) Blob(ctx context.Context, repository string, d digest.Digest) (registry.Blob, error) {
	name, ok := r.options.Names.Upstream(repository)
	if !ok || !validDigest(d) {
		return registry.Blob{}, registry.ErrBlobUnknown
	}
	return r.blob(ctx, blobName{name, d})
}

func (r *Registry) blob(ctx context.Context, name blobName) (registry.Blob, error) {
	for {
		kept, err := r.kept.Blob(ctx, r.keptName(name.repository), name.digest)
		if err == nil {
			r.observe(Event{Kind: KindBlob, Outcome: Kept})
			return r.readable(name, kept), nil
		}
		if err := r.absent(name.key()); err != nil {
			r.observe(Event{Kind: KindBlob, Outcome: Missing})
			return registry.Blob{}, err
		}
		if r.cause(ctx) != "" { // who has begun to fetch it may be waiting for this very request
			if err := r.exists(ctx, name); err != nil {
				return registry.Blob{}, err
			}
		}
		if errors.Is(err, registry.ErrBlobUnknown) {
			if adopted, err := r.adopt(ctx, name); adopted || err != nil {
				if err != nil {
					return registry.Blob{}, err
				}
				continue
			}
		}
		if other := r.sameContent(name); other != nil {
			if blob, ok, err := r.share(ctx, name, other); ok || err != nil {
				return blob, err
			}
			continue
		}
		f, first, err := r.join(ctx, name)
		if err != nil {
			return registry.Blob{}, err
		}
		leave := f.leaveWith(ctx, first)
		if err := f.start(ctx); err != nil {
			leave()
			if errors.Is(err, errKept) {
				continue
			}
			return registry.Blob{}, err
		}
		if !first && !f.isWhole() {
			return r.late(name, f, func() error {
				leave()
				return f.upstreams()
			}), nil
		}
		if !first {
			r.observe(Event{Kind: KindBlob, Outcome: Followed})
		}
		return r.onItsWay(name, f), nil
	}
}

func (n blobName) key() string { return n.repository + "@" + n.digest.String() }

func descriptor(d digest.Digest, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}
}

// readable returns a kept blob that is read from the upstream where the objects do not give it.
func (r *Registry) readable(name blobName, kept registry.Blob) registry.Blob {
	open := kept.Open
	kept.Open = func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		body, err := open(ctx, offset, length)
		if err == nil || ctx.Err() != nil {
			return body, err
		}
		r.notKept(ctx, name.key()+" can be read", err)
		end := kept.Size
		if length >= 0 {
			end = min(end, offset+length)
		}
		passed, failed := r.pass(ctx, name, offset, end, kept.Size, Event{Kind: KindBlob, Outcome: Unkept, Err: err})
		if failed != nil {
			return nil, errors.Join(err, failed)
		}
		return passed, nil
	}
	return kept
}

// onItsWay is the blob that a fetch brings.
func (r *Registry) onItsWay(name blobName, f *fetch) registry.Blob {
	return registry.Blob{
		Descriptor: descriptor(name.digest, f.size),
		Coming:     true,
		Open: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			return r.open(ctx, name, f, offset, length)
		},
	}
}

// late is a blob that is on its way, and not spooled, for others than whoever came first: they wait until it is kept. Who wants a part
// of it does not. ended is called when it has ended, and fails if there is no use in going on.
func (r *Registry) late(name blobName, f *fetch, ended func() error) registry.Blob {
	return registry.Blob{
		Descriptor: descriptor(name.digest, f.size),
		Coming:     true,
		Open: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			if offset > 0 || length >= 0 && length < f.size {
				return r.open(ctx, name, f, offset, length)
			}
			if err := errors.Join(f.wait(ctx), ended()); err != nil {
				return nil, err
			}
			return r.openAnew(ctx, name, offset, length)
		},
	}
}

// openAnew opens a blob whose fetch has ended, or has lost what is wanted: it may be kept by now.
func (r *Registry) openAnew(ctx context.Context, name blobName, offset, length int64) (io.ReadCloser, error) {
	blob, err := r.blob(ctx, name)
	if err != nil {
		return nil, err
	}
	return blob.Open(ctx, offset, length)
}

// open reads a part of a blob that is on its way.
func (r *Registry) open(ctx context.Context, name blobName, f *fetch, offset, length int64) (io.ReadCloser, error) {
	end := f.size
	if length >= 0 {
		end = min(f.size, offset+length)
	}
	reader, err := f.read(ctx, offset, end)
	switch {
	case errors.Is(err, errGone) && (f.hasEnded() || offset == 0 && end == f.size):
		return r.openAnew(ctx, name, offset, length)
	case reader != nil || err != nil && !errors.Is(err, errGone):
		return reader, err
	}
	return r.pass(ctx, name, offset, end, f.size, Event{Kind: KindBlob, Outcome: Passed})
}
