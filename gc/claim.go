package gc

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// claimLife is how long others leave work to somebody who may have died.
const claimLife = 5 * time.Minute

// claim keeps collectors from doing the same work side by side, or one after the other. It is one of content that is never
// fetched, as its digest is that of the work's name.
type claim struct {
	meta   Index
	of     digest.Digest
	holder string
	taken  time.Time // last; zero: it is not held
}

// take reports whether the work is this collector's. Whoever works has to ask in between, and asks the index once in a while.
func (c *claim) take(ctx context.Context) (bool, error) {
	if time.Since(c.taken) < claimLife/4 {
		return true, nil
	}
	began := time.Now()
	taken, err := c.meta.ClaimFetch(ctx, c.of, c.holder, claimLife)
	if err != nil {
		return false, fmt.Errorf("claim: %w", err)
	}
	c.taken = time.Time{}
	if taken {
		c.taken = began
	}
	return taken, nil
}

// release leaves the work to others.
func (c *claim) release(ctx context.Context) error {
	c.taken = time.Time{}
	return c.meta.ReleaseFetch(ctx, c.of, c.holder)
}

// rest keeps others from doing again what has just been done.
func (c *claim) rest(ctx context.Context, life time.Duration) error {
	c.taken = time.Time{}
	_, err := c.meta.ClaimFetch(ctx, c.of, c.holder, life)
	return err
}
