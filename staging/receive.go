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
		space, err := w.space(ctx)
		if err != nil {
			return err
		}
		if chunk.Size >= 0 {
			space = space[:min(int64(len(space)), start+chunk.Size-w.received())]
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

// space returns where to read into next. It may have to wait for a buffer: it then saves what it has, rather than hold
// what others wait for.
//
// When the part that is being filled is full, that is a page of its own: whether there will be another part is not known
// before a byte of it has come, and content of exactly one part needs none.
func (w *writer) space(ctx context.Context) ([]byte, error) {
	if w.room() > 0 || w.current.endsEmpty() {
		if space := w.current.space(w.fill()); len(space) > 0 {
			return space, nil
		}
	}
	page, err := w.stage.options.Budget.take(ctx, w.stage.options.Busy, func() error { return w.settle(false) })
	if err != nil {
		return nil, err
	}
	w.current.grow(page)
	return w.current.space(w.fill()), nil
}

// fill is how many bytes can be read before a part has to be cut.
func (w *writer) fill() int64 {
	if room := w.room(); room > 0 {
		return room
	}
	return w.session.PartSize
}

// await waits for the Read under way. If that takes a while, the upload is claimed; if it takes long, what has come
// before is saved, and its buffers are given back.
func (w *writer) await(in *receiver) (received, error) {
	var claim <-chan time.Time
	if !w.claimed {
		timer := time.NewTimer(claimWait)
		defer timer.Stop()
		claim = timer.C
	}
	idle := time.NewTimer(w.stage.options.Idle)
	defer idle.Stop()
	for {
		var err error
		select {
		case got := <-in.results:
			return got, nil
		case <-claim:
			err = w.claim()
		case <-idle.C:
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
	if time.Since(w.savedAt) >= w.stage.options.SaveEvery {
		return w.settle(false)
	}
	return nil
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
}

type received struct {
	n   int
	err error
}

func newReceiver(r io.Reader) *receiver {
	in := &receiver{spaces: make(chan []byte), results: make(chan received, 1)}
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
	close(in.spaces)
	for got := range in.results {
		_ = got // bytes that came after the end of it all
	}
}
