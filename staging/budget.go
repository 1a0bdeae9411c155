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
	// pageSize is a multiple of what a chunked body is read in.
	pageSize = 64 << 10

	// fewPages is how many pages an upload may hold without a turn.
	fewPages = 4

	// roundSize is how many times the budget may go by, at most, before whoever waits for a turn has had one. When more
	// wait, turns become shorter, down to the smallest part.
	roundSize = 16
)

// Budget bounds the memory that uploads buffer in, for a whole process: share one between everything that stages. The
// zero value has no pages; use [NewBudget].
//
// Buffers are pages of 64 KiB. An upload has a first page to read into, and may take three more as bytes come, while
// half of the budget is free. To hold more it needs a turn: the pages for all of the part that it is filling, at once.
// So a few uploads fill whole parts while the others wait with next to nothing, and not all of them hold pieces of parts
// that none can complete. Turns are taken in the order of asking; they end when the part has been sent.
//
// A client that is too slow for that gets turns for less: for what it sends in a few seconds, or the smallest part. Slow
// clients take turns among themselves: a quarter of the budget is theirs first, the rest only when no fast one waits.
//
// Nobody waits in a circle:
//   - Who has a turn does not wait for memory. It waits for its client, but when that takes long, and others wait, the
//     upload saves what it has and the turn is over; and it waits for the store.
//   - Who waits for a turn holds a few pages at most, and gives them back, the last in the queue first, when they are
//     needed and nobody has a turn.
//   - Who waits for a first page holds nothing.
//
// Who waits too long is refused with [ErrBusy].
type Budget struct {
	mu     sync.Mutex
	free   [][]byte
	unmade int // pages that were never allocated
	total  int

	turns    int         // that are not over
	slow     int         // pages in turns of slow clients
	first    []*place    // waiting for a page, in the order of their coming
	queues   [2][]*place // waiting for a turn, in that order: fast clients, and slow ones
	yielding int         // of the queues, who was asked for its pages, and has not given them back yet
}

// turn is the right to hold so many pages at once.
type turn struct {
	size int // pages; 0 is no turn
	slow bool
}

// place is one in a queue.
type place struct {
	least, most int // pages of the turn
	slow        bool
	holds       bool          // it has pages that it could give back
	asked       bool          // and was asked to
	granted     chan [][]byte // takes one value
	yield       chan struct{} // takes one value
}

// turn is the one that was granted.
func (p *place) turn(pages [][]byte) turn {
	if p.most == 0 {
		return turn{}
	}
	return turn{len(pages), p.slow}
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
	return int64(b.total-b.leftLocked()) * pageSize
}

// waiting is how many wait.
func (b *Budget) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.first) + len(b.queues[0]) + len(b.queues[1])
}

// share is the part of a time in which everybody who waits can have a turn of that size.
func (b *Budget) share(of time.Duration, size int) time.Duration {
	return of * time.Duration(b.total) / time.Duration(max(size*b.waiting(), 1))
}

// page waits for a page, for at most the given time: ErrBusy, or the context's error. The caller holds none.
func (b *Budget) page(ctx context.Context, wait time.Duration) ([]byte, error) {
	p := b.join(&b.first, &place{})
	pages, err := b.await(ctx, p, wait, nil)
	if err != nil {
		return nil, err
	}
	return pages[0], nil
}

// more returns a page if that leaves so much free, in parts of the whole, and nobody else needs one first; else nil.
func (b *Budget) more(keep int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.first) > 0 || b.leftLocked() <= keep {
		return nil
	}
	return made(b.takeLocked(1)[0])
}

// turn waits for a turn of least to most pages; of fewer only if there is no other way. Pages may be nil: made makes
// them. settle is called when the pages that the caller holds are needed; it gives them back, and the caller keeps its
// place. ErrBusy, or the context's error, or settle's.
func (b *Budget) turn(ctx context.Context, wait time.Duration, least, most int, slow bool, settle func() error) ([][]byte, turn, error) {
	most = min(most, b.total-b.total/8)
	p := &place{least: min(least, most), most: most, slow: slow, holds: true}
	queue := &b.queues[0]
	if slow {
		queue = &b.queues[1]
	}
	pages, err := b.await(ctx, b.join(queue, p), wait, settle)
	return pages, p.turn(pages), err
}

// give returns pages, and ends a turn if one is given.
func (b *Budget) give(pages [][]byte, t turn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveLocked(pages, t)
	b.serveLocked()
}

