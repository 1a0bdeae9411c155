package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ahead is how far a reader may begin behind what has come, and still wait for it.
const ahead = 1 << 20

// errGone says that the bytes of a fetch are not here any more.
var errGone = errors.New("the transfer has ended")

// read returns a reader of a part of the blob. It returns none where the caller had better ask the upstream for it: the part is far
// ahead of what has come, or somebody else reads what is not spooled. errGone.
func (f *fetch) read(ctx context.Context, offset, end int64) (io.ReadCloser, error) {
	if f.pipe != nil {
		if offset == 0 && end == f.size {
			if reader := f.pipe.first(); reader != nil {
				return &streamed{ctx: ctx, reader: reader, stop: context.AfterFunc(ctx, func() { f.pipe.abandon(reader) }), stream: f.pipe}, nil
			}
		}
		return nil, nil
	}
	f.mu.Lock()
	far, err := !f.complete && offset > f.written+ahead, f.err
	f.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case far:
		return nil, nil
	case !f.again():
		return nil, errGone
	}
	reader := &follower{fetch: f, ctx: ctx, offset: offset, end: end, whole: offset == 0 && end == f.size}
	if !f.follow(reader) {
		f.leave(false)
		return nil, errGone
	}
	return reader, nil
}

// follower reads what a fetch has spooled, and waits for what it has not.
type follower struct {
	fetch  *fetch
	ctx    context.Context
	end    int64
	whole  bool          // it reads the whole blob, of which the digest is known
	keeper bool          // and not one of the fetch's readers
	alone  io.ReadCloser // what it reads since it was dropped
	close  sync.Once

	// Under the fetch's mutex, the offset where it changes.
	offset    int64
	dropped   bool
	isHolding bool          // it was seen to hold up the others:
	mark      int64         // there,
	markHeld  time.Duration // when they had waited for so long in all
}

// Read implements [io.Reader].
func (r *follower) Read(p []byte) (int, error) {
	if r.offset >= r.end {
		return 0, io.EOF
	}
	if r.alone != nil {
		return r.alone.Read(p)
	}
	at, length, err := r.await()
	if errors.Is(err, errHeldUp) && !r.keeper {
		return r.goOnAlone(p)
	}
	if err != nil {
		return 0, err
	}
	n, err := r.fetch.file.ReadAt(p[:min(int64(len(p)), length)], at)
	if !r.fetch.advance(r, int64(n)) {
		return r.Read(p)
	}
	if n > 0 {
		return n, nil
	}
	return 0, fmt.Errorf("read the spool: %w", err)
}

// goOnAlone reads the rest from elsewhere: the others did not wait any longer.
func (r *follower) goOnAlone(p []byte) (int, error) {
	rest := r.passed
	if r.whole {
		rest = r.kept
	}
	alone, err := rest()
	if err != nil {
		return 0, fmt.Errorf("%w; and to go on alone: %w", errHeldUp, err)
	}
	r.alone = alone
	return alone.Read(p)
}

// passed is the rest of a part, sent by the upstream.
func (r *follower) passed() (io.ReadCloser, error) {
	f := r.fetch
	return f.registry.pass(r.ctx, f.name, r.offset, r.end, f.size, Event{Kind: KindBlob, Outcome: Passed})
}

// kept is the rest of the whole blob, from what the others' transfer has been kept as: only that is known to go with what was read of it.
// So nobody gets a blob to its end that is wrong, and one that was not kept is cut off.
func (r *follower) kept() (io.ReadCloser, error) {
	f := r.fetch
	if err := f.wait(r.ctx); err != nil {
		return nil, err
	}
	if err := f.failure(); err != nil {
		return nil, err
	}
	blob, err := f.registry.kept.Blob(r.ctx, f.registry.keptName(f.name.repository), f.name.digest)
	if err != nil {
		return nil, fmt.Errorf("read what is kept: %w", err)
	}
	return blob.Open(r.ctx, r.offset, r.end-r.offset)
}

