package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// A claim to fetch lasts for a while, and is renewed as long as the transfer goes on.
const (
	claimLife  = time.Minute
	claimRenew = claimLife / 3
	claimEnd   = 5 * time.Second // for releasing it
)

// lease is the claim to fetch and keep content, which no other replica has at the same time; or that there is none.
type lease struct {
	held  bool
	known bool // somebody else has it
	end   func()
}

func (l *lease) release() { l.end() }

// claim claims content, and renews the claim until it is released. Where the index cannot be asked, nothing is claimed, and nothing is
// kept: the client still gets what it wants.
func (r *Registry) claim(ctx context.Context, d digest.Digest) *lease {
	held, err := r.meta.ClaimFetch(ctx, d, r.me, claimLife)
	if err != nil {
		r.notKept(ctx, d.String(), err)
		return &lease{end: func() {}}
	}
	if !held {
		return &lease{known: true, end: func() {}}
	}
	renewing, stop := context.WithCancel(ctx)
	var renewed sync.WaitGroup
	renewed.Go(func() {
		ticker := time.NewTicker(claimRenew)
		defer ticker.Stop()
		for {
			select {
			case <-renewing.Done():
				return
			case <-ticker.C:
				// A renewal that fails costs work that is done twice, no more.
				_, _ = r.meta.ClaimFetch(renewing, d, r.me, claimLife)
			}
		}
	})
	return &lease{held: true, end: func() {
		stop()
		renewed.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimEnd)
		defer cancel()
		_ = r.meta.ReleaseFetch(ctx, d, r.me) // it ends by itself, later
	}}
}
