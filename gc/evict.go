package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Eviction says what may go of what was pulled through from upstreams, apart from what nothing refers to: manifests of mirrored
// repositories, with their tags. One that another one refers to stays until that has gone. What was pushed is never evicted,
// also if it is the same. What is evicted becomes garbage like anything that a client deletes, after the same grace and delay.
type Eviction struct {
	// Idle evicts manifests that were last put or pulled longer ago. Pulls are known from when [Pulls] was put to use, and are a
	// sample: for two hours after one that is recorded, a manifest counts as being pulled still. 0: none.
	Idle time.Duration

	// Budget is how many bytes of content may be mirrored, each content once. If there are more, manifests are evicted until there
	// are not, the least recently put or pulled one first, and none of which that is recorded within the last two hours. What waits to be
	// deleted is not counted. 0: any number.
	Budget int64

	// Pause is how long to wait between two looks at all that is mirrored. Default 10 min.
	Pause time.Duration
}

const (
	// leastQuiet is how long nothing that is recorded must have happened to what is evicted for the budget.
	leastQuiet = pullLag
	// mostOldest bounds what a look has to remember.
	mostOldest = 1000
	// beforeMirrors comes before the names of all mirrored repositories, and after all others.
	beforeMirrors = "}"
)

// evictionClaim is claimed by who evicts: if several looked at once, each would evict all that is too much.
var evictionClaim = digest.FromString("eviction of what is mirrored")

// evictStep looks at all that is mirrored once in a while, some of it at a time, so that the other work goes on meanwhile.
type evictStep struct {
	*collector
	claim  claim
	next   time.Time // to begin
	look   *eviction // nil: not begun
	putOff putOffs[store.ManifestAt]
	stuck  store.ManifestAt // the last one of which the index said that it is away
}

func (s *evictStep) due() bool {
	e := s.options.Eviction
	return (e.Idle > 0 || e.Budget > 0) && (s.look != nil || !time.Now().Before(s.next))
}

func (s *evictStep) run(ctx context.Context, done *Stats) (gain, error) {
	if mine, err := s.claim.take(ctx); !mine {
		s.look = nil
		if err == nil {
			s.next = time.Now().Add(jitter(s.options.Eviction.Pause))
		}
		return nothing, err
	}
	if s.look == nil {
		s.putOff.tidy()
		s.look = newEviction(s.meta, s.options.Eviction)
		s.look.passes, s.look.works = s.putOff.has, s.putOff.clear
	}
	s.look.evict = func(ctx context.Context, m mirrored, quiet time.Duration, _ string) (int64, error) {
		freed, err := s.meta.EvictManifest(ctx, store.ManifestEviction{Repository: m.Repository, Digest: m.Digest, Quiet: quiet})
		if err == nil {
			done.Evicted++
			done.EvictedBytes += freed
		}
		return freed, err
	}
	var failed []error
	s.look.fail = func(at store.ManifestAt, err error) error {
		if ctx.Err() != nil || s.away(at, err) || !s.putOff.add(at) { // as a rule, all would fail
			return err
		}
		failed = append(failed, err)
		return nil
	}
	for began := time.Now(); time.Since(began) < turn; {
		over, err := s.look.advance(ctx)
		if err != nil {
			s.look = nil // what has gone may not be known, and is not to be guessed
			return gainSoFar(done.Evicted, failed), firstOf("evict", append([]error{err}, failed...))
		}
		if over {
			return s.end(ctx), inPart(firstOf("evict", failed))
		}
	}
	return filled, inPart(firstOf("evict", failed))
}

// away reports whether an error of a manifest, or a repository, says that the index is away, so that it tells nothing about what was asked
// for. If it does so twice in a row of the same one, although the index was there at the last look, it is that which takes too long.
func (s *evictStep) away(at store.ManifestAt, err error) bool {
	if !errors.Is(err, store.ErrUnavailable) || s.reached && s.stuck == at {
		return false
	}
	s.stuck = at
	return true
}

