package staging

import (
	"context"
	"errors"
	"io"
	"time"
)

// maxEmptyReads is how many Reads in a row may return nothing, before the body is given up; as in package bufio.
const maxEmptyReads = 100

// claimWait is how long a client may be waited for before the upload is claimed. Otherwise a request that stalls could
// take it from one that came later, by what is saved when it is found to be broken.
const claimWait = 50 * time.Millisecond

const (
	// fastTurn and slowTurn are how long a turn may last while others wait. A client that needs longer than the first
	// for the smallest part is slow.
	fastTurn = 1500 * time.Millisecond
	slowTurn = 5 * time.Second

	// leastTurn is the size of the smallest turn that is worth an object.
	leastTurn = 1 << 20

	// turnCheck is how often somebody is looked for who waits.
	turnCheck = 50 * time.Millisecond

	forever = 1000 * time.Hour
)

// pace measures a client's rate: the bytes that came while it was waited for.
type pace struct {
	bytes  int64
	waited time.Duration
}

func (p *pace) add(n int, waited time.Duration) {
	p.bytes += int64(n)
	p.waited += waited
}

// in is how many bytes come in a time, at most so many.
func (p pace) in(time time.Duration, most int64) int64 {
	if bytes := float64(p.bytes) * float64(time) / float64(p.waited); bytes < float64(most) {
		return int64(bytes)
	}
	return most // also when nothing was measured
}

// receive takes the chunk's bytes until it ends or fails. What it took is durable only after settle.
func (w *writer) receive(ctx context.Context, chunk Chunk) error {
	if chunk.Body == nil || chunk.Size == 0 {
		return nil
	}
	start, limit := w.session.Offset, w.stage.options.MaxSize
	if chunk.Size > limit-start {
		return &SizeError{Limit: limit}
	}
	in := newReceiver(chunk.Body)
	defer in.stop()
	for empty := 0; empty < maxEmptyReads; empty++ {
		left := int64(-1)
		if chunk.Size >= 0 {
			left = start + chunk.Size - w.received()
		}
		space, err := w.space(ctx, left)
		if err != nil {
			return err
		}
		if left >= 0 {
			space = space[:min(int64(len(space)), left)]
		}
		in.read(space)
		w.catchUp() // while more is received
		got, err := w.await(in)
		if err != nil {
			return err
		}
		n := min(got.n, int(max(limit-w.received(), 0)))
		if err := w.take(n); err != nil {
			return err
		}
		switch {
		case n < got.n:
			return &SizeError{Limit: limit}
		case w.received() == start+chunk.Size, errors.Is(got.err, io.EOF) && chunk.Size < 0:
			return nil
		case errors.Is(got.err, io.EOF):
			return &BodyError{Err: io.ErrUnexpectedEOF}
		case got.err != nil:
			return &BodyError{Err: got.err}
		case ctx.Err() != nil:
			return &BodyError{Err: context.Cause(ctx)}
		case n > 0:
			empty = -1
		}
	}
	return &BodyError{Err: io.ErrNoProgress}
}

// space returns where to read into next, when left bytes are still to come, or -1 when that is not known.
func (w *writer) space(ctx context.Context, left int64) ([]byte, error) {
	if w.room() > 0 || w.current.endsEmpty() {
		if space := w.current.space(w.fill()); len(space) > 0 {
			return space, nil
		}
	}
	if err := w.grow(ctx, left); err != nil {
		return nil, err
	}
	return w.current.space(w.fill()), nil
}

// grow adds a page to current. It may have to wait for one.
//
// A full part is cut first. But when the first one is full, and no more bytes may come, they are waited for in a page of
// their own: content of exactly one part needs no parts.
func (w *writer) grow(ctx context.Context, left int64) error {
	budget, wait := w.stage.options.Budget, w.stage.options.Busy
	if w.room() <= 0 && (left > 0 || w.begun()) {
		if err := w.cut(); err != nil {
			return err
		}
	}
	if w.current.growNext() {
		return nil
	}
	if w.current.inTurn() { // which was too short for the part
		if w.room() <= 0 {
			if page := budget.more(0); page != nil {
				w.current.grow(page)
				return nil
			}
		}
		if err := w.cutShort(); err != nil {
			return err
		}
	}
	held := len(w.current.pages)
	if held == 0 {
		page, err := budget.page(ctx, wait)
		if err != nil {
			return err
		}
		w.current.grow(page)
		return nil
	}
	if held < fewPages {
		if page := budget.more(budget.total / 2); page != nil {
			w.current.grow(page)
			return nil
		}
	}
	return w.takeTurn(ctx, left)
}

// takeTurn waits for a turn, for as much of the part that is being filled as the client sends in time.
func (w *writer) takeTurn(ctx context.Context, left int64) error {
	size, least, slow := w.turnSize(left)
	pages := func(size int64) int { return int((max(size, 1) + pageSize - 1) / pageSize) }
	budget := w.stage.options.Budget
	next, turn, err := budget.turn(ctx, w.stage.options.Busy, pages(least), pages(size), slow, func() error { return w.settle(false) })
	if err != nil {
		return err
	}
	w.current.begin(next, turn)
	w.current.growNext()
	w.pace, w.turnBegan = pace{}, time.Now()
	return nil
}

