package gc

import (
	"context"
	"math/rand/v2"
	"time"
)

// A batch that takes longer than slow is too large: its transactions keep others waiting. One that takes less than fast
// may be larger.
const (
	slow = 200 * time.Millisecond
	fast = 50 * time.Millisecond
)

// pace is how much one step takes.
type pace struct {
	most, size int
}

func newPace(most int) *pace { return &pace{most: most, size: most} }

// keep makes batches of a size of which one takes neither long nor next to nothing. A batch that failed as a whole says nothing
// about sizes, but that smaller ones are safer. One that failed in part has shown that its size is right: with what failed, a smaller
// one would fail as well, and have less else to do.
func (p *pace) keep(run func(ctx context.Context, limit int, done *Stats) (gain, error)) func(context.Context, *Stats) (gain, error) {
	return func(ctx context.Context, done *Stats) (gain, error) {
		began := time.Now()
		got, err := run(ctx, p.size, done)
		switch took := time.Since(began); {
		case err != nil && !isInPart(err) || took > slow:
			p.size = max(p.size/2, 1)
		case took < fast:
			p.size = min(p.size*2, p.most)
		}
		return got, err
	}
}

// jitter returns d, give or take a quarter of it, so that replicas do not go in step.
func jitter(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d - d/4 + rand.N(d/2)
}

// rest waits until there may be something to do. Pulls are recorded meanwhile when that is due: it must not wait for so long.
func (c *collector) rest(ctx context.Context) {
	wait := jitter(c.options.Pause)
	for _, s := range c.steps {
		if left := time.Until(s.after); left > 0 {
			wait = min(wait, left)
		}
	}
	pulls, end := c.pulls, time.Now().Add(wait)
	for ctx.Err() == nil && time.Now().Before(end) {
		next := mostPullPause
		if left := time.Until(pulls.after); left > 0 {
			next = left
		}
		pause(ctx, min(next, time.Until(end)))
		if ctx.Err() == nil && time.Now().Before(end) && !time.Now().Before(pulls.after) && pulls.due() {
			c.take(ctx, pulls)
		}
	}
}

// yield leaves clients as much time as a round took, while more is due: a collector works half of the time at most. What has
// piled up has waited for its grace already, and whoever waits for a page of a pull has not.
func (c *collector) yield(ctx context.Context, took time.Duration) {
	pause(ctx, min(took, c.options.Pause))
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
