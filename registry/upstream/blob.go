package upstream

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// Blob implements [registry.Reader]. One that is kept is read like any other of the store. Else this begins to fetch it, or joins whoever
// does; the fetch is held until ctx ends.
func (r *Registry) Blob(ctx context.Context, repository string, d digest.Digest) (registry.Blob, error) {
	name, ok := r.options.Names.Upstream(repository)
	if !ok {
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
		if errors.Is(err, registry.ErrBlobUnknown) {
			if adopted, err := r.adopt(ctx, name); adopted || err != nil {
				if err != nil {
					return registry.Blob{}, err
				}
				continue
			}
		}
		f, first, err := r.join(name)
		if err != nil {
			return registry.Blob{}, err
		}
		leave := context.AfterFunc(ctx, func() { f.leave(first) })
		if err := f.start(ctx); err != nil {
			if leave() {
				f.leave(first)
			}
			if errors.Is(err, errKept) {
				continue
			}
			return registry.Blob{}, err
		}
		if f.pipe != nil && !first { // what is not spooled is for whoever came first: the others wait until it is kept
			err := f.wait(ctx)
			if leave() {
				f.leave(first)
			}
			if err != nil {
				return registry.Blob{}, err
			}
			continue
		}
		if !first {
			r.observe(Event{Kind: KindBlob, Outcome: Followed})
		}
		return registry.Blob{
			Descriptor: descriptor(name.digest, f.size),
			Open: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
				return r.open(ctx, f, offset, length)
			},
		}, nil
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

// open reads a part of a blob that is on its way.
func (r *Registry) open(ctx context.Context, f *fetch, offset, length int64) (io.ReadCloser, error) {
	end := f.size
	if length >= 0 {
		end = min(f.size, offset+length)
	}
	reader, err := f.read(ctx, offset, end)
	switch {
	case errors.Is(err, errGone): // the caller has waited for long; it may be kept by now
		blob, err := r.blob(ctx, f.name)
		if err != nil {
			return nil, err
		}
		return blob.Open(ctx, offset, length)
	case reader != nil || err != nil:
		return reader, err
	}
	return r.pass(ctx, f.name, offset, end, f.size, Event{Kind: KindBlob, Outcome: Passed})
}

// pass returns a part of a blob from the upstream as it comes: what is far ahead of the fetch is not worth waiting for. If it is all of
// it, its digest is checked before the end is shown; nobody can check a part.
func (r *Registry) pass(ctx context.Context, name blobName, offset, end, size int64, event Event) (io.ReadCloser, error) {
	if offset == end {
		return http.NoBody, nil
	}
	got, err := r.part(ctx, name, offset, end)
	if err != nil {
		return nil, err
	}
	event.Bytes = end - offset
	r.observe(event)
	body := &exact{ReadCloser: got.body, left: end - offset, digest: name.digest}
	if offset == 0 && end == size {
		body.sum = name.digest.Algorithm().Hash()
	}
	return body, nil
}

// part asks the upstream for the bytes from offset to end.
func (r *Registry) part(ctx context.Context, name blobName, offset, end int64) (*answer, error) {
	got, err := r.remote.ask(ctx, question{
		method: http.MethodGet, repository: name.repository, path: "blobs/" + name.digest.String(),
		header: http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", offset, end-1)}},
	})
	if err != nil {
		return nil, err
	}
	if got.StatusCode == http.StatusPartialContent && !strings.HasPrefix(got.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/", offset, end-1)) ||
		got.StatusCode == http.StatusOK && offset > 0 {
		got.close()
		return nil, wrong("another range than it was asked for")
	}
	return got, nil
}

// exact is a body that has to have so many bytes, of which no more are read, and a digest if that can be told.
type exact struct {
	io.ReadCloser
	left   int64
	digest digest.Digest
	sum    hash.Hash // nil: it is a part
}

// Read implements [io.Reader].
func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.ReadCloser.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if e.sum != nil {
		e.sum.Write(p[:n])
		if e.left == 0 && digest.NewDigest(e.digest.Algorithm(), e.sum) != e.digest {
			return 0, wrong("content that does not have the digest %s", e.digest)
		}
	}
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// StatBlob implements [registry.Reader]. A blob that is not kept costs one HEAD upstream, and is not fetched.
func (r *Registry) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	upstream, ok := r.options.Names.Upstream(repository)
	if !ok {
		return ocispec.Descriptor{}, registry.ErrBlobUnknown
	}
	name := blobName{upstream, d}
	if found, err := r.kept.StatBlob(ctx, r.keptName(upstream), d); err == nil {
		r.observe(Event{Kind: KindBlob, Outcome: Kept})
		return found, nil
	}
	if size, ok := r.coming(name); ok {
		r.observe(Event{Kind: KindBlob, Outcome: Followed})
		return descriptor(d, size), nil
	}
	if err := r.absent(name.key()); err != nil {
		r.observe(Event{Kind: KindBlob, Outcome: Missing})
		return ocispec.Descriptor{}, err
	}
	size, err := fly(ctx, r, "stat "+name.key(), func(ctx context.Context) (int64, error) { return r.stat(ctx, name) })
	return descriptor(d, size), err
}

// stat asks the upstream how large a blob is.
func (r *Registry) stat(ctx context.Context, name blobName) (int64, error) {
	began := time.Now()
	got, err := r.remote.ask(ctx, question{method: http.MethodHead, repository: name.repository, path: "blobs/" + name.digest.String()})
	if errors.Is(err, registry.ErrDenied) { // a redirect to a URL that is signed for GET refuses HEAD
		return r.statByRange(ctx, name, began)
	}
	if err != nil {
		return 0, r.blobError(name, began, err)
	}
	got.close()
	return length(got.Header.Get("Content-Length"))
}

// statByRange asks for the first byte, with which the whole size is told.
func (r *Registry) statByRange(ctx context.Context, name blobName, began time.Time) (int64, error) {
	got, err := r.remote.ask(ctx, question{
		method: http.MethodGet, repository: name.repository, path: "blobs/" + name.digest.String(), header: http.Header{"Range": {"bytes=0-0"}},
	})
	if err != nil {
		return 0, r.blobError(name, began, err)
	}
	got.close()
	if got.StatusCode == http.StatusOK {
		return length(got.Header.Get("Content-Length"))
	}
	_, total, _ := strings.Cut(got.Header.Get("Content-Range"), "/")
	return length(total)
}

func length(text string) (int64, error) {
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil || size < 0 {
		return 0, wrong("a blob without its length")
	}
	return size, nil
}

// blobError returns what an answer means for who wants a blob, and tells of it.
func (r *Registry) blobError(name blobName, began time.Time, err error) error {
	if errors.Is(err, errMissing) {
		r.remember(name.key(), registry.ErrBlobUnknown)
		r.observe(Event{Kind: KindBlob, Outcome: Missing})
		return fmt.Errorf("%w: %w", registry.ErrBlobUnknown, err)
	}
	if errors.Is(err, registry.ErrDenied) {
		r.remember(name.key(), denied)
	}
	r.observe(Event{Kind: KindBlob, Outcome: Failed, Took: time.Since(began), Err: err})
	return err
}

// adopt makes a blob visible that is kept already, for another repository of the upstream, once that has said that this one has it, too.
// So a layer that many images share comes once.
func (r *Registry) adopt(ctx context.Context, name blobName) (bool, error) {
	holder, ok := r.holder(ctx, name.digest)
	if !ok {
		return false, nil
	}
	_, err := fly(ctx, r, "stat "+name.key(), func(ctx context.Context) (int64, error) { return r.stat(ctx, name) })
	switch {
	case errors.Is(err, registry.ErrBlobUnknown) || ctx.Err() != nil:
		return false, err
	case err != nil:
		return false, nil //nolint:nilerr // GET may tell more
	}
	if _, err := r.kept.Mount(ctx, name.digest, holder, r.keptName(name.repository)); err != nil {
		return false, nil //nolint:nilerr // it has gone meanwhile
	}
	return true, nil
}

// holder returns a repository of the same upstream that has a blob. No other one counts: an upstream that says it has what it has not
// would otherwise make visible what somebody pushed, or another upstream has, to whoever knows its digest.
func (r *Registry) holder(ctx context.Context, d digest.Digest) (string, bool) {
	holders, err := r.meta.Holders(ctx, d, r.prefix, 1)
	if err != nil || len(holders) == 0 || !strings.HasPrefix(holders[0], r.prefix) {
		return "", false
	}
	return holders[0], true
}

// Link makes a blob of the upstream visible in a repository of the same stores, for a manifest that refers to it: it is fetched
// first if it is not kept. ErrBlobUnknown if the upstream does not have it.
func (r *Registry) Link(ctx context.Context, repository string, d digest.Digest, to string) error {
	upstream, ok := r.options.Names.Upstream(repository)
	if !ok {
		return registry.ErrBlobUnknown
	}
	if err := r.fill(ctx, blobName{upstream, d}, nil); err != nil {
		return err
	}
	_, err := r.kept.Mount(ctx, d, r.keptName(upstream), to)
	return err
}

// fill waits until a blob is kept, and tells of the bytes that come. It fails if it cannot be kept.
func (r *Registry) fill(ctx context.Context, name blobName, came func(n int64)) error {
	ctx, cancel := context.WithCancel(ctx) // lets go of the fetch
	defer cancel()
	for range 3 { // another replica may be fetching, or have just failed to
		if found, err := r.kept.StatBlob(ctx, r.keptName(name.repository), name.digest); err == nil {
			if came != nil {
				came(found.Size)
			}
			return nil
		}
		blob, err := r.blob(ctx, name)
		if err != nil {
			return err
		}
		f := r.current(name)
		body, err := blob.Open(ctx, 0, -1)
		if err != nil {
			return err
		}
		_, err = io.Copy(counter{came}, body)
		err = errors.Join(err, body.Close())
		if err != nil {
			return fmt.Errorf("fetch %s: %w", name.digest, err)
		}
		if f != nil {
			if err := f.wait(ctx); err != nil {
				return err
			}
			if f.unkept != nil {
				return fmt.Errorf("%s came, but is not kept: %w", name.digest, f.unkept)
			}
		}
		came = nil // what comes again is not told again
	}
	if _, err := r.kept.StatBlob(ctx, r.keptName(name.repository), name.digest); err != nil {
		return fmt.Errorf("%s came, but is not kept: %w", name.digest, err)
	}
	return nil
}

// coming returns the size of a blob that is on its way.
func (r *Registry) coming(name blobName) (int64, bool) {
	f := r.current(name)
	if f == nil {
		return 0, false
	}
	select {
	case <-f.began:
		return f.size, f.failure() == nil
	default:
		return 0, false
	}
}

func (r *Registry) current(name blobName) *fetch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetches[name]
}

// counter tells how many bytes are written to it.
type counter struct{ came func(n int64) }

func (c counter) Write(p []byte) (int, error) {
	if c.came != nil {
		c.came(int64(len(p)))
	}
	return len(p), nil
}
