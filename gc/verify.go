package gc

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ocikit/ocikit/store"
)

// verify reads the object of a row, and reports whether it is the content that the digest names, whose algorithm must be supported.
func (a *audit) verify(ctx context.Context, row store.StoredContent) (bool, error) {
	r, err := a.objects.Open(ctx, row.Key, 0, -1)
	if err != nil {
		return false, fmt.Errorf("open object: %w", err)
	}
	defer r.Close()
	verifier := row.Digest.Verifier()
	if _, err := io.CopyBuffer(verifier, &limited{ctx: ctx, audit: a, from: r}, make([]byte, 64<<10)); err != nil {
		return false, fmt.Errorf("read object %s: %w", row.Key, err)
	}
	a.tell()
	return verifier.Verified(), nil
}

// tellEvery is how many bytes are read before somebody is told.
const tellEvery = 1 << 20

// counted counts bytes that were read, and tells of them once in a while.
func (a *audit) counted(n int) {
	before := a.report.Read / tellEvery
	a.report.Read += int64(n)
	if a.report.Read/tellEvery > before {
		a.tell()
	}
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

// limited is a reader whose bytes an audit counts, and slows down.
type limited struct {
	ctx   context.Context
	audit *audit
	from  io.Reader
}

func (r *limited) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.audit.counted(n)
	if err != nil {
		return n, err
	}
	return n, r.audit.limiter.wait(r.ctx, n)
}
