package upstream

import (
	"sync"
	"time"

	"github.com/ocikit/ocikit/registry"
)

// An upstream that says 429 is left alone for as long as it asks, within bounds. One that fails is not asked to confirm what is
// known for a while, which grows as long as it fails.
const (
	standardPause = 30 * time.Second
	longestPause  = time.Hour
	firstFailure  = time.Second
	lastFailure   = time.Minute
)

// pause is what keeps us from hammering an upstream that does not want to, or cannot, answer.
type pause struct {
	mu       sync.Mutex
	limited  time.Time // it has said 429; until then it is asked for nothing
	failing  time.Time // until then it is not asked to confirm
	failures int       // in a row
}

// limit notes that the upstream wants to be left alone, and returns what clients are told; 0 is an answer that did not say for how long.
func (p *pause) limit(after time.Duration) error {
	if after <= 0 {
		after = standardPause
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(min(after, longestPause)); until.After(p.limited) { // others that are on their way know less
		p.limited = until
	}
	return limited(time.Until(p.limited))
}

// refusal returns the error of a request that must not be sent, or nil.
func (p *pause) refusal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := time.Until(p.limited); left > 0 {
		return limited(left)
	}
	return nil
}

func limited(left time.Duration) error {
	return &registry.RetryError{Err: registry.ErrTooManyRequests.With("the upstream registry limits how much may be pulled"), After: left}
}

// note remembers whether the upstream answered.
func (p *pause) note(answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if answered {
		p.failures, p.failing = 0, time.Time{}
		return
	}
	p.failing = time.Now().Add(min(firstFailure<<min(p.failures, 10), lastFailure))
	p.failures++
}

// mayConfirm reports whether to ask the upstream for what is known already.
func (p *pause) mayConfirm() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	return !now.Before(p.limited) && !now.Before(p.failing)
}
