package gc

import (
	"context"
	"math/rand/v2"
	"time"
)

// How much work a batch is, beyond the way there and back: one that is more keeps whoever comes meanwhile waiting. So it is little where
// clients are, and much where a collector is to be done soon.
const (
	slice     = 5 * time.Millisecond
	longSlice = 200 * time.Millisecond
)

// turn is how long the policies, and evictions, go on before it is others' turn: they are about one repository after the other.
const turn = 50 * time.Millisecond

// few is a batch of which all the time is supposed to go for the way there and back, so that a smaller one would take as long.
const few = 16

// pace is how much one step takes.
type pace struct {
	most, size int
	slice      time.Duration
	way        time.Duration // what a batch of next to nothing takes, as far as is known: waiting, that keeps nobody from anything
}

// keep makes batches of a size of which one is work for no longer than a slice, nor for next to no time. What the way takes says
// nothing about sizes: to a store far away, a batch that is halved takes as long. A batch that failed as a whole says nothing either,
// but that smaller ones are safer. One that failed in part has shown that its size is right: with what failed, a smaller one would
// fail as well, and have less else to do.
func (p *pace) keep(run func(ctx context.Context, limit int, done *Stats) (gain, error)) func(context.Context, *Stats) (gain, error) {
	return func(ctx context.Context, done *Stats) (gain, error) {
		began := time.Now()
		got, err := run(ctx, p.size, done)
		took := time.Since(began)
		if got > nothing && (p.size <= few || took < p.way) {
			p.way = took
		}
		switch work := took - p.way; {
		case err != nil && !isInPart(err):
			p.size = max(p.size/2, 1)
		case work > p.slice:
			p.size = max(p.size/2, min(p.most, few))
		case work < p.slice/4 && got == filled: // what was not filled does not know what more of it would take
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
			c.record(ctx)
		}
	}
}

// Some steps have a share of their own, if Share is less: the policies and evictions, since they have to keep up with what is pushed and
// pulled through, and go through all that there is to find what goes; and deleting objects, which waits for the bucket most of the
// time. There are never more objects to delete than the reviews of candidates, in their share, have let go.
const (
	leastShare  = 0.5
	bucketShare = 0.2
)

// mostYield bounds how long clients are left alone. A step that took so long that its share would be more has waited for somebody rather
// than worked; and a collector that has claimed work has to be back long before the claim is over.
const mostYield = 10 * time.Second

// yield leaves the index and the store to clients, after a step of [Run] that took so long, for as long as makes that no more of the time
// than its share. What has piled up has waited for its grace already, and whoever waits for a page of a pull has not.
func (c *collector) yield(ctx context.Context, took time.Duration, share float64) {
	if c.shares {
		wait := float64(took) * (1/share - 1)
		pause(ctx, time.Duration(min(wait, float64(c.options.Pause), float64(mostYield))))
	}
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
