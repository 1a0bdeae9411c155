package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// StatBlob implements [registry.Reader]. A blob that is not kept costs one HEAD upstream, and is not fetched.
func (r *Registry) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	upstream, ok := r.options.Names.Upstream(repository)
	if !ok || !validDigest(d) {
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
	if err == nil {
		r.observe(Event{Kind: KindBlob, Outcome: Passed})
	}
	return descriptor(d, size), err
}

// stat asks the upstream how large a blob is.
func (r *Registry) stat(ctx context.Context, name blobName) (int64, error) {
	began := time.Now()
	got, err := r.remote.ask(ctx, question{method: http.MethodHead, repository: name.repository, path: "blobs/" + name.digest.String()})
	if errors.Is(err, registry.ErrDenied) || refusesHEAD(err) { // a redirect to a URL that is signed for GET denies HEAD
		return r.statByRange(ctx, name, began)
	}
	if err != nil {
		return 0, r.blobError(ctx, name, began, err)
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
		return 0, r.blobError(ctx, name, began, err)
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
func (r *Registry) blobError(ctx context.Context, name blobName, began time.Time, err error) error {
	if errors.Is(err, errMissing) {
		r.remember(ctx, name.key(), registry.ErrBlobUnknown)
		r.observe(Event{Kind: KindBlob, Outcome: Missing})
		return fmt.Errorf("%w: %w", registry.ErrBlobUnknown, err)
	}
	if errors.Is(err, registry.ErrDenied) {
		r.remember(ctx, name.key(), denied)
	}
	r.observe(Event{Kind: KindBlob, Outcome: Failed, Took: time.Since(began), Err: err})
	return err
}

// exists returns an error if the upstream says that it does not have a blob, or does not give it.
func (r *Registry) exists(ctx context.Context, name blobName) error {
	_, err := fly(ctx, r, "stat "+name.key(), func(ctx context.Context) (int64, error) { return r.stat(ctx, name) })
	if errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrDenied) || ctx.Err() != nil {
		return err
	}
	return nil // GET may tell more
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