func (b *Budget) join(queue *[]*place, p *place) *place {
	p.granted, p.yield = make(chan [][]byte, 1), make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	*queue = append(*queue, p)
	b.serveLocked()
	return p
}

// await waits at a place.
func (b *Budget) await(ctx context.Context, p *place, wait time.Duration, settle func() error) ([][]byte, error) {
	select {
	case pages := <-p.granted:
		return pages, nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		var err error
		select {
		case pages := <-p.granted:
			return pages, nil
		case <-p.yield:
			err = settle()
			b.yielded(p)
		case <-timer.C:
			err = ErrBusy
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			b.leave(p)
			return nil, err
		}
	}
}

// yielded tells that a place has given its pages back.
func (b *Budget) yielded(p *place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.yieldedLocked(p)
	b.serveLocked()
}

func (b *Budget) yieldedLocked(p *place) {
	if p.asked {
		p.asked = false
		b.yielding--
	}
	p.holds = false
}

// leave gives up a place. Pages that were handed over meanwhile go to whoever is next.
func (b *Budget) leave(p *place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.yieldedLocked(p)
	for _, queue := range []*[]*place{&b.first, &b.queues[0], &b.queues[1]} {
		if i := slices.Index(*queue, p); i >= 0 {
			*queue = slices.Delete(*queue, i, i+1)
			b.serveLocked()
			return
		}
	}
	pages := <-p.granted
	b.giveLocked(pages, p.turn(pages))
	b.serveLocked()
}

// serveLocked hands out what can be handed out: first pages before turns, since they are few and let small uploads
// through.
func (b *Budget) serveLocked() {
	for len(b.first) > 0 && b.leftLocked() > 0 {
		page := b.takeLocked(1)
		page[0] = made(page[0])
		b.first[0].granted <- page
		b.first = slices.Delete(b.first, 0, 1)
	}
	for {
		queue := b.nextLocked()
		if len(*queue) == 0 {
			break
		}
		head, left := (*queue)[0], b.leftLocked()
		n := min(max(roundSize*b.total/len(*queue), head.least), head.most)
		if n > left {
			// When a turn is over, or a place has yielded, there will be more. Else there is no other way than a shorter turn.
			if b.turns > 0 || b.askLocked(head, left == 0) || left == 0 {
				return
			}
			n = left
		}
		b.turns++
		if head.slow {
			b.slow += n
		}
		b.yieldedLocked(head) // what it holds goes into the turn
		head.granted <- b.takeLocked(n)
		*queue = slices.Delete(*queue, 0, 1)
	}
	if len(b.first) > 0 && b.turns == 0 {
		b.askLocked(nil, false)
	}
}

// nextLocked is the queue whose turn it is.
func (b *Budget) nextLocked() *[]*place {
	fast, slow := &b.queues[0], &b.queues[1]
	if len(*fast) == 0 || len(*slow) > 0 && b.slow < b.total/4 {
		return slow
	}
	return fast
}

// askLocked asks the last in the queues that holds pages to give them back; head only if there is no other, and that
// is said. It reports whether somebody is about to.
func (b *Budget) askLocked(head *place, self bool) bool {
	ask := func(p *place) {
		if p.holds && b.yielding == 0 {
			p.asked, p.holds = true, false
			b.yielding++
			p.yield <- struct{}{} // never blocks: it is asked once
		}
	}
	for _, queue := range [][]*place{b.queues[1], b.queues[0]} {
		for _, p := range slices.Backward(queue) {
			if p != head {
				ask(p)
			}
		}
	}
	if head != nil && self {
		ask(head)
	}
	return b.yielding > 0
}

// leftLocked is how many pages are not handed out.
func (b *Budget) leftLocked() int { return len(b.free) + b.unmade }

// takeLocked takes n pages; those that were never allocated are nil.
func (b *Budget) takeLocked(n int) [][]byte {
	pages := make([][]byte, n)
	kept := max(len(b.free)-n, 0)
	taken := copy(pages, b.free[kept:])
	clear(b.free[kept:])
	b.free = b.free[:kept]
	b.unmade -= n - taken
	return pages
}

func (b *Budget) giveLocked(pages [][]byte, t turn) {
	for _, page := range pages {
		if page == nil {
			b.unmade++
		} else {
			b.free = append(b.free, page)
		}
	}
	if t.size > 0 {
		b.turns--
	}
	if t.slow {
		b.slow -= t.size
	}
}

// made returns the page, allocated if it never was.
func made(page []byte) []byte {
	if page == nil {
		return make([]byte, pageSize)
	}
	return page
}
