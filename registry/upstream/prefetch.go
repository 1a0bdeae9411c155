package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// PrefetchOptions configures [Registry.Prefetch]. The zero value works, and nil too.
type PrefetchOptions struct {
	// Platforms selects the images of an index by "os/architecture" or "os/architecture/variant"; none select all, and each has to
	// be there. What has no platform, such as an attestation, comes with all and with none of them.
	Platforms []string

	// Progress is told whenever something has come, on several goroutines. nil: nobody is told.
	Progress func(Progress)
}

// Progress is how far a prefetch has come.
type Progress struct {
	Blobs, AllBlobs int   // that are here, and that are known to be needed
	Bytes, AllBytes int64 // the same
	Missing         int   // that an index lists, and the upstream does not have
}

// Bounds of what a prefetch follows.
const (
	maxDepth     = 8
	maxManifests = 10_000
	maxBlobs     = 200_000
	maxNamed     = 20 // platforms that an error names
	parallel     = 4
)

// Prefetch fetches an image, or all images of an index, with their blobs, and returns when they are kept. Blobs that are to be had
// elsewhere (with urls, and of a type that is not distributed) are left alone. What an index lists and the upstream does not have is
// logged and counted, unless it was selected by its platform. ErrManifestUnknown, and what else reading fails with.
func (r *Registry) Prefetch(ctx context.Context, repository string, ref registry.Reference, opts *PrefetchOptions) error {
	name, ok := r.options.Names.Upstream(repository)
	if !ok {
		return registry.ErrManifestUnknown.With("%s may not be pulled through", repository)
	}
	p := &prefetch{
		registry: r, repository: repository, name: name,
		seen: map[digest.Digest]bool{}, listed: map[digest.Digest]bool{}, platforms: map[string]bool{}, selected: map[string]bool{},
	}
	if opts != nil {
		p.options = *opts
	}
	if err := p.walk(ctx, ref, 0); err != nil {
		return err
	}
	if err := p.unmatched(); err != nil {
		return fmt.Errorf("prefetch %s: %w", ref, err)
	}
	if err := p.fill(ctx); err != nil {
		return err
	}
	if p.here.Load() == 0 && p.missing.Load() > 0 {
		return fmt.Errorf("prefetch %s: %w", ref, registry.ErrManifestUnknown.With("the upstream has nothing of what the index lists"))
	}
	return nil
}

// prefetch is one that is under way.
type prefetch struct {
	registry         *Registry
	repository, name string
	options          PrefetchOptions
	seen             map[digest.Digest]bool
	manifests        int
	entries          int
	blobs            []digest.Digest
	listed           map[digest.Digest]bool // blobs that may be missing: an index lists them
	platforms        map[string]bool        // that an index lists
	selected         map[string]bool        // of those that were asked for
	allBytes         int64
	came             atomic.Int64
	here             atomic.Int64
	missing          atomic.Int64
}

// reference is what a prefetch has to know of a descriptor.
type reference struct {
	MediaType string            `json:"mediaType"`
	Digest    digest.Digest     `json:"digest"`
	Size      int64             `json:"size"`
	URLs      []string          `json:"urls"`
	Platform  *ocispec.Platform `json:"platform"`
}

// hasPlatform reports whether it is for one; attestations are for one that is unknown.
func (r reference) hasPlatform() bool { return r.Platform != nil && r.Platform.OS != "unknown" }

// read reads a reference. One without a digest that content can have is none: in manifests of unknown types anything may stand.
func (p *prefetch) read(data []byte) (found reference, ok bool, err error) {
	if p.entries++; p.entries > maxBlobs+maxManifests {
		return found, false, errTooMuch
	}
	err = json.Unmarshal(data, &found)
	return found, err == nil && validDigest(found.Digest), nil
}

var errTooMuch = errors.New("more manifests or blobs than anybody needs in one another")

