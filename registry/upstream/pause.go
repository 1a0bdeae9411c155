package upstream

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/ocikit/ocikit/registry"
)

// An upstream that asks to be left alone is, for as long as it asks, within bounds. One that fails is not asked to confirm what is known
// for a while, which grows as long as it fails.
const (
	standardPause = 30 * time.Second
	longestPause  = time.Hour
	shortPause    = 2 * time.Second // one that is waited for
	firstFailure  = time.Second
	lastFailure   = time.Minute
	mostTroubles  = 10_000
)

// pause is what keeps us from hammering an upstream that does not want to, or cannot, answer. What concerns one repository, such as a
// failure to find something of it, is noted of that alone: else a client that asks for what is broken would keep all others from news.
type pause struct {
	mu       sync.Mutex
	limited  time.Time // it wants to be left alone; until then it is asked for nothing
	host     trouble   // to connect
	troubles *simplelru.LRU[string, trouble]
}

// trouble is that something fails.
type trouble struct {
	until    time.Time // it is not asked to confirm
	failures int       // in a row
}

func (t trouble) again() trouble {
	return trouble{time.Now().Add(min(firstFailure<<min(t.failures, 10), lastFailure)), t.failures + 1}
}

func newPause() *pause {
	p := &pause{}
	p.troubles, _ = simplelru.NewLRU[string, trouble](mostTroubles, nil) // fails only for a size below 1
	return p
}

// limit notes that the upstream limits what may be pulled, and for how long it wants to be left alone; 0 if it does not say.
func (p *pause) limit(after time.Duration) {
	if after <= 0 {
		after = standardPause
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(min(after, longestPause)); until.After(p.limited) { // others that are on their way know less
		p.limited = until
	}
}

var errLimited = registry.ErrTooManyRequests.With("the upstream registry limits how much may be pulled")

// refusal returns the error of a request that must not be sent, or nil.
func (p *pause) refusal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if left := time.Until(p.limited); left > 0 {
		return &registry.RetryError{Err: errLimited, After: left}
	}
	return nil
}

// answered notes that the upstream has answered what was asked of a repository.
func (p *pause) answered(repository string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.host = trouble{}
	p.troubles.Remove(repository)
}

// busy notes that it wants to be left alone with what is asked of a repository: it may say so of one thing that is broken.
func (p *pause) busy(repository string, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, _ := p.troubles.Get(repository)
	p.troubles.Add(repository, trouble{time.Now().Add(min(after, longestPause)), last.failures + 1})
}

// failed notes that it has not.
func (p *pause) failed(repository string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, _ := p.troubles.Get(repository)
	p.troubles.Add(repository, last.again())
}

// unreachable notes that nobody could connect to the upstream, whatever for.
func (p *pause) unreachable() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.host = p.host.again()
}

// mayConfirm reports whether to ask the upstream for what is known already of a repository.
func (p *pause) mayConfirm(repository string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	last, _ := p.troubles.Get(repository)
	return !now.Before(p.limited) && !now.Before(p.host.until) && !now.Before(last.until)
}

// heeding looks at all answers, those of whoever gives tokens, too: what becomes of them does not show their headers.
type heeding struct {
	http.RoundTripper
	guard *guard
	pause *pause
}

// heard is what a server has said that was busy.
type heard struct {
	after atomic.Int64 // for how long it wants to be left alone
}

type heardKey struct{}

// RoundTrip implements [http.RoundTripper].
func (h heeding) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := h.RoundTripper.RoundTrip(req)
	if err != nil || h.guard.isElsewhere(req) {
		return resp, err
	}
	after := retryAfter(resp.Header)
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		h.pause.limit(after)
	case http.StatusServiceUnavailable:
		if heard, ok := req.Context().Value(heardKey{}).(*heard); ok {
			heard.after.Store(int64(after))
		}
	}
	return resp, nil
}
