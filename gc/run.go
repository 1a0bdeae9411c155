package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Run collects until ctx ends, on the caller's goroutine, and then returns nil. An error of opts, which names the field, is
// returned at once; anything else that goes wrong is logged, and tried again. Any number of processes may run it over the
// same stores. opts may be nil.
func Run(ctx context.Context, meta Index, objects store.Objects, opts *Options) error {
	c, err := newCollector(meta, objects, opts, true)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if c.round(ctx) < filled {
			c.rest(ctx)
		}
	}
	c.leave(ctx)
	return nil
}

// Once records the pulls, runs the policies over all repositories, evicts, and collects until nothing is due that it can
// do: for programs that are started by hand or by a clock. A step that fails goes on as long as it does something all the same, and is
// then left alone, while the others go on. One that fails as a whole is tried once more before: what always takes too long looks like an
// index that is away, and is known for what it is when it does so again. So Once returns what it did also with an error, which is the last
// one of each step that failed, and is not logged. What a grace or a delay protects is left for another time. opts may be nil.
func Once(ctx context.Context, meta Index, objects store.Objects, opts *Options) (Stats, error) {
	c, err := newCollector(meta, objects, opts, false)
	if err != nil {
		return Stats{}, err
	}
	failed := map[Step]error{}
	again := true
	c.note = func(ctx context.Context, s *step, got gain, err error) {
		if err == nil {
			s.failures = 0
			return
		}
		failed[s.name] = err
		s.leave(ctx, got, err)
		again = again || !s.left
	}
	for again && ctx.Err() == nil {
		again = false
		if c.round(ctx) > nothing {
			again = true
		}
	}
	var errs []error
	for _, s := range c.steps {
		errs = append(errs, failed[s.name])
	}
	return c.stats, errors.Join(append(errs, ctx.Err())...)
}

// collector is one that is running. It is used by one goroutine.
type collector struct {
	meta     Index
	objects  store.Objects
	options  Options
	policies policies
	steps    []*step
	pulls    *step      // one of them
	work     store.Work // what was due at the last look
	reached  bool       // the index was there at the last look
	looked   time.Time
	stale    bool // the next round has to look
	shares   bool // its time with clients, and with other collectors what need not be done by all: who is started by hand does not
	stats    Stats
	putOff   putOffs[store.ManifestAt] // subjects whose referrers could not be deleted
	stay     int                       // objects in a row that could not be deleted

	note func(ctx context.Context, s *step, got gain, err error) // how a step went; not called when ctx has ended
}

// step is a kind of work, and how it goes.
type step struct {
	name Step
	due  func() bool // by what is known without asking
	// run does one batch of it, and tells what it did, and how far it got.
	run func(ctx context.Context, done *Stats) (gain, error)

	// again is after how long, at the most, what failed of it in part is tried again.
	again time.Duration

	// release leaves to others what a run holds that has failed; nil: it holds nothing.
	release func(ctx context.Context)

	share    float64   // of the time, at most
	left     bool      // not to be tried again
	spent    bool      // it did not fill its batch since the last look
	failures int       // as a whole, in a row
	after    time.Time // not to be tried before
	trouble  trouble
}

// mostWhole is how often in a row a step of [Once] may fail as a whole without doing anything but going past what failed before: if so
// much of the index answers too late, it is the index.
const mostWhole = 20

// leave decides whether a step that has failed is left alone: if it has gained nothing, and as a whole only if it did not the time
// before either. By then it goes past what always takes too long, and would have gained something if that were all.
func (s *step) leave(ctx context.Context, got gain, err error) {
	switch {
	case isInPart(err):
		s.failures, s.left = 0, got == nothing
	case got == filled:
		s.failures = 0
	default:
		s.failures++
		s.left = s.failures > 1 && got == nothing || s.failures >= mostWhole
	}
	if s.left && s.release != nil {
		s.release(ctx)
	}
}

// gain is how far a step, or a round of them, got. Of one that failed as a whole, some says that it got past what it failed at before.
type gain int

const (
	nothing gain = iota // nothing that it could do was due
	some                // it did what was due, and what it leaves behind may be due some time
	filled              // it filled its batch: more may be due
)

// gainOf is that of a step that did n, of at most limit.
func gainOf(n, limit int) gain {
	switch {
	case n == 0:
		return nothing
	case n < limit:
		return some
	}
	return filled
}

