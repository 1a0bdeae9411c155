package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Auditor = (*Metadata)(nil)

// UnknownKeys implements [store.Auditor].
func (m *Metadata) UnknownKeys(ctx context.Context, keys []store.Key) (unknown []store.Key, err error) {
	err = m.look(ctx, "look for keys", func() error {
		unknown = m.unknown(keys)
		return nil
	})
	return unknown, err
}

// CondemnKeys implements [store.Auditor].
func (m *Metadata) CondemnKeys(ctx context.Context, keys []store.Key) (condemned []store.Key, err error) {
	err = m.change(ctx, "condemn keys", func(now time.Time) error {
		condemned = m.unknown(keys)
		m.condemn(now, store.GarbageOf(condemned, nil)...)
		return nil
	})
	return condemned, err
}

func (m *Metadata) unknown(keys []store.Key) []store.Key {
	known := map[store.Key]bool{}
	for _, c := range m.contents {
		known[c.Key] = true
	}
	for _, s := range m.sessions {
		for _, key := range s.Keys() {
			known[key] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key store.Key) bool {
		_, garbage := m.garbage[key]
		return garbage || known[key]
	})
}

// StoredContents implements [store.Auditor].
func (m *Metadata) StoredContents(ctx context.Context, after store.Key, limit int) (stored []store.StoredContent, err error) {
	err = m.look(ctx, "list contents", func() error {
		for _, c := range m.contents {
			if c.Key > after {
				stored = append(stored, store.StoredContent{Key: c.Key, Digest: c.Digest, Size: c.Size, Missing: c.missing})
			}
		}
		slices.SortFunc(stored, func(a, b store.StoredContent) int { return cmp.Compare(a.Key, b.Key) })
		stored = stored[:min(len(stored), max(limit, 0))]
		return nil
	})
	return stored, err
}

// MarkContent implements [store.Auditor].
func (m *Metadata) MarkContent(ctx context.Context, d digest.Digest, key store.Key, missing bool) (changed bool, err error) {
	err = m.change(ctx, "mark content", func(time.Time) error {
		c, ok := m.contents[d]
		if changed = ok && c.Key == key && key != "" && c.missing != missing; changed {
			c.missing = missing
			m.contents[d] = c
		}
		return nil
	})
	return changed, err
}

// Dependents implements [store.Auditor].
func (m *Metadata) Dependents(ctx context.Context, d digest.Digest, after store.ManifestAt, limit int) (found []store.ManifestAt, err error) {
	compare := func(a, b store.ManifestAt) int {
		return cmp.Or(strings.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest))
	}
	err = m.look(ctx, "list dependents", func() error {
		for name, r := range m.repositories {
			for parent := range r.parents[d] {
				found = append(found, store.ManifestAt{Repository: name, Digest: parent})
			}
			if _, ok := r.manifests[d]; ok {
				found = append(found, store.ManifestAt{Repository: name, Digest: d})
			}
		}
		found = slices.DeleteFunc(found, func(at store.ManifestAt) bool { return compare(at, after) <= 0 })
		slices.SortFunc(found, compare)
		found = found[:min(len(found), max(limit, 0))]
		return nil
	})
	return found, err
}
