package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// Bounds of the lists that are remembered, and of those that are read at once.
const (
	mostLists      = 1000
	maxRemembered  = 64 << 20         // bytes of memory, of all of them
	parallelLists  = 4                // more wait
	listLife       = 30 * time.Second // at most; a list is no fresher than a tag
	slowListFactor = 10               // a list that takes long to read lives so many times as long
	longestLife    = 10 * time.Minute
)

// remembered is a list that the upstream gave a moment ago: a client that reads it by pages does not cost a whole one for each.
type remembered struct {
	tags      []string
	referrers []ocispec.Descriptor
	bytes     int // of memory, about
	until     time.Time
}

// lists remembers lists, the last ones that were asked for, within bounds of memory.
type lists struct {
	mu    sync.Mutex
	byKey *simplelru.LRU[string, remembered]
	bytes int
}

func newLists() *lists {
	l := &lists{}
	l.byKey, _ = simplelru.NewLRU(mostLists, func(_ string, gone remembered) { l.bytes -= gone.bytes }) // fails only for a size below 1
	return l
}

func (l *lists) get(key string) (remembered, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byKey.Get(key)
}

func (l *lists) add(key string, list remembered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byKey.Remove(key)
	l.byKey.Add(key, list)
	for l.bytes += list.bytes; l.bytes > maxRemembered; {
		l.byKey.RemoveOldest()
	}
}

func (l *lists) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byKey.Remove(key)
}

// list returns a list of a repository that is remembered, or reads it for all who want it now.
func (r *Registry) list(ctx context.Context, name, key string, read func(context.Context) (remembered, error)) (remembered, error) {
	if err := r.absent(key); err != nil {
		return remembered{}, err
	}
	last, known := r.lists.get(key)
	if known && (time.Now().Before(last.until) || !r.remote.pause.mayConfirm(name)) {
		return last, nil
	}
	return fly(ctx, r, key, func(ctx context.Context) (remembered, error) {
		select {
		case r.reading <- struct{}{}:
			defer func() { <-r.reading }()
		case <-ctx.Done():
			return remembered{}, ctx.Err()
		}
		began := time.Now()
		list, err := read(ctx)
		switch {
		case err == nil:
			list.until = time.Now().Add(lifeOf(min(r.options.TagAge, listLife), time.Since(began)))
			r.lists.add(key, list)
		case isAnswer(err):
			r.lists.forget(key)
			if !errors.Is(err, registry.ErrNameUnknown) { // which may begin any time, by a pull
				r.remember(key, err)
			}
		case known:
			r.observe(Event{Kind: KindManifest, Outcome: Stale, Err: err})
			return last, nil
		}
		return list, err
	})
}

// lifeOf is how long a list is remembered that took so long to read: one of many pages is not read all the time.
func lifeOf(usual, took time.Duration) time.Duration {
	if took < time.Second {
		return usual
	}
	return max(usual, min(slowListFactor*took, longestLife))
}

// isAnswer reports whether the upstream has said no, or what nobody can pass on: what is kept is no answer instead.
func isAnswer(err error) bool {
	return errors.Is(err, registry.ErrDenied) || errors.Is(err, registry.ErrNameUnknown) || errors.Is(err, registry.ErrUnsupported)
}
