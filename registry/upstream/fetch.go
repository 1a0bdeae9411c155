package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ocikit/ocikit/registry"
)

// fetch is the one request for a blob that all who want it from this process follow, and whoever keeps it. What must stay true:
//   - Nobody is given the last byte before the whole has the right digest.
//   - It is in the registry's table from before the request is sent until it is kept, so that nobody asks a second time.
//   - It ends when nobody follows it any more, after a moment, and when the registry is closed.
type fetch struct {
	registry *Registry
	name     blobName
	ctx      context.Context
	cancel   context.CancelFunc
	began    chan struct{} // closed when size and file are known, or it has failed
	ended    chan struct{} // closed when nothing comes any more, and it is kept, or will not be

	size int64      // set before began is closed, as file is
	file *spoolFile // nil: there was no room
	pipe *stream    // instead of it

	readers int             // under the registry's mutex, as the next three are
	alone   *time.Timer     // ends a fetch that nobody follows
	left    bool            // whoever came first reads no more
	alien   map[string]bool // of repositories that do not follow it
	unkept  error           // why it was not kept; set before ended is closed

	mu       sync.Mutex
	changed  chan struct{} // closed when something below changes; nil: nobody waits
	written  int64
	complete bool // all is there, and is right
	err      error

	window    int64         // how much of it the file holds at a time; 0: all
	base      int64         // what stands, or stood, at the file's begin
	held      time.Duration // that the window was full; of whoever writes
	lost      int64         // what is before this was written over
	followers map[*follower]bool
	moved     chan struct{} // closed when one of them has read; nil: nobody waits
}

// linger is how long a fetch goes on that nobody follows: those who read a blob in parts come again.
const linger = 5 * time.Second

// resumptions is how often a transfer that breaks goes on where it was.
const resumptions = 3

// join returns the fetch of a blob, which the caller has to leave, and whether it has just begun. It outlives ctx.
func (r *Registry) join(ctx context.Context, name blobName) (f *fetch, first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false, errClosed
	}
	f = r.fetches[name]
	if f == nil {
		f = &fetch{registry: r, name: name, began: make(chan struct{}), ended: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancel(caused{r.ctx, ctx})
		r.fetches[name] = f
		r.work.Add(1)
		first = true
		go f.run()
	}
	f.enter()
	return f, first, nil
}

// again joins a fetch that the caller knows, and reports whether its bytes are still there.
func (f *fetch) again() bool {
	r := f.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.readers == 0 && r.fetches[f.name] != f {
		return false
	}
	f.enter()
	return true
}

// enter counts a reader. The registry's mutex is held.
func (f *fetch) enter() {
	f.readers++
	if f.alone != nil {
		f.alone.Stop()
		f.alone = nil
	}
}

// leave is said once by each who has joined. One that is not spooled is for whoever came first, who then reads no more.
func (f *fetch) leave(first bool) {
	r := f.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	f.readers--
	if first {
		f.left = true
		f.letGo()
	}
	if f.readers > 0 {
		return
	}
	if f.hasEnded() {
		f.dispose()
		return
	}
	f.alone = time.AfterFunc(linger, f.giveUp)
}

// leaveWith leaves when ctx ends, or when it is called what it returns, if that is earlier.
func (f *fetch) leaveWith(ctx context.Context, first bool) (leave func()) {
	stop := context.AfterFunc(ctx, func() { f.leave(first) })
	return func() {
		if stop() {
			f.leave(first)
		}
	}
}

// letGo lets a stream go on without its client, if that has left. The registry's mutex is held.
func (f *fetch) letGo() {
	if f.left && f.isBegun() && f.pipe != nil {
		f.pipe.abandon(f.pipe.readers[0])
	}
}

// giveUp ends a fetch that nobody follows. One of which everything has come is kept all the same.
func (f *fetch) giveUp() {
	r := f.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	f.mu.Lock()
	complete := f.complete
	f.mu.Unlock()
	if f.readers == 0 && !complete && r.fetches[f.name] == f {
		delete(r.fetches, f.name) // who comes now begins anew
		f.cancel()
	}
}

func (f *fetch) isBegun() bool { return isClosed(f.began) }

func (f *fetch) hasEnded() bool { return isClosed(f.ended) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// dispose gives the room back, once nobody reads and nothing comes. The registry's mutex is held.
func (f *fetch) dispose() {
	if f.file != nil {
		_ = f.file.Close() // nobody needs it any more
		f.file = nil
	}
}

// run does it all.
func (f *fetch) run() {
	r := f.registry
	defer r.work.Done()
	began := time.Now()
	outcome, err := f.transfer()
	switch {
	case err == nil:
		r.observe(Event{Kind: KindBlob, Outcome: outcome, Bytes: f.size, Took: time.Since(began), Err: f.unkept})
	case errors.Is(err, errKept):
		f.fail(err)
	case r.ctx.Err() != nil:
		f.fail(errClosed)
	case f.ctx.Err() != nil:
		f.fail(err) // nobody is there to see it
	default:
		f.fail(r.blobError(f.ctx, f.name, began, err))
	}
	f.cancel()
	f.drop()
	r.mu.Lock()
	defer r.mu.Unlock()
	close(f.ended)
	if f.readers == 0 {
		f.dispose()
	}
}

// drop takes it out of the table.
func (f *fetch) drop() {
	r := f.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetches[f.name] == f {
		delete(r.fetches, f.name)
	}
}

// change changes something under the mutex, and wakes those who wait for it.
func (f *fetch) change(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
	f.wake()
}

// wake wakes those who wait for a change. The mutex is held.
func (f *fetch) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// fail ends it for everybody who follows it. Who comes from here on begins anew: nobody is told of a failure that was there before he
// asked.
func (f *fetch) fail(err error) {
	f.drop()
	f.change(func() {
		if f.err == nil {
			f.err = err
		}
	})
	if f.pipe != nil {
		f.pipe.fail(err)
	}
	select {
	case <-f.began:
	default:
		close(f.began)
	}
}

// failure returns why it has failed, or nil.
func (f *fetch) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// upstreams returns why it has failed if that is the upstream's fault, which is so for all who wait for it: or each of them would have
// the whole sent again, one after the other. It is nil for one that ended since nobody read it.
func (f *fetch) upstreams() error {
	err := f.failure()
	if errors.Is(err, registry.ErrUnavailable) || errors.Is(err, registry.ErrTooManyRequests) || errors.Is(err, registry.ErrDenied) {
		return err
	}
	return nil
}

// start waits until the size is known, or it has failed.
func (f *fetch) start(ctx context.Context) error {
	select {
	case <-f.began:
		return f.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait waits until nothing comes any more, and it is kept, or will not be.
func (f *fetch) wait(ctx context.Context) error {
	select {
	case <-f.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