// release leaves evicting to others.
func (s *evictStep) release(ctx context.Context) {
	if err := s.claim.release(ctx); err != nil {
		s.options.Logger.DebugContext(ctx, "the claim to evict is left until its time is over", "error", err)
	}
}

// end ends a look. Another one begins at once if this one has made way for it.
func (s *evictStep) end(ctx context.Context) gain {
	look := s.look
	s.look, s.stuck = nil, store.ManifestAt{}
	if look.again() {
		return filled
	}
	s.release(ctx)
	s.next = time.Now().Add(jitter(s.options.Eviction.Pause))
	if look.evicted {
		return some
	}
	return nothing
}

// mirrored is a manifest of a mirrored repository.
type mirrored struct {
	store.ManifestAt
	used time.Time // last put or pulled
}

func compareUsed(a, b mirrored) int {
	return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest))
}

// eviction is one look at all that is mirrored: it adds up its size, goes through all manifests and evicts those that are idle,
// and then the ones that were used the longest ago. It decides on what it sees; whoever evicts lets the index look again.
type eviction struct {
	meta  Index
	rules Eviction
	now   time.Time
	evict func(ctx context.Context, m mirrored, quiet time.Duration, reason string) (freed int64, err error)

	// passes reports whether a manifest, or a repository, has failed before and is to be passed over. works is told of one that does not
	// fail. fail is told of one that does, and returns nil if the look is to go on past it. They may be nil: none is passed over.
	passes func(at store.ManifestAt) bool
	works  func(at store.ManifestAt)
	fail   func(at store.ManifestAt, err error) error

	size     int64            // of what is mirrored, less what was evicted
	measured store.ManifestAt // up to here
	whole    bool             // all was measured

	page   []string         // repositories to go through
	last   string           // the last one of the page
	listed store.ManifestAt // up to here, in the first one
	all    bool             // all were gone through

	oldest  []mirrored // that may go for the budget, the least recently used first
	evicted bool       // some was
	failed  bool       // some, which the next look passes over
	waits   bool       // some that is idle was left because another one refers to it
	stale   bool       // somebody else deletes, too, or an answer was lost: what is known of the size is wrong
}

func newEviction(meta Index, rules Eviction) *eviction {
	return &eviction{meta: meta, rules: rules, now: time.Now(), whole: rules.Budget == 0, last: beforeMirrors}
}

// excess is how much must go.
func (e *eviction) excess() int64 {
	if e.rules.Budget == 0 || e.stale {
		return 0
	}
	return max(e.size-e.rules.Budget, 0)
}

// again reports whether another look would find what this one has made way for.
func (e *eviction) again() bool {
	return e.stale || e.evicted && (e.waits || e.excess() > 0) || e.failed && e.excess() > 0
}

func (e *eviction) passesOver(at store.ManifestAt) bool { return e.passes != nil && e.passes(at) }

func (e *eviction) worked(at store.ManifestAt) {
	if e.works != nil {
		e.works(at)
	}
}

// goPast ends the look with the error of a manifest, or a repository, or goes on past it.
func (e *eviction) goPast(at store.ManifestAt, err error) error {
	if e.fail == nil {
		return err
	}
	if err := e.fail(at, err); err != nil {
		return err
	}
	e.failed = true
	return nil
}

// advance does a page, or one eviction.
func (e *eviction) advance(ctx context.Context) (over bool, err error) {
	switch {
	case !e.whole:
		return false, e.measure(ctx)
	case !e.all && (e.rules.Idle > 0 || e.excess() > 0):
		return false, e.list(ctx)
	case e.excess() > 0 && len(e.oldest) > 0:
		m := e.oldest[0]
		e.oldest = e.oldest[1:]
		return false, e.take(ctx, m, leastQuiet, fmt.Sprintf("put or pulled %s ago, and %d bytes more than %d are mirrored",
			ago(e.now.Sub(m.used)), e.excess(), e.rules.Budget))
	}
	return true, nil
}

