package gc

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// evictions tells what a look at what is mirrored would evict. What its evictions would make way for is not told.
func (p *preview) evictions(ctx context.Context) error {
	if p.options.Eviction.Idle == 0 && p.options.Eviction.Budget == 0 {
		return nil
	}
	gone := map[store.ManifestAt]struct{}{}
	look := newEviction(p.meta, p.options.Eviction)
	look.evict = func(ctx context.Context, m mirrored, _ time.Duration, reason string) (int64, error) {
		gone[m.ManifestAt] = struct{}{}
		freed, err := p.freed(ctx, m.ManifestAt, gone)
		if err != nil {
			return 0, err
		}
		p.stats.Evicted++
		p.stats.EvictedBytes += freed
		return freed, p.tell(Finding{Kind: FindManifest, Repository: m.Repository, Digest: m.Digest, Size: freed, Reason: reason})
	}
	for {
		over, err := look.advance(ctx)
		if over || err != nil {
			return err
		}
	}
}

// freed adds up the contents of a manifest that no mirrored one would need any more.
func (p *preview) freed(ctx context.Context, at store.ManifestAt, gone map[store.ManifestAt]struct{}) (freed int64, err error) {
	found, err := p.meta.Manifest(ctx, at.Repository, store.ManifestRef{Digest: at.Digest})
	if err != nil {
		return 0, fmt.Errorf("look at manifest %s: %w", at.Digest, err)
	}
	for d, size := range contentsOf(found) {
		last, err := p.last(ctx, d, at, gone)
		if err != nil {
			return 0, err
		}
		if last {
			freed += size
		}
	}
	return freed, nil
}

// last reports whether a manifest is the last mirrored one that needs content that is here.
func (p *preview) last(ctx context.Context, d digest.Digest, at store.ManifestAt, gone map[store.ManifestAt]struct{}) (bool, error) {
	here, after := false, store.ManifestAt{Repository: beforeMirrors}
	for {
		page, err := p.meta.Dependents(ctx, d, after, referrers)
		if err != nil {
			return false, fmt.Errorf("manifests that need %s: %w", d, err)
		}
		for _, after = range page {
			if _, ok := gone[after]; !ok {
				return false, nil
			}
			here = here || after == at
		}
		if len(page) < referrers {
			return here, nil
		}
	}
}

// contentsOf returns the sizes of what a manifest is and refers to, as far as it tells.
func contentsOf(manifest store.Manifest) map[digest.Digest]int64 {
	var told struct {
		Config                   ocispec.Descriptor
		Layers, Manifests, Blobs []ocispec.Descriptor
	}
	sizes := map[digest.Digest]int64{}
	if json.Unmarshal(manifest.Bytes, &told) == nil {
		for _, list := range [][]ocispec.Descriptor{{told.Config}, told.Layers, told.Manifests, told.Blobs} {
			for i := range list {
				sizes[list[i].Digest] = list[i].Size
			}
		}
		delete(sizes, "")
	}
	sizes[manifest.Digest] = int64(len(manifest.Bytes))
	return sizes
}