// turnSize is how many more bytes a turn is for: at most, and at least so that others may follow the part.
func (w *writer) turnSize(left int64) (most, least int64, slow bool) {
	room, filled := w.room(), w.session.PartSize-w.room()
	if room <= 0 {
		return 1, 1, false // to wait for the first byte of another part
	}
	small, enough := w.smallPart(), w.smallPart()
	if w.stage.limits.MinPart < leastTurn {
		enough = w.session.PartSize // small parts are as good
	}
	if slow = w.pace.in(w.turnTime(false, w.session.PartSize), enough) < enough; slow {
		room = min(room, max(small-filled, 0), w.pace.in(slowTurn, small))
		room = max(room, leastTurn)
	}
	if left >= 0 {
		room = min(room, left)
	}
	if slow || !w.mayBePart(w.session.PartSize-1) {
		return room, room, slow
	}
	return room, min(w.stage.limits.MinPart-filled, room), slow
}

// smallPart is the size of a part that is not much dearer than one of the preferred size.
func (w *writer) smallPart() int64 { return max(w.stage.limits.MinPart, w.session.PartSize/4) }

// turnTime is how long a turn may last while others wait.
func (w *writer) turnTime(slow bool, size int64) time.Duration {
	most := fastTurn
	if slow {
		most = slowTurn
	}
	return min(most, w.stage.options.Budget.share(w.stage.options.Busy/2, int(size/pageSize)))
}

// cutShort sends what is there as a part, or saves it otherwise, so that the turn is over.
func (w *writer) cutShort() error {
	if w.mayBePart(w.session.PartSize - w.room()) {
		return w.cut()
	}
	return w.settle(false)
}

// fill is how many bytes can be read before a part has to be cut.
func (w *writer) fill() int64 {
	if room := w.room(); room > 0 {
		return room
	}
	return w.session.PartSize
}

// await waits for the Read under way. If that takes a while, the upload is claimed; if it takes long, what has come
// before is saved, and its buffers are given back; sooner if others wait for them.
func (w *writer) await(in *receiver) (received, error) {
	begin := time.Now()
	claim, idle := begin.Add(claimWait), begin.Add(w.stage.options.Idle)
	for {
		next := time.Until(idle)
		if w.current.inTurn() {
			next = min(next, turnCheck)
		}
		if !w.claimed {
			next = min(next, time.Until(claim))
		}
		in.timer.Reset(next)
		select {
		case got := <-in.results:
			w.pace.add(got.n, time.Since(begin))
			return got, nil
		case <-in.timer.C:
		}
		now, err := time.Now(), error(nil)
		switch {
		case !w.claimed && !now.Before(claim):
			err = w.claim()
		case !now.Before(idle):
			err = w.settleReading(true, false)
			idle = now.Add(forever) // nothing is left to save
		case w.overdue():
			err = w.settleReading(true, false)
		}
		if err != nil {
			return received{}, err
		}
	}
}

// take counts n bytes that were read into space, and cuts a part before them when there are enough for one.
func (w *writer) take(n int) error {
	if n > 0 {
		if w.room() <= 0 {
			if err := w.cut(); err != nil {
				return err
			}
		}
		w.unhashed = w.current.took(n)
	}
	if time.Since(w.savedAt) >= w.stage.options.SaveEvery || w.overdue() {
		return w.settle(false)
	}
	return nil
}

// overdue reports whether the turn has lasted long enough, since others wait.
func (w *writer) overdue() bool {
	t := w.current.turn
	return t.size > 0 && w.stage.options.Budget.waiting() > 0 &&
		time.Since(w.turnBegan) > w.turnTime(t.slow, int64(t.size)*pageSize)
}

// catchUp hashes what has come.
func (w *writer) catchUp() {
	w.hashes.write(w.unhashed)
	w.unhashed = nil
}

// receiver reads a client's body on a goroutine of its own, one Read at a time into space that it is handed, so that an
// upload can do something else while its client is slow. The goroutine ends with stop.
type receiver struct {
	spaces  chan []byte
	results chan received
	timer   *time.Timer // for who waits for results
}

type received struct {
	n   int
	err error
}

func newReceiver(r io.Reader) *receiver {
	in := &receiver{spaces: make(chan []byte), results: make(chan received, 1), timer: time.NewTimer(forever)}
	go func() {
		defer close(in.results)
		for space := range in.spaces {
			n, err := r.Read(space)
			in.results <- received{n, err}
		}
	}()
	return in
}

// read begins a Read into space; its outcome comes on results.
func (in *receiver) read(space []byte) { in.spaces <- space }

// stop returns when the last Read has, and the goroutine is gone.
func (in *receiver) stop() {
	in.timer.Stop()
	close(in.spaces)
	for got := range in.results {
		_ = got // bytes that came after the end of it all
	}
}
