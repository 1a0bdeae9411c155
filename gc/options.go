package gc

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
)

// Index is the part of [store.Metadata] that collecting and auditing need.
type Index interface {
	store.Collector
	store.Auditor
	store.Retention
	store.Mirror

	Repositories(ctx context.Context, after string, limit int) ([]string, error)
	Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error)
	Manifest(ctx context.Context, repository string, ref store.ManifestRef) (store.Manifest, error)
	Referrers(ctx context.Context, repository string, subject digest.Digest, page store.ReferrersPage) ([]ocispec.Descriptor, error)
}

// Options configures [Run], [Once] and [Preview]. The zero value works, and nil too. A duration that is zero takes its default.
type Options struct {
	// Grace is how long content that no manifest refers to is kept since it was last pushed, mounted or asked for. A client
	// pushes layers first and the manifest last, and has so long for that. Default 24 h.
	Grace time.Duration

	// Delay is how long an object is kept in the store after the index has stopped naming it, so that reads under way and signed
	// URLs can finish. Default 1 h.
	Delay time.Duration

	// URLLife is how long the URLs work that the registry signs for its clients; what the registry was given. Delay has to be
	// longer. 0: it signs none.
	URLLife time.Duration

	// Life is how long uploads last; what the registry was given. Default, for each of its fields, as [staging.Options] says.
	Life store.Life

	// WriteTimeout is how long one request to the objects may take; what the registry was given. Default, and at most,
	// [staging.MaxWriteTimeout]. What a late write may still reach is deleted after a tenth longer than this.
	WriteTimeout time.Duration

	// Again is after how long an object that could not be deleted is tried again, by any collector. It has to be longer than
	// deleting a batch takes. Default 10 min.
	Again time.Duration

	// Pause is how long to wait after a round that has filled no batch, since little was due or nothing, give or take a quarter of
	// it. Pulls are recorded about as often, and every ten minutes if it is longer. Default 1 min.
	Pause time.Duration

	// Share is how much of the time [Run] works at most, from above 0 to 1: however much is due, each of its batches, which are of some
	// milliseconds, is followed by a wait, of at most Pause and 10 s. It is what clients notice. If it is less, policies and evictions
	// take half of the time while they run, and deleting objects that the rest has let go a fifth. [Once] waits for nobody. Default 0.05.
	Share float64

	// Batch is how many candidates, sessions, rows or objects one step takes at most, not counting candidates that have failed
	// before and come back each time. A step that fails as a whole is halved. So is one of more than 16 that takes longer than 5 ms, or 200
	// ms of [Once], beyond the way to the stores, for which is taken what 16 take; one that is full and takes less than a quarter of that
	// is doubled. Default 1000.
	Batch int

	Policies []Policy // for each repository, the first one that matches it; default none

	// PolicyPause is between two runs of the policies over all repositories, by whichever of the collectors that have the same
	// policies. [Once] does not wait for it. Default 1 h.
	PolicyPause time.Duration

	// Immutable reports whether a tag is never moved or deleted; what the registry was given. Policies keep such a tag as one of
	// [Policy].Keep. nil: none is.
	Immutable func(repository, tag string) bool

	Eviction Eviction // of what was pulled through; default: none

	// Pulls is what the registry was given to record pulls; nil: pulls are not known to the policies, nor to evictions.
	Pulls *Pulls

	Logger  *slog.Logger // default: nothing is logged
	Observe func(Event)  // is told of every step, on the caller's goroutine, and must be quick; nil: nobody is told
}

// setDefault sets a field that is zero.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate checks options as [Run], [Once] and [Preview] do, for who wants to know before anything is begun. Its errors name the
// field. o may be nil.
func (o *Options) Validate() error {
	_, err := o.complete()
	return err
}

// complete returns the options with their defaults. Its errors name the field.
func (o *Options) complete() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"Grace", c.Grace}, {"Delay", c.Delay}, {"URLLife", c.URLLife}, {"WriteTimeout", c.WriteTimeout}, {"Again", c.Again}, {"Pause", c.Pause},
		{"PolicyPause", c.PolicyPause}, {"Life.Idle", c.Life.Idle}, {"Life.Total", c.Life.Total}, {"Life.Tombstone", c.Life.Tombstone},
		{"Eviction.Idle", c.Eviction.Idle}, {"Eviction.Pause", c.Eviction.Pause},
	} {
		if d.value < 0 {
			return c, fmt.Errorf("gc options: %s: %v is negative", d.name, d.value)
		}
	}
	if !(c.Share >= 0 && c.Share <= 1) { // nor not a number
		return c, fmt.Errorf("gc options: Share: %v is not above 0 and at most 1", c.Share)
	}
	if c.Batch < 0 {
		return c, fmt.Errorf("gc options: Batch: %d is negative", c.Batch)
	}
	if c.Eviction.Budget < 0 {
		return c, fmt.Errorf("gc options: Eviction.Budget: %d is negative", c.Eviction.Budget)
	}
	if err := ValidatePolicies(c.Policies); err != nil {
		return c, fmt.Errorf("gc options: %w", err)
	}
	const hour, day = time.Hour, 24 * time.Hour
	setDefault(&c.Grace, day)
	setDefault(&c.Delay, hour)
	if c.Delay <= c.URLLife {
		return c, fmt.Errorf("gc options: Delay: %v is not longer than URLLife, %v: a signed URL would outlive the object that it leads to", c.Delay, c.URLLife)
	}
	setDefault(&c.Life.Idle, day)
	setDefault(&c.Life.Total, 6*day)
	setDefault(&c.Life.Tombstone, day)
	setDefault(&c.WriteTimeout, staging.MaxWriteTimeout)
	c.WriteTimeout = min(c.WriteTimeout, staging.MaxWriteTimeout)
	setDefault(&c.Again, 10*time.Minute)
	setDefault(&c.Pause, time.Minute)
	setDefault(&c.Share, 0.05)
	setDefault(&c.Batch, 1000)
	setDefault(&c.PolicyPause, hour)
	if c.Immutable == nil {
		c.Immutable = func(string, string) bool { return false }
	}
	setDefault(&c.Eviction.Pause, 10*time.Minute)
	setDefault(&c.Logger, slog.New(slog.DiscardHandler))
	return c, nil
}

// unfinished is the delay of what a write may still reach.
func (o *Options) unfinished() time.Duration { return max(o.Delay, o.WriteTimeout+o.WriteTimeout/10) }