// measure adds up a page.
func (e *eviction) measure(ctx context.Context) error {
	page, err := e.meta.MirroredSize(ctx, e.measured, records)
	if err != nil {
		return fmt.Errorf("add up what is mirrored: %w", err)
	}
	e.size += page.Bytes
	e.measured, e.whole = page.Last, page.Done
	return nil
}

// list goes through a page of a repository's manifests.
func (e *eviction) list(ctx context.Context) (err error) {
	if len(e.page) == 0 {
		if e.page, err = e.meta.Repositories(ctx, e.last, records); err != nil {
			return fmt.Errorf("list mirrored repositories: %w", err)
		}
		if len(e.page) == 0 {
			e.all = true
			return nil
		}
		e.last = e.page[len(e.page)-1]
	}
	repository := e.page[0]
	whole := store.ManifestAt{Repository: repository}
	if e.passesOver(whole) {
		e.page = e.page[1:]
		return nil
	}
	if e.listed.Repository != repository {
		e.listed = whole
	}
	found, err := e.meta.ManifestRecords(ctx, repository, e.listed.Digest, records)
	if err != nil {
		e.page = e.page[1:]
		return e.goPast(whole, fmt.Errorf("list manifests of %s: %w", repository, err))
	}
	e.worked(whole)
	for i := range found {
		if err := e.see(ctx, repository, &found[i]); err != nil {
			return err
		}
		e.listed.Digest = found[i].Digest
	}
	if len(found) < records {
		e.page = e.page[1:]
	}
	return nil
}

// see decides on one manifest.
func (e *eviction) see(ctx context.Context, repository string, record *store.ManifestRecord) error {
	m := mirrored{store.ManifestAt{Repository: repository, Digest: record.Digest}, record.Pushed}
	if record.Pulled.After(m.used) {
		m.used = record.Pulled
	}
	if e.passesOver(m.ManifestAt) {
		return nil
	}
	age := e.now.Sub(m.used)
	idle := e.rules.Idle > 0 && age >= e.rules.Idle && e.now.Sub(mayBePulled(record.Pulled)) >= e.rules.Idle
	switch {
	case record.Parent:
		e.waits = e.waits || idle
	case idle:
		return e.take(ctx, m, e.rules.Idle, fmt.Sprintf("put or pulled %s ago, more than %s", ago(age), ago(e.rules.Idle)))
	case e.excess() > 0 && age >= leastQuiet:
		if at, _ := slices.BinarySearchFunc(e.oldest, m, compareUsed); at < mostOldest {
			e.oldest = slices.Insert(e.oldest, at, m)
			e.oldest = e.oldest[:min(len(e.oldest), mostOldest)]
		}
	}
	return nil
}

// take evicts a manifest, unless the index says that it may not go.
func (e *eviction) take(ctx context.Context, m mirrored, floor time.Duration, reason string) error {
	freed, err := e.evict(ctx, m, quiet(e.now, m.used, time.Time{}, []time.Duration{floor}), reason)
	switch {
	case err == nil:
		e.size -= freed
		e.evicted = true
	case errors.Is(err, store.ErrManifestUnknown):
		e.stale = e.rules.Budget > 0
	case !refused(err):
		if err := e.goPast(m.ManifestAt, fmt.Errorf("evict manifest %s of %s: %w", m.Digest, m.Repository, err)); err != nil {
			return err
		}
		// An answer may have been lost. To add all up again tells that, too, but many may fail, and it takes long.
		e.stale = e.stale || e.rules.Budget > 0 && !e.stays(ctx, m.ManifestAt)
		return nil
	}
	e.worked(m.ManifestAt)
	return nil
}

// stays reports whether a manifest is still there for certain.
func (e *eviction) stays(ctx context.Context, at store.ManifestAt) bool {
	found, err := e.meta.ManifestRecords(ctx, at.Repository, at.Digest[:len(at.Digest)-1], 1) // nothing is between
	return err == nil && len(found) > 0 && found[0].Digest == at.Digest
}
