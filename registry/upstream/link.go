package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/registry"
)

// Link makes a blob of the upstream visible in a repository of the same stores, for a manifest that refers to it: it is fetched
// first if it is not kept. ErrBlobUnknown if the upstream does not have it.
func (r *Registry) Link(ctx context.Context, repository string, d digest.Digest, to string) error {
	upstream, ok := r.options.Names.Upstream(repository)
	if !ok || !validDigest(d) {
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
		if now := r.current(name); now != nil { // to open it may have begun another one
			f = now
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

// counter tells how many bytes are written to it.
type counter struct{ came func(n int64) }

func (c counter) Write(p []byte) (int, error) {
	if c.came != nil {
		c.came(int64(len(p)))
	}
	return len(p), nil
}