func newCollector(meta Index, objects store.Objects, opts *Options, shares bool) (*collector, error) {
	options, err := opts.complete()
	if err != nil {
		return nil, err
	}
	c := &collector{meta: meta, objects: objects, options: options, shares: shares, putOff: putOffs[store.ManifestAt]{}}
	c.note = c.backOff
	if c.policies, err = compilePolicies(options.Policies); err != nil {
		return nil, fmt.Errorf("gc options: %w", err)
	}
	paced := func(run func(context.Context, int, *Stats) (gain, error)) func(context.Context, *Stats) (gain, error) {
		if !shares {
			return (&pace{most: options.Batch, size: options.Batch, slice: longSlice}).keep(run)
		}
		return (&pace{most: options.Batch, size: min(options.Batch, few), slice: slice}).keep(run)
	}
	holder := store.NewID()
	claimOf := func(d digest.Digest) claim { return claim{meta: meta, of: d, holder: holder} }
	pulls, runner := &pullStep{collector: c}, &policyStep{collector: c, claim: claimOf(c.policies.claim())}
	evictor := &evictStep{collector: c, claim: claimOf(evictionClaim), putOff: putOffs[store.ManifestAt]{}}
	c.pulls = &step{name: StepPulls, due: pulls.due, run: paced(pulls.run)}
	c.steps = []*step{
		c.pulls, // before what goes by them
		{name: StepLook, due: func() bool { return !c.reached }, run: c.look},
		{name: StepSessions, due: func() bool { return c.work.Sessions }, run: paced(c.endSessions)},
		{name: StepCandidates, due: func() bool { return c.work.Candidates }, run: paced(c.review), again: lastPutOff},
		{name: StepRepositories, due: func() bool { return c.work.Repositories }, run: paced(c.drain)},
		{name: StepGarbage, due: func() bool { return c.work.Garbage }, run: paced(c.sweep), again: options.Again},
		{name: StepPolicies, due: runner.due, run: runner.run, again: options.PolicyPause},
		{name: StepEviction, due: evictor.due, run: evictor.run, again: max(lastPutOff, options.Eviction.Pause), release: evictor.release},
	}
	for _, s := range c.steps {
		switch s.share = options.Share; s.name {
		case StepGarbage:
			s.share = max(s.share, bucketShare)
		case StepPolicies, StepEviction:
			s.share = max(s.share, leastShare)
		}
	}
	return c, nil
}

// lookPause is how long [Run] fills batches one after the other without a look whether anything else is due.
const lookPause = time.Second

// round takes one batch of each kind of work that is due, and records all pulls that wait. A kind that fails is left alone; the others go
// on. In a round without a look, so are those that have not filled their batch since the last one.
func (c *collector) round(ctx context.Context) (got gain) {
	look := c.stale || !c.shares || time.Since(c.looked) >= lookPause
	if look {
		c.work, c.reached, c.looked = store.Work{}, false, time.Now()
		for _, s := range c.steps {
			s.spent = false
		}
	}
	c.stale = false
	for _, s := range c.steps {
		switch {
		case ctx.Err() != nil || s.left || s.spent || time.Now().Before(s.after) || !s.due():
		case s == c.pulls:
			c.record(ctx)
		default:
			gained := c.take(ctx, s)
			s.spent = gained < filled
			got = max(got, gained)
		}
	}
	if got < filled {
		c.stale = true
		if !look { // then it is not known that nothing else is due
			return filled
		}
	}
	return got
}

// record records all pulls that wait, batch by batch. Those that come meanwhile are left: else the other work might never get its turn.
func (c *collector) record(ctx context.Context) {
	for left := c.options.Pulls.waiting(); left > 0 && ctx.Err() == nil; {
		before := c.stats.Pulls
		if c.take(ctx, c.pulls) < filled {
			return
		}
		left -= c.stats.Pulls - before
	}
}

// take takes a step, and leaves clients their time.
func (c *collector) take(ctx context.Context, s *step) gain {
	var done Stats
	began := time.Now()
	got, err := s.run(ctx, &done)
	took := time.Since(began)
	if err != nil {
		c.stale = true
		err = fmt.Errorf("collect %s: %w", s.name, err)
	}
	c.stats.Add(done)
	if c.options.Observe != nil {
		c.options.Observe(Event{Step: s.name, Took: took, Stats: done, Err: err})
	}
	if ctx.Err() == nil { // else it says nothing about the step
		c.note(ctx, s, got, err)
	}
	c.yield(ctx, took, s.share)
	return got
}

// look asks what is due.
func (c *collector) look(ctx context.Context, done *Stats) (gain, error) {
	work, err := c.workDue(ctx)
	if err != nil {
		return nothing, err
	}
	done.Rounds = 1
	c.work, c.reached = work, true
	return nothing, nil
}

func (c *collector) workDue(ctx context.Context) (store.Work, error) {
	work, err := c.meta.Due(ctx, store.Deadlines{
		Grace: c.options.Grace, Delay: c.options.Delay, Unfinished: c.options.unfinished(), Life: c.options.Life,
	})
	if err != nil {
		return work, fmt.Errorf("look for work: %w", err)
	}
	return work, nil
}

// drain deletes rows of repositories that were deleted.
func (c *collector) drain(ctx context.Context, limit int, done *Stats) (gain, error) {
	drained, err := c.meta.DrainRepositories(ctx, limit)
	if err != nil {
		return nothing, fmt.Errorf("drain repositories: %w", err)
	}
	done.Drained = drained
	return gainOf(drained, 1), nil // only a drain that finds nothing says that nothing is left
}
