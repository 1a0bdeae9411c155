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

const (
	// pageSize is what a client that sends nothing can hold of a [Budget]. It is a multiple of what a chunked body is
	// read in.
	pageSize = 64 << 10

	// pageWait is how long an upload that holds buffers waits for one more before it gives them back.
	pageWait = 50 * time.Millisecond
)

// Budget bounds the memory that uploads buffer in, for a whole process: share one between everything that stages.
// Buffers are handed out in pages of 64 KiB as bytes arrive. When there are none left, uploads wait, first come first
// served; they do not grow. The zero value has no pages; use [NewBudget].
type Budget struct {
	mu      sync.Mutex
	free    [][]byte
	unmade  int // pages that were never allocated
	total   int
	waiting []chan []byte // in the order of their coming
}

// DefaultBudget is the size of a budget in bytes where nobody chose one: 64 MiB.
const DefaultBudget = 64 << 20

// NewBudget returns a budget of size bytes, rounded down to pages, at least 16 of them (1 MiB). Pages are allocated
// when they are first needed, and then kept.
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

// take waits for a page, for at most the given time. ErrBusy, or the context's error, or settle's.
//
// When no page comes soon, settle is called, which gives back all that the caller holds, and the caller keeps its place.
// Whoever waits for long so holds nothing, and uploads cannot wait for each other's pages in a circle.
func (b *Budget) take(ctx context.Context, wait time.Duration, settle func() error) ([]byte, error) {
	page, place := b.join()
	if page != nil {
		return page, nil
	}
	page, err := await(ctx, place, min(pageWait, wait))
	if errors.Is(err, ErrBusy) {
		if err = settle(); err == nil {
			page, err = await(ctx, place, wait)
		}
	}
	if err != nil {
		b.leave(place)
		return nil, err
	}
	return page, nil
}

// join returns a page, or a place in the queue.
func (b *Budget) join() (page []byte, place chan []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if free := len(b.free) - 1; len(b.waiting) == 0 && free >= 0 {
		page, b.free = b.free[free], b.free[:free]
		return page, nil
	}
	if len(b.waiting) == 0 && b.unmade > 0 {
		b.unmade--
		return make([]byte, pageSize), nil
	}
	place = make(chan []byte, 1)
	b.waiting = append(b.waiting, place)
	return nil, place
}

// await waits at a place in the queue.
func await(ctx context.Context, place <-chan []byte, wait time.Duration) ([]byte, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case page := <-place:
		return page, nil
	case <-timer.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// leave gives up a place in the queue. A page that was handed over meanwhile goes to whoever is next.
func (b *Budget) leave(place chan []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, place); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
		return
	}
	b.giveLocked(<-place)
}

// give returns a page.
func (b *Budget) give(page []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveLocked(page)
}

func (b *Budget) giveLocked(page []byte) {
	if len(b.waiting) > 0 {
		b.waiting[0] <- page // never blocks: a place takes one page
		b.waiting = slices.Delete(b.waiting, 0, 1)
		return
	}
	b.free = append(b.free, page)
}
