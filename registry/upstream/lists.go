package upstream

import (
	"context"
	"errors"
	"fmt"
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
	maxUnderWay    = 4 * maxList      // bytes of memory, of all that are read at once
	parallelPages  = 4                // are read at once; more wait
	turnPatience   = time.Second      // for what a known list stands in for
	listLife       = 30 * time.Second // at most; a list is no fresher than a tag
	manyPages      = 10               // of a list that is worth more than to be asked for anew all the time
	slowListFactor = 10               // such a list lives so many times as long as it took
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
func (r *Registry) list(ctx context.Context, name, key string, read func(context.Context, *reading) (remembered, error)) (remembered, error) {
	if err := r.absent(key); err != nil {
		return remembered{}, err
	}
	// Another registry that asks in a circle is not given all, which is nothing to go by for others.
	mine := key + r.cause(ctx)
	last, known := r.lists.get(mine)
	if known && (time.Now().Before(last.until) || !r.remote.pause.mayConfirm(name)) {
		return last, nil
	}
	return fly(ctx, r, key, func(ctx context.Context) (remembered, error) {
		reading := &reading{registry: r, name: name, patience: longestFlight}
		if known {
			reading.patience = turnPatience
		}
		defer reading.end()
		began := time.Now()
		list, err := read(ctx, reading)
		switch {
		case err == nil:
			list.until = time.Now().Add(lifeOf(r.options.TagAge, time.Since(began), reading.pages))
			r.lists.add(mine, list)
		case isAnswer(err):
			r.lists.forget(mine)
			if !errors.Is(err, registry.ErrNameUnknown) { // which may begin any time, by a pull
				r.remember(ctx, key, err)
			}
		case known:
			r.observe(Event{Kind: KindManifest, Outcome: Stale, Err: err})
			return last, nil
		}
		return list, err
	})
}

// lifeOf is how long a list is remembered: no longer than a tag, so that nothing is where that is always asked for. One of many pages is
// not read all the time, whatever is said of tags: it lives longer the longer it took, up to listLife or the age of a tag.
func lifeOf(tagAge, took time.Duration, pages int) time.Duration {
	usual := min(tagAge, listLife)
	if pages < manyPages {
		return usual
	}
	return max(usual, min(slowListFactor*took, max(tagAge, listLife)))
}

// reading is a list that is read from the upstream.
type reading struct {
	registry *Registry
	name     string        // of the repository
	patience time.Duration // to wait for a turn
	pages    int
	entries  int
	bytes    int // of memory, about
}

// add counts an entry, which takes so many bytes of memory if it is used. errTooLong, errBusy.
func (l *reading) add(bytes int) error {
	l.entries++
	l.bytes += bytes
	all := l.registry.underWay.Add(int64(bytes))
	switch {
	case l.entries > mostEntries || l.bytes > maxList:
		return errTooLong
	case all > maxUnderWay:
		return errBusy
	}
	return nil
}

// end gives back what it has counted.
func (l *reading) end() { l.registry.underWay.Add(-int64(l.bytes)) }

// turn waits until a body may be read. Nobody who has a turn waits for an upstream to begin an answer: that may be a registry that asks
// us before it answers. errBusy.
func (l *reading) turn(ctx context.Context) (done func(), err error) {
	patience := time.NewTimer(l.patience)
	defer patience.Stop()
	select {
	case l.registry.turns <- struct{}{}:
		return func() { <-l.registry.turns }, nil
	case <-patience.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errBusy says that a list must wait, since others are being read.
var errBusy = fmt.Errorf("%w: many lists are read at once", unavailable())

// isAnswer reports whether the upstream has said no, or what nobody can pass on: what is kept is no answer instead.
func isAnswer(err error) bool {
	return errors.Is(err, registry.ErrDenied) || errors.Is(err, registry.ErrNameUnknown) || errors.Is(err, registry.ErrUnsupported)
}
