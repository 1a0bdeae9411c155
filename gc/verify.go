package gc

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/store"
)

// verify reads the object of a row, and reports whether it is the content that the digest names.
func (a *audit) verify(ctx context.Context, row store.StoredContent) (bool, error) {
	if !cas.Supported(row.Digest.Algorithm()) {
		return false, fmt.Errorf("digest %s: algorithm not supported", row.Digest)
	}
	r, err := a.objects.Open(ctx, row.Key, 0, -1)
	if err != nil {
		return false, fmt.Errorf("open object: %w", err)
	}
	defer r.Close()
	verifier := row.Digest.Verifier()
	n, err := io.CopyBuffer(verifier, &limited{ctx: ctx, limiter: &a.limiter, from: r}, make([]byte, 64<<10))
	a.report.Read += n
	if err != nil {
		return false, fmt.Errorf("read object %s: %w", row.Key, err)
	}
	a.tell()
	return verifier.Verified(), nil
}

// limiter lets so many bytes a second pass, and makes up for no time in which none came.
type limiter struct {
	rate int64 // bytes a second; 0: any
	free time.Time
}

// wait waits until the next bytes may come, after n have.
func (l *limiter) wait(ctx context.Context, n int) error {
	if l.rate == 0 {
		return ctx.Err()
	}
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	timer := time.NewTimer(l.free.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// limited is a reader that a limiter slows down.
type limited struct {
	ctx     context.Context
	limiter *limiter
	from    io.Reader
}

func (r *limited) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil {
		return n, err
	}
	return n, r.limiter.wait(r.ctx, n)
}