// walk fetches a manifest and those below it, and notes their blobs.
func (p *prefetch) walk(ctx context.Context, ref registry.Reference, depth int) error {
	if p.manifests++; depth > maxDepth || p.manifests > maxManifests {
		return fmt.Errorf("prefetch %s: %w", ref, errTooMuch)
	}
	manifest, err := p.registry.Manifest(ctx, p.repository, ref)
	if err != nil {
		return fmt.Errorf("prefetch %s: %w", ref, err)
	}
	p.seen[manifest.Digest] = true
	children, err := p.references(manifest.Bytes)
	if err != nil {
		return fmt.Errorf("prefetch %s: %w", ref, err)
	}
	for _, child := range children {
		if !p.selects(child) || p.seen[child.Digest] {
			continue
		}
		err := p.walk(ctx, registry.Reference{Digest: child.Digest}, depth+1)
		if errors.Is(err, registry.ErrManifestUnknown) && (len(p.options.Platforms) == 0 || !child.hasPlatform()) {
			p.absent(ctx, child)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// references notes the blobs that a manifest refers to, and returns what an index lists. What is none of both has neither.
func (p *prefetch) references(manifest []byte) (children []reference, err error) {
	var image struct {
		Config json.RawMessage `json:"config"`
	}
	if json.Unmarshal(manifest, &image) != nil {
		return nil, nil //nolint:nilerr // it is of a type that nobody knows
	}
	if config, ok, err := p.read(image.Config); err != nil {
		return nil, err
	} else if ok {
		p.need(config)
	}
	// Fields of another form than an image's or an index's are those of a type that nobody knows.
	add := func(key string, use func(reference)) error {
		var failed error
		_ = eachEntry(bytes.NewReader(manifest), key, func(data []byte) error {
			var found reference
			var ok bool
			if found, ok, failed = p.read(data); ok {
				use(found)
			}
			return failed
		})
		return failed
	}
	if err := add("layers", func(layer reference) {
		if !isElsewhere(layer) {
			p.need(layer)
		}
	}); err != nil {
		return nil, err
	}
	err = add("manifests", func(child reference) {
		child.URLs = nil
		children = append(children, child)
	})
	return children, err
}

// absent notes what an index lists and the upstream does not have as a manifest. It may be a blob; and indexes are sparse where only
// some of their images were copied.
func (p *prefetch) absent(ctx context.Context, child reference) {
	if slices.Contains(manifestTypes, child.MediaType) {
		p.lack(ctx, child.Digest)
		return
	}
	p.listed[child.Digest] = true
	p.need(child)
}

// lack tells of what the upstream does not have.
func (p *prefetch) lack(ctx context.Context, d digest.Digest) {
	p.missing.Add(1)
	p.registry.options.Logger.LogAttrs(ctx, slog.LevelWarn, "prefetched without what the upstream does not have",
		slog.String("upstream", p.registry.name), slog.String("repository", p.name), slog.String("digest", d.String()))
	p.tell()
}

// isElsewhere reports whether registries do not have a layer.
func isElsewhere(layer reference) bool {
	return len(layer.URLs) > 0 && (strings.Contains(layer.MediaType, ".nondistributable.") || strings.Contains(layer.MediaType, ".foreign."))
}

func (p *prefetch) need(blob reference) {
	if !p.seen[blob.Digest] {
		p.seen[blob.Digest] = true
		p.blobs = append(p.blobs, blob.Digest)
		p.allBytes += max(blob.Size, 0)
	}
}

// selects reports whether what an index lists is wanted.
func (p *prefetch) selects(child reference) bool {
	if len(p.options.Platforms) == 0 || !child.hasPlatform() {
		return true
	}
	platform := child.Platform
	names := []string{platform.OS + "/" + platform.Architecture}
	if platform.Variant != "" {
		names = append(names, names[0]+"/"+platform.Variant)
	}
	if len(p.platforms) < maxNamed {
		p.platforms[names[len(names)-1]] = true
	}
	selected := false
	for _, name := range names {
		if slices.Contains(p.options.Platforms, name) {
			selected, p.selected[name] = true, true
		}
	}
	return selected
}

// unmatched returns an error if a platform was asked for that no index lists, while there are others.
func (p *prefetch) unmatched() error {
	for _, wanted := range p.options.Platforms {
		if !p.selected[wanted] && len(p.platforms) > 0 {
			return fmt.Errorf("there is nothing for the platform %q: want one of %.200q", wanted, slices.Sorted(maps.Keys(p.platforms)))
		}
	}
	return nil
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
	for _, d := range p.blobs {
		todo <- d
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
	if errors.Is(err, registry.ErrBlobUnknown) && p.listed[d] {
		p.lack(ctx, d)
		return nil
	}
	if err != nil {
		return fmt.Errorf("prefetch %s: %w", d, err)
	}
	p.here.Add(1)
	p.tell()
	return nil
}

func (p *prefetch) tell() {
	if p.options.Progress != nil {
		p.options.Progress(Progress{int(p.here.Load()), len(p.blobs), p.came.Load(), p.allBytes, int(p.missing.Load())})
	}
}
