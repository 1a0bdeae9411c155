package upstream

import (
	"context"
	"errors"

	"github.com/ocikit/ocikit/registry"
)

// sameContent returns a fetch of the same content for another repository, unless there is one for this repository.
func (r *Registry) sameContent(name blobName) *fetch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetches[name] != nil {
		return nil
	}
	for other, f := range r.fetches {
		if other.digest == name.digest && !f.alien[name.repository] {
			return f
		}
	}
	return nil
}

// share follows a fetch of another repository, once the upstream has said that this one has the content, too. If it cannot be followed,
// ok is false, and it is not offered for this repository again.
func (r *Registry) share(ctx context.Context, name blobName, f *fetch) (blob registry.Blob, ok bool, err error) {
	_, err = fly(ctx, r, "stat "+name.key(), func(ctx context.Context) (int64, error) { return r.stat(ctx, name) })
	switch {
	case errors.Is(err, registry.ErrBlobUnknown) || ctx.Err() != nil:
		return blob, false, err
	case err != nil || !f.again(): // GET may tell more; or it has ended, and may be kept
		f.refuse(name.repository)
		return blob, false, nil //nolint:nilerr // it is asked in another way
	}
	leave := f.leaveWith(ctx, false)
	err = f.start(ctx)
	if err == nil && f.isWhole() {
		r.observe(Event{Kind: KindBlob, Outcome: Followed})
		return r.onItsWay(name, f), true, nil
	}
	if err == nil {
		return r.late(name, f, func() error {
			f.refuse(name.repository)
			leave()
			return nil
		}), true, nil
	}
	f.refuse(name.repository)
	leave()
	return blob, false, ctx.Err() // that it failed there says nothing about this repository
}

// refuse remembers that a repository does not follow this fetch.
func (f *fetch) refuse(repository string) {
	r := f.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.alien == nil {
		f.alien = map[string]bool{}
	}
	f.alien[repository] = true
}