// await waits until there is something to read, and returns where it stands in the file, and how much is there.
func (r *follower) await() (at, length int64, err error) {
	f := r.fetch
	for {
		f.mu.Lock()
		visible, err := min(f.written, r.end), f.err
		at, length = r.offset, visible-r.offset
		if f.window > 0 {
			at = (r.offset - f.base) % f.window
			length = min(length, f.window-at)
		}
		if r.dropped {
			visible = r.offset
			if err == nil {
				err = errHeldUp
			}
		}
		var changed chan struct{}
		if visible <= r.offset && err == nil {
			if f.changed == nil {
				f.changed = make(chan struct{})
			}
			changed = f.changed
		}
		f.mu.Unlock()
		switch {
		case visible > r.offset:
			return at, length, nil
		case err != nil:
			return 0, 0, fmt.Errorf("follow the transfer: %w", err)
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return 0, 0, r.ctx.Err()
		}
	}
}

// Close leaves the fetch.
func (r *follower) Close() error {
	r.close.Do(func() {
		r.fetch.unfollow(r)
		if r.alone != nil {
			_ = r.alone.Close() // it was only read from
		}
		if !r.keeper {
			r.fetch.leave(false)
		}
	})
	return nil
}

// stream passes bytes on as they come, to one client and to whoever keeps them, at the pace of the slower one: for what there is no
// room for in the spool.
type stream struct {
	mu      sync.Mutex
	readers [2]*io.PipeReader
	writers [2]*io.PipeWriter
	taken   bool // by a client
}

func newStream() *stream {
	s := &stream{}
	s.readers[0], s.writers[0] = io.Pipe()
	return s
}

const (
	keeperSide = 1
	// keeperPatience is how long a client waits for stores, or for another client, that take little or nothing: then it goes on alone.
	keeperPatience = 10 * time.Second
)

// first returns the client's side, once.
func (s *stream) first() *io.PipeReader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return nil
	}
	s.taken = true
	return s.readers[0]
}

// second returns the keeper's side.
func (s *stream) second() *io.PipeReader {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers[1], s.writers[1] = io.Pipe()
	return s.readers[1]
}

// abandon says that a side is not read any more.
func (s *stream) abandon(side io.Reader) {
	if reader, ok := side.(*io.PipeReader); ok && reader != nil {
		_ = reader.CloseWithError(errAbandoned) // never fails
	}
}

var errAbandoned = errors.New("nobody reads this")

// write gives both sides some bytes. It fails when neither wants them.
func (s *stream) write(ctx context.Context, p []byte) error {
	s.mu.Lock()
	writers := s.writers
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { s.fail(context.Canceled) })
	defer stop()
	patience := time.AfterFunc(keeperPatience, func() { s.abandon(s.readers[keeperSide]) })
	defer patience.Stop()
	taken := false
	for _, w := range []*io.PipeWriter{writers[keeperSide], writers[0]} {
		if w == nil {
			continue
		}
		if w == writers[0] {
			patience.Stop() // a slow client is another matter
		}
		if _, err := w.Write(p); err == nil {
			taken = true
		} else if !errors.Is(err, errAbandoned) {
			return err
		}
	}
	if !taken {
		return errAbandoned
	}
	return nil
}

// fail ends both sides; nil is their end.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writers {
		if w != nil {
			_ = w.CloseWithError(err) // never fails
		}
	}
}

// streamed is a client's side.
type streamed struct {
	ctx    context.Context
	reader *io.PipeReader
	stop   func() bool
	stream *stream
}

// Read implements [io.Reader].
func (s *streamed) Read(p []byte) (int, error) {
	n, err := s.reader.Read(p)
	if err != nil && s.ctx.Err() != nil {
		err = s.ctx.Err()
	}
	return n, err
}

// Close says that the client reads no more.
func (s *streamed) Close() error {
	s.stop()
	s.stream.abandon(s.reader)
	return nil
}
