package gc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// DefaultPulls is how many pulls [NewPulls] keeps by default until they are recorded.
const DefaultPulls = 10_000

// Pulls gathers which manifests were pulled, off the client's path, until [Run], or [Pulls.Run], records them. It is a sample: what was
// pulled a moment ago is not gathered again, so that a manifest that everybody pulls costs a row's update about once
// in an hour. Make one with [NewPulls], and hand its Record to the registry; it is safe for concurrent use.
type Pulls struct {
	most int

	mu      sync.Mutex
	seen    map[store.Pull]struct{} // lately: they need not be recorded again
	since   time.Time               // when seen was last emptied
	pending []store.Pull
	dropped int
}

// NewPulls returns an empty Pulls that keeps at most the given number of pulls; 0 means [DefaultPulls]. Each takes some 300
// bytes at most. What comes when it is full is dropped, and counted.
func NewPulls(most int) *Pulls {
	if most <= 0 {
		most = DefaultPulls
	}
	return &Pulls{most: most, seen: map[store.Pull]struct{}{}}
}

const (
	// again is after how long a pull is gathered again.
	again = 30 * time.Minute
	// recorded is how long the index passes over pulls of what it has recorded one of, as [store.Retention] says.
	recorded = time.Hour
	// mostPullPause is how long a collector waits at most until it records the pulls that have been gathered.
	mostPullPause = 10 * time.Minute
	// gathered is how long a pull waits at most until it is recorded, while the index is there: some such pauses.
	gathered = 3 * mostPullPause
	// pullLag is how long after its last pull that is recorded something may have been pulled, and nobody knows it yet: one just
	// before the index would have recorded it is passed over, and the next one is not gathered so soon, and then it waits.
	pullLag = recorded + again + gathered
)

// mayBePulled is until when something may have been pulled, of which this is the last pull that is recorded, or zero.
func mayBePulled(pulled time.Time) time.Time {
	if pulled.IsZero() {
		return pulled
	}
	return pulled.Add(pullLag)
}

// Record gathers a pull; tag is "" for one by digest. It waits for nothing but other calls of it.
func (p *Pulls) Record(repository string, d digest.Digest, tag string) {
	pull := store.Pull{Repository: repository, Digest: d, Tag: tag}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.since) >= again || len(p.seen) >= 4*p.most { // forgetting costs a needless update, no more
		clear(p.seen)
		p.since = now
	}
	if _, ok := p.seen[pull]; ok {
		return
	}
	if len(p.pending) >= p.most {
		p.dropped++
		return
	}
	p.seen[pull] = struct{}{}
	p.pending = append(p.pending, pull)
}

// waiting tells how many pulls wait to be recorded.
func (p *Pulls) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending)
}

// take returns the first of the pulls that wait, and how many were dropped.
func (p *Pulls) take(limit int) (pulls []store.Pull, dropped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.pending), limit)
	pulls, dropped = p.pending[:n:n], p.dropped
	p.pending, p.dropped = p.pending[n:], 0
	return pulls, dropped
}

// putBack returns pulls that could not be recorded, as far as there is room for them. The others are gathered again when they come
// again.
func (p *Pulls) putBack(pulls []store.Pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := max(p.most-len(p.pending), 0)
	if len(pulls) > room {
		p.dropped += len(pulls) - room
		for _, dropped := range pulls[room:] {
			delete(p.seen, dropped)
		}
		pulls = pulls[:room]
	}
	p.pending = append(pulls, p.pending...)
}

// Run records pulls until ctx ends, on the caller's goroutine, and then the last ones, and returns nil. It is for a registry that
// leaves collecting to others: their policies keep only what they know to be pulled. [Run] with Options.Pulls does the
// same beside its other work. Of opts, which may be nil, only Pause, Share, Logger and Observe are looked at; an error of them is returned at once.
func (p *Pulls) Run(ctx context.Context, meta Index, opts *Options) error {
	o := &Options{Pulls: p}
	if opts != nil {
		o.Pause, o.Share, o.Logger, o.Observe = opts.Pause, opts.Share, opts.Logger, opts.Observe
	}
	c, err := newCollector(meta, nil, o, true)
	if err != nil {
		return err
	}
	c.steps = slices.DeleteFunc(c.steps, func(s *step) bool { return s.name != StepPulls })
	for ctx.Err() == nil {
		c.round(ctx)
		c.rest(ctx)
	}
	c.leave(ctx)
	return nil
}

// Flush records the pulls that wait. [Run], [Once] and [Pulls.Run] do it; only who runs none of them, beside a registry that
// gathers pulls, has to. After an error, what was not recorded waits again.
func (p *Pulls) Flush(ctx context.Context, meta Index) (Stats, error) {
	var done Stats
	const batch = 1000
	for left := p.waiting(); left > 0; left -= batch {
		if err := p.flush(ctx, meta, min(left, batch), &done); err != nil {
			return done, err
		}
	}
	return done, nil
}

// flush records so many of them.
func (p *Pulls) flush(ctx context.Context, meta Index, limit int, done *Stats) error {
	pulls, dropped := p.take(limit)
	done.DroppedPulls += dropped
	if err := meta.RecordPulls(ctx, pulls); err != nil {
		p.putBack(pulls)
		return fmt.Errorf("record pulls: %w", err)
	}
	done.Pulls += len(pulls)
	return nil
}

// pullStep records pulls once in a pause, or every ten minutes if that is longer, and earlier when many wait.
type pullStep struct {
	*collector
	last time.Time
}

func (s *pullStep) due() bool {
	pulls := s.options.Pulls
	if pulls == nil {
		return false
	}
	n := pulls.waiting()
	return n > pulls.most/2 || n > 0 && time.Since(s.last) >= min(s.options.Pause, mostPullPause)
}

// run records some of them, so that what was pulled in a pause is no burst.
func (s *pullStep) run(ctx context.Context, limit int, done *Stats) (gain, error) {
	s.last = time.Now()
	if err := s.options.Pulls.flush(ctx, s.meta, limit, done); err != nil {
		return nothing, err
	}
	return gainOf(done.Pulls, limit), nil
}

// leaveTimeout is how long recording the last pulls may take when a collector is told to end.
const leaveTimeout = 5 * time.Second

// leave records what would be forgotten with the process.
func (c *collector) leave(ctx context.Context) {
	if c.options.Pulls == nil || c.options.Pulls.waiting() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if _, err := c.options.Pulls.Flush(ctx, c.meta); err != nil {
		c.options.Logger.WarnContext(ctx, "the last pulls are not recorded", "error", err)
	}
}
