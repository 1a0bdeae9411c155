package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// A claim to fetch lasts for a while, and is renewed as long as the transfer goes on.
const (
	claimLife  = time.Minute
	claimRenew = claimLife / 3
	claimEnd   = 5 * time.Second // for releasing it
)

// lease is the claim to fetch and keep content, which no other replica has at the same time; or that there is none.
type lease struct {
	held bool
	end  func()
}

func (l *lease) release() { l.end() }

// claim claims content, and renews the claim until it is released. Where the index cannot be asked, nothing is claimed, and nothing is
// kept: the client still gets what it wants.
func (r *Registry) claim(ctx context.Context, d digest.Digest) (*lease, error) {
	me := store.NewID() // each claim's own: of two repositories' with one layer, neither ends the other's
	held, err := r.meta.ClaimFetch(ctx, d, me, claimLife)
	if err != nil || !held {
		return &lease{end: func() {}}, err
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
				_, _ = r.meta.ClaimFetch(renewing, d, me, claimLife)
			}
		}
	})
	return &lease{held: true, end: func() {
		stop()
		renewed.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimEnd)
		defer cancel()
		_ = r.meta.ReleaseFetch(ctx, d, me) // it ends by itself, later
	}}, nil
}
