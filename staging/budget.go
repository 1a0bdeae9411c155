package staging

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrBusy says that no buffer came free in time. What the upload had received before is kept.
var ErrBusy = errors.New("no buffer came free in time")

// pageSize is what a client that sends nothing can hold of a [Budget]. It is a multiple of what a chunked body is read in.
const pageSize = 64 << 10

// Budget bounds the memory that uploads buffer in, for a whole process: share one between everything that stages. Buffers
// are handed out in pages of 64 KiB as bytes arrive. When there are none left, uploads wait, first come first served; they do not
// grow. The zero value has no pages; use [NewBudget].
type Budget struct {
	mu      sync.Mutex
	free    [][]byte
	unmade  int // pages that were never allocated
	total   int
	waiting []chan []byte // in the order of their coming
}

// DefaultBudget is the size of a budget in bytes where nobody chose one: 64 MiB.
const DefaultBudget = 64 << 20

// NewBudget returns a budget of size bytes, rounded down to pages, at least 16 of them (1 MiB). Pages are allocated when they are first needed, and
// then kept.
func NewBudget(size int64) *Budget {
	pages := max(int(size/pageSize), 16)
	return &Budget{unmade: pages, total: pages}
}

// Size returns the budget in bytes.
func (b *Budget) Size() int64 { return int64(b.total) * pageSize }

// Held returns how many bytes of it are handed out.
func (b *Budget) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.total-b.unmade-len(b.free)) * pageSize
}

// try returns a page, or nil when there is none, or others wait already.
func (b *Budget) try() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tryLocked()
}

func (b *Budget) tryLocked() []byte {
	switch {
	case len(b.waiting) > 0:
		return nil
	case len(b.free) > 0:
		page := b.free[len(b.free)-1]
		b.free = b.free[:len(b.free)-1]
		return page
	case b.unmade > 0:
		b.unmade--
		return make([]byte, pageSize)
	}
	return nil
}

// take waits for a page, for at most the given time. ErrBusy, or the context's error.
func (b *Budget) take(ctx context.Context, wait time.Duration) ([]byte, error) {
	b.mu.Lock()
	if page := b.tryLocked(); page != nil {
		b.mu.Unlock()
		return page, nil
	}
	mine := make(chan []byte, 1)
	b.waiting = append(b.waiting, mine)
	b.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case page := <-mine:
		return page, nil
	case <-timer.C:
		return b.leave(mine, ErrBusy)
	case <-ctx.Done():
		return b.leave(mine, context.Cause(ctx))
	}
}

// leave gives up waiting. A page that was handed over meanwhile is taken after all.
func (b *Budget) leave(mine chan []byte, err error) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, mine); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
		return nil, err
	}
	return <-mine, nil
}

// give returns a page.
func (b *Budget) give(page []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 {
		b.waiting[0] <- page
		b.waiting = slices.Delete(b.waiting, 0, 1)
		return
	}
	b.free = append(b.free, page)
}
