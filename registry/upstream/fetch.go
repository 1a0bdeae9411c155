package upstream

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

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

	readers int         // under the registry's mutex, as the next two are
	alone   *time.Timer // ends a fetch that nobody follows
	left    bool        // whoever came first reads no more
	unkept  error       // why it was not kept; set before ended is closed

	mu       sync.Mutex
	changed  chan struct{} // closed when something below changes; nil: nobody waits
	written  int64
	complete bool // all is there, and is right
	err      error
}

// linger is how long a fetch goes on that nobody follows: those who read a blob in parts come again.
const linger = 5 * time.Second

// resumptions is how often a transfer that breaks goes on where it was.
const resumptions = 3

// join returns the fetch of a blob, which the caller has to leave, and whether it has just begun.
func (r *Registry) join(name blobName) (f *fetch, first bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false, errClosed
	}
	f = r.fetches[name]
	if f == nil {
		f = &fetch{registry: r, name: name, began: make(chan struct{}), ended: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancel(r.ctx)
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
		f.fail(r.blobError(f.name, began, err))
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

// transfer fetches, and keeps if this process is the one that shall.
func (f *fetch) transfer() (Outcome, error) {
	r := f.registry
	// Whoever asked before may have been the last one to follow a fetch that has kept it meanwhile.
	if _, err := r.kept.Blob(f.ctx, r.keptName(f.name.repository), f.name.digest); err == nil {
		return Kept, errKept
	}
	got, err := r.remote.ask(f.ctx, question{method: http.MethodGet, repository: f.name.repository, path: "blobs/" + f.name.digest.String()})
	if err != nil {
		return Failed, err
	}
	defer func() { got.close() }()
	size := got.ContentLength
	if size < 0 {
		if size, err = r.stat(f.ctx, f.name); err != nil {
			return Failed, err
		}
	}
	switch {
	case size > r.options.MaxBlob:
		return Failed, registry.ErrTooLarge.With("the largest blob that is pulled through has %d bytes", r.options.MaxBlob)
	case size == 0 && f.name.digest.Algorithm().FromBytes(nil) != f.name.digest:
		return Failed, wrong("nothing for %s", f.name.digest)
	}
	f.begin(size)
	keeping := f.keep()
	err = f.receive(&got)
	if err != nil {
		f.fail(err)
		kept := <-keeping
		kept.lease.release()
		return Failed, errors.Join(err, kept.err)
	}
	f.change(func() { f.complete = true })
	if f.pipe != nil {
		f.pipe.fail(nil)
	}
	kept := <-keeping
	kept.lease.release()
	switch {
	case kept.err != nil:
		r.notKept(f.ctx, f.name.key(), kept.err)
		f.unkept = kept.err
		return Unkept, nil
	case kept.lease.held:
		return Fetched, nil
	case f.pipe == nil:
		return f.await(), nil
	}
	return Passed, nil
}

// errKept ends a fetch of what is kept already.
var errKept = errors.New("it is kept")

// await keeps the bytes here until whoever has claimed to keep them has done so, so that nobody fetches them again meanwhile. If he
// does not, they are kept from here.
func (f *fetch) await() Outcome {
	r := f.registry
	name := r.keptName(f.name.repository)
	for range int(2 * claimLife / awaitPause) {
		select {
		case <-time.After(awaitPause):
		case <-f.ctx.Done():
			return Passed
		}
		if _, err := r.kept.StatBlob(f.ctx, name, f.name.digest); err == nil {
			return Passed
		}
		if holder, ok := r.holder(f.ctx, f.name.digest); ok {
			if _, err := r.kept.Mount(f.ctx, f.name.digest, holder, name); err == nil {
				return Passed
			}
		}
		kept := <-f.keep()
		kept.lease.release()
		switch {
		case kept.err != nil:
			r.notKept(f.ctx, f.name.key(), kept.err)
			f.unkept = kept.err
			return Unkept
		case kept.lease.held:
			return Fetched
		}
	}
	return Passed
}

// awaitPause is between two looks whether somebody else has kept content.
const awaitPause = time.Second

// begin tells those who wait how large it is, and finds room for it.
func (f *fetch) begin(size int64) {
	f.size = size
	file, err := f.registry.options.Spool.create(size)
	if err != nil {
		if !errors.Is(err, errSpoolFull) {
			f.registry.notKept(f.ctx, f.name.key()+" in the spool", err)
		}
		f.pipe = newStream()
	}
	f.file = file
	close(f.began)
	f.registry.mu.Lock()
	defer f.registry.mu.Unlock()
	f.letGo()
}

// keeping is how it ended to keep something.
type keeping struct {
	lease *lease
	err   error
}

// keep stores what comes if this process is the one that shall, and tells how that ended. It follows like anybody else, so that an
// index or objects that are slow, or do not answer, keep no client waiting.
func (f *fetch) keep() <-chan keeping {
	done := make(chan keeping, 1)
	var body io.Reader = &follower{fetch: f, ctx: f.ctx, end: f.size}
	if f.pipe != nil {
		body = f.pipe.second()
	}
	go func() {
		var k keeping
		if k.lease, k.err = f.registry.claim(f.ctx, f.name.digest); k.lease.held {
			_, k.err = f.registry.kept.PushBlob(f.ctx, f.registry.keptName(f.name.repository), f.name.digest, body, f.size)
		}
		if f.pipe != nil {
			f.pipe.abandon(body) // so that it holds nobody up
		}
		done <- k
	}()
	return done
}

// receive copies the body, goes on where it was when that breaks off, and checks the whole.
func (f *fetch) receive(got **answer) error {
	sum := f.name.digest.Algorithm().Hash()
	buffer := make([]byte, 64<<10)
	for tries := 0; ; tries++ {
		before := f.written
		err := f.copy((*got).body, sum, buffer)
		if err == nil {
			return nil
		}
		if f.written > before {
			tries = 0
		}
		var source *sourceError
		if !errors.As(err, &source) || f.ctx.Err() != nil || tries >= resumptions {
			return err
		}
		(*got).close()
		next, again := f.registry.part(f.ctx, f.name, f.written, f.size)
		if again != nil {
			return fmt.Errorf("%w; and to go on: %w", err, again)
		}
		*got = next
	}
}

// sourceError is one of the upstream's, not of ours.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "the upstream's transfer broke off: " + e.err.Error() }
func (e *sourceError) Unwrap() []error {
	return []error{e.err, unavailable()}
}

// copy copies until all is there. The bytes that complete the whole are shown to nobody before it is right.
func (f *fetch) copy(body io.Reader, sum hash.Hash, buffer []byte) error {
	for f.written < f.size {
		n, err := body.Read(buffer[:min(int64(len(buffer)), f.size-f.written)])
		if n > 0 {
			sum.Write(buffer[:n])
			if err := f.take(buffer[:n], sum); err != nil {
				return err
			}
		}
		if err != nil && f.written < f.size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return &sourceError{err}
		}
	}
	return nil
}

// take puts bytes where the readers find them.
func (f *fetch) take(p []byte, sum hash.Hash) error {
	if f.written+int64(len(p)) == f.size {
		if err := f.verify(sum); err != nil {
			return err
		}
	}
	if f.pipe != nil {
		if err := f.pipe.write(f.ctx, p); err != nil {
			return err
		}
	} else if _, err := f.file.WriteAt(p, f.written); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	f.change(func() { f.written += int64(len(p)) })
	return nil
}

func (f *fetch) verify(sum hash.Hash) error {
	if digest.NewDigest(f.name.digest.Algorithm(), sum) != f.name.digest {
		return wrong("content that does not have the digest %s", f.name.digest)
	}
	return nil
}

// change changes something under the mutex, and wakes those who wait for it.
func (f *fetch) change(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
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
