package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// PrefetchOptions configures [Registry.Prefetch]. The zero value works, and nil too.
type PrefetchOptions struct {
	// Platforms selects the images of an index by "os/architecture" or "os/architecture/variant"; none select all. What has no
	// platform, such as an attestation, comes with all and with none of them.
	Platforms []string

	// Progress is told whenever something has come, on several goroutines. nil: nobody is told.
	Progress func(Progress)
}

// Progress is how far a prefetch has come.
type Progress struct {
	Blobs, AllBlobs int   // that are here, and that are known to be needed
	Bytes, AllBytes int64 // the same
}

// Bounds of what a prefetch follows.
const (
	maxDepth     = 8
	maxManifests = 10_000
	maxBlobs     = 200_000
	parallel     = 4
)

// Prefetch fetches an image, or all images of an index, with their blobs, and returns when they are kept. Blobs that are to be had
// elsewhere (with urls, and of a type that is not distributed) are left alone. ErrManifestUnknown, and what else reading fails with.
func (r *Registry) Prefetch(ctx context.Context, repository string, ref registry.Reference, opts *PrefetchOptions) error {
	name, ok := r.options.Names.Upstream(repository)
	if !ok {
		return registry.ErrManifestUnknown.With("%s may not be pulled through", repository)
	}
	p := &prefetch{registry: r, repository: repository, name: name, seen: map[digest.Digest]bool{}}
	if opts != nil {
		p.options = *opts
	}
	if err := p.walk(ctx, ref, 0); err != nil {
		return err
	}
	return p.fill(ctx)
}

// prefetch is one that is under way.
type prefetch struct {
	registry         *Registry
	repository, name string
	options          PrefetchOptions
	seen             map[digest.Digest]bool
	manifests        int
	blobs            []ocispec.Descriptor
	allBytes         int64
	came             atomic.Int64
	here             atomic.Int64
}

// tree is what a manifest refers to.
type tree struct {
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

// walk fetches a manifest and those below it, and notes their blobs.
func (p *prefetch) walk(ctx context.Context, ref registry.Reference, depth int) error {
	if p.manifests++; depth > maxDepth || p.manifests > maxManifests || len(p.blobs) > maxBlobs {
		return fmt.Errorf("prefetch %s: more manifests or blobs than anybody needs in one another", ref)
	}
	manifest, err := p.registry.Manifest(ctx, p.repository, ref)
	if err != nil {
		return fmt.Errorf("prefetch %s: %w", ref, err)
	}
	p.seen[manifest.Digest] = true
	var t tree
	if err := json.Unmarshal(manifest.Bytes, &t); err != nil {
		return nil //nolint:nilerr // of a type that nobody knows
	}
	if t.Config != nil {
		p.need(*t.Config)
	}
	for _, layer := range t.Layers {
		if !isElsewhere(layer) {
			p.need(layer)
		}
	}
	for _, child := range t.Manifests {
		if p.seen[child.Digest] || !p.selects(child.Platform) {
			continue
		}
		err := p.walk(ctx, registry.Reference{Digest: child.Digest}, depth+1)
		if errors.Is(err, registry.ErrManifestUnknown) { // an index may list blobs, and what the upstream does not have
			p.need(child)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isElsewhere reports whether registries do not have a layer.
func isElsewhere(layer ocispec.Descriptor) bool {
	return len(layer.URLs) > 0 && (strings.Contains(layer.MediaType, ".nondistributable.") || strings.Contains(layer.MediaType, ".foreign."))
}

func (p *prefetch) need(blob ocispec.Descriptor) {
	if !p.seen[blob.Digest] && blob.Digest.Validate() == nil {
		p.seen[blob.Digest] = true
		p.blobs = append(p.blobs, blob)
		p.allBytes += max(blob.Size, 0)
	}
}

func (p *prefetch) selects(platform *ocispec.Platform) bool {
	if len(p.options.Platforms) == 0 || platform == nil || platform.OS == "unknown" {
		return true
	}
	name := platform.OS + "/" + platform.Architecture
	return slices.Contains(p.options.Platforms, name) || slices.Contains(p.options.Platforms, name+"/"+platform.Variant)
}

// fill fetches the blobs, some at a time.
func (p *prefetch) fill(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	todo := make(chan digest.Digest)
	errs := make(chan error, parallel)
	for range parallel {
		go func() {
			var failed error
			for d := range todo {
				if failed == nil {
					if failed = p.fetch(ctx, d); failed != nil {
						cancel()
					}
				}
			}
			errs <- failed
		}()
	}
	for _, blob := range p.blobs {
		todo <- blob.Digest
	}
	close(todo)
	var failed error
	for range parallel {
		if err := <-errs; err != nil && (failed == nil || errors.Is(failed, context.Canceled)) {
			failed = err
		}
	}
	return failed
}

func (p *prefetch) fetch(ctx context.Context, d digest.Digest) error {
	err := p.registry.fill(ctx, blobName{p.name, d}, func(n int64) {
		p.came.Add(n)
		p.tell()
	})
	if err != nil {
		return fmt.Errorf("prefetch %s: %w", d, err)
	}
	p.here.Add(1)
	p.tell()
	return nil
}

func (p *prefetch) tell() {
	if p.options.Progress != nil {
		p.options.Progress(Progress{int(p.here.Load()), len(p.blobs), p.came.Load(), p.allBytes})
	}
}
