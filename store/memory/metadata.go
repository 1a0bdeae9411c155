package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// MetadataOptions configures [NewMetadata]. The zero value works.
type MetadataOptions struct {
	Now func() time.Time // the store's clock; default time.Now
}

// Metadata is a [store.Metadata] in memory. Make one with [NewMetadata].
//
// One mutex makes every method a transaction. A method checks first and changes second, so that an error has changed nothing.
type Metadata struct {
	now func() time.Time

	mu           sync.RWMutex
	repositories map[string]*repository
	unnamed      []*repository // that were deleted, and are being drained
	contents     map[digest.Digest]content
	holders      map[digest.Digest]map[string]struct{} // content → names of the repositories that link to it
	sessions     map[string]*store.Session
	candidates   map[candidate]touch
	garbage      map[store.Key]store.Garbage
	fetches      map[digest.Digest]fetch
}

// content is where the bytes of a digest are.
type content struct {
	store.Content
	missing bool // its object is
}

type candidate struct {
	repository string
	digest     digest.Digest
}

type touch struct {
	at      time.Time
	deleted time.Time // a manifest of that digest was; or zero
}

// repository is what hangs on a repository. It exists while it has links.
type repository struct {
	links     map[digest.Digest]struct{}
	manifests map[digest.Digest]*manifest
	parents   map[digest.Digest]map[digest.Digest]struct{} // edges, by child
	referrers map[digest.Digest][]digest.Digest            // by subject, sorted
	tags      map[string]*tag
	tagNames  []string // sorted; nil: to be sorted
}

type manifest struct {
	store.Manifest
	references     []store.Reference
	tags           map[string]struct{}
	pushed, pulled time.Time
}

type tag struct {
	digest         digest.Digest
	pushed, pulled time.Time
}

// NewMetadata returns an empty index. opts may be nil.
func NewMetadata(opts *MetadataOptions) *Metadata {
	if opts == nil {
		opts = &MetadataOptions{}
	}
	m := &Metadata{
		now:          opts.Now,
		repositories: map[string]*repository{},
		contents:     map[digest.Digest]content{},
		holders:      map[digest.Digest]map[string]struct{}{},
		sessions:     map[string]*store.Session{},
		candidates:   map[candidate]touch{},
		garbage:      map[store.Key]store.Garbage{},
		fetches:      map[digest.Digest]fetch{},
	}
	if m.now == nil {
		m.now = time.Now
	}
	return m
}

// change runs an event that may change the index, as one transaction.
func (m *Metadata) change(ctx context.Context, what string, event func(now time.Time) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := event(m.now()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// look runs an event that only reads.
func (m *Metadata) look(ctx context.Context, what string, event func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := event(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// condemn keeps what has become garbage.
func (m *Metadata) condemn(now time.Time, garbage ...store.Garbage) {
	for _, g := range garbage {
		g.Condemned = now
		m.garbage[g.Key] = g
	}
}

func (m *Metadata) touch(now time.Time, name string, d digest.Digest) {
	c := candidate{name, d}
	m.candidates[c] = touch{now, m.candidates[c].deleted}
}

// record makes content known; the newest verified one wins.
func (m *Metadata) record(now time.Time, c store.Content) {
	if old, ok := m.contents[c.Digest]; ok && old.Key != "" && old.Key != c.Key {
		m.condemn(now, store.Garbage{Key: old.Key, Unfinished: true, Size: old.Size})
	}
	m.contents[c.Digest] = content{Content: c}
}

// link makes content visible in a repository, which appears with its first link.
func (m *Metadata) link(name string, d digest.Digest) *repository {
	r, ok := m.repositories[name]
	if !ok {
		r = &repository{
			links:     map[digest.Digest]struct{}{},
			manifests: map[digest.Digest]*manifest{},
			parents:   map[digest.Digest]map[digest.Digest]struct{}{},
			referrers: map[digest.Digest][]digest.Digest{},
			tags:      map[string]*tag{},
		}
		m.repositories[name] = r
	}
	r.links[d] = struct{}{}
	if m.holders[d] == nil {
		m.holders[d] = map[string]struct{}{}
	}
	m.holders[d][name] = struct{}{}
	return r
}

// unlink takes content out of a repository, which goes with its last link. The content is to be reviewed.
func (m *Metadata) unlink(now time.Time, name string, d digest.Digest) {
	r := m.repositories[name]
	delete(r.links, d)
	if len(r.links) == 0 {
		delete(m.repositories, name)
	}
	m.release(name, d)
	m.touch(now, name, d)
}

// release forgets that a repository holds content.
func (m *Metadata) release(name string, d digest.Digest) {
	delete(m.holders[d], name)
	if len(m.holders[d]) == 0 {
		delete(m.holders, d)
	}
}

// linked returns content that a repository links to.
func (m *Metadata) linked(name string, d digest.Digest) (store.Content, error) {
	if r, ok := m.repositories[name]; ok {
		if _, ok := r.links[d]; ok && !m.contents[d].missing {
			return m.contents[d].Content, nil
		}
	}
	return store.Content{}, store.ErrContentUnknown
}

// page returns the first limit of the sorted names that come after the given one.
func page[T ~string](names []T, after T, limit int) []T {
	from, found := slices.BinarySearch(names, after)
	if found {
		from++
	}
	return slices.Clone(names[from:min(from+max(limit, 0), len(names))])
}

func sortedKeys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
