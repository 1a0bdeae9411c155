package staging

import (
	"context"
	"errors"
	"io"
	"time"
)

// pageWait is how long an upload that holds buffers waits for one more before it saves what it has and gives them back. Whoever
// waits longer holds nothing, so uploads cannot wait for each other's buffers in a circle.
const pageWait = 50 * time.Millisecond

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
	for {
		space, err := w.space(ctx)
		if err != nil {
			return err
		}
		if chunk.Size >= 0 {
			space = space[:min(int64(len(space)), start+chunk.Size-w.received())]
		}
		in.read(space)
		got, err := w.await(in)
		if err != nil {
			return err
		}
		if err := w.take(got.n); err != nil {
			return err
		}
		whole := w.received() == start+chunk.Size
		switch {
		case w.received() > limit:
			return &SizeError{Limit: limit}
		case whole, errors.Is(got.err, io.EOF) && chunk.Size < 0:
			return nil
		case errors.Is(got.err, io.EOF):
			return &BodyError{Err: io.ErrUnexpectedEOF}
		case got.err != nil:
			return &BodyError{Err: got.err}
		}
	}
}

// space returns where to read into next. It may have to wait for a buffer: it then saves what it has, rather than hold what
// others wait for.
func (w *writer) space(ctx context.Context) ([]byte, error) {
	if err := w.makeRoom(); err != nil {
		return nil, err
	}
	if space := w.current.space(w.room()); len(space) > 0 {
		return space, nil
	}
	page, err := w.stage.options.Budget.take(ctx, pageWait)
	if errors.Is(err, ErrBusy) {
		if err := w.settle(false); err != nil {
			return nil, err
		}
		if err := w.makeRoom(); err != nil {
			return nil, err
		}
		page, err = w.stage.options.Budget.take(ctx, w.stage.options.Busy)
	}
	if err != nil {
		return nil, err
	}
	w.current.grow(page)
	return w.current.space(w.room()), nil
}

// makeRoom cuts a part when there are enough bytes for one. It is called only when more are to come, so that content of
// exactly one part needs none.
func (w *writer) makeRoom() error {
	if w.room() > 0 {
		return nil
	}
	return w.cut()
}

// await waits for the Read under way. If that takes long, what has come before is saved, and its buffers are given back.
func (w *writer) await(in *receiver) (received, error) {
	idle := time.NewTimer(w.stage.options.Idle)
	defer idle.Stop()
	for {
		select {
		case got := <-in.results:
			return got, nil
		case <-idle.C:
			if err := w.settleReading(true, false); err != nil {
				return received{}, err
			}
		}
	}
}

// take counts n bytes that were read into the space at the end of current.
func (w *writer) take(n int) error {
	if n > 0 {
		w.hashes.write(w.current.space(int64(n)))
		w.current.took(n)
	}
	if time.Since(w.savedAt) >= w.stage.options.SaveEvery {
		return w.settle(false)
	}
	return nil
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
