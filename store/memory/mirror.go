package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Mirror = (*Metadata)(nil)

// fetch is a claim to fetch content.
type fetch struct {
	holder string
	until  time.Time
}

// MirroredTag implements [store.Mirror].
func (m *Metadata) MirroredTag(ctx context.Context, repository, tag string) (found store.MirroredTag, err error) {
	err = m.look(ctx, "find mirrored tag", func() error {
		r, ok := m.repositories[repository]
		if !ok || r.tags[tag] == nil {
			return store.ErrManifestUnknown
		}
		t := r.tags[tag]
		found = store.MirroredTag{Manifest: r.manifests[t.digest].Manifest, Age: m.now().Sub(t.pushed)}
		return nil
	})
	return found, err
}

// ConfirmTag implements [store.Mirror].
func (m *Metadata) ConfirmTag(ctx context.Context, repository, tag string, d digest.Digest) error {
	return m.change(ctx, "confirm tag", func(now time.Time) error {
		r, ok := m.repositories[repository]
		if !ok || r.tags[tag] == nil || r.tags[tag].digest != d {
			return store.ErrManifestUnknown
		}
		r.tags[tag].pushed = now
		return nil
	})
}

// ClaimFetch implements [store.Mirror].
func (m *Metadata) ClaimFetch(ctx context.Context, d digest.Digest, holder string, life time.Duration) (claimed bool, err error) {
	err = m.change(ctx, "claim fetch", func(now time.Time) error {
		maps.DeleteFunc(m.fetches, func(_ digest.Digest, f fetch) bool { return !f.until.After(now) })
		if f, ok := m.fetches[d]; ok && f.holder != holder {
			return nil
		}
		m.fetches[d] = fetch{holder, now.Add(life)}
		claimed = true
		return nil
	})
	return claimed, err
}

// ReleaseFetch implements [store.Mirror].
func (m *Metadata) ReleaseFetch(ctx context.Context, d digest.Digest, holder string) error {
	return m.change(ctx, "release fetch", func(time.Time) error {
		if m.fetches[d].holder == holder {
			delete(m.fetches, d)
		}
		return nil
	})
}

// MirroredSize implements [store.Mirror].
func (m *Metadata) MirroredSize(ctx context.Context, after store.ManifestAt, limit int) (found store.MirroredPage, err error) {
	err = m.look(ctx, "add up what is mirrored", func() error {
		found = store.MirroredPage{Last: after, Done: true}
		for _, name := range sortedKeys(m.repositories) {
			if !store.IsMirror(name) || name < after.Repository {
				continue
			}
			var from digest.Digest
			if name == after.Repository {
				from = after.Digest
			}
			r := m.repositories[name]
			for _, d := range page(sortedKeys(r.links), from, len(r.links)) {
				if limit--; limit < 0 {
					found.Done = false
					return nil
				}
				found.Last = store.ManifestAt{Repository: name, Digest: d}
				if r.needs(d) && !m.mirrored(d, func(other string) bool { return other < name }) {
					found.Contents++
					found.Bytes += m.contents[d].Size
				}
			}
		}
		return nil
	})
	return found, err
}

// mirrored reports whether a manifest of a mirrored repository of which that is asked refers to content, or is it.
func (m *Metadata) mirrored(d digest.Digest, in func(name string) bool) bool {
	for name := range m.holders[d] {
		if store.IsMirror(name) && in(name) && m.repositories[name].needs(d) {
			return true
		}
	}
	return false
}

// EvictManifest implements [store.Mirror].
func (m *Metadata) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (freed int64, err error) {
	err = m.change(ctx, "evict manifest", func(now time.Time) error {
		var contents []digest.Digest // that it is, or refers to, and that are here
		err := m.deleteManifest(now, eviction.Repository, eviction.Digest, func(r *repository, entry *manifest) error {
			if !store.IsMirror(eviction.Repository) || !quiet(now, eviction.Quiet, entry.pushed, entry.pulled) {
				return store.ErrConditionFailed
			}
			contents = append(contents, entry.Digest)
			for _, ref := range entry.references {
				if _, here := r.links[ref.Digest]; here && !slices.Contains(contents, ref.Digest) {
					contents = append(contents, ref.Digest)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, d := range contents {
			if !m.mirrored(d, func(string) bool { return true }) {
				freed += m.contents[d].Size
			}
		}
		return nil
	})
	return freed, err
}
