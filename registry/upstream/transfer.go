package upstream

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/registry"
)

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
	done := f.keep()
	err = f.receive(&got)
	if err != nil {
		f.fail(err)
		kept := <-done
		kept.lease.release()
		return Failed, errors.Join(err, kept.err)
	}
	f.change(func() { f.complete = true })
	if f.pipe != nil {
		f.pipe.fail(nil)
	}
	outcome, again := f.settle(<-done)
	if again && f.isWhole() {
		return f.await(), nil
	}
	return outcome, nil
}

// settle tells how it ended to keep something, and whether it is to be tried again, since somebody else has claimed to do it.
func (f *fetch) settle(k keeping) (outcome Outcome, again bool) {
	k.lease.release()
	switch {
	case k.err != nil:
		f.registry.notKept(f.ctx, f.name.key(), k.err)
		f.unkept = k.err
		return Unkept, false
	case k.here:
		return Passed, false
	case k.lease.held:
		return Fetched, false
	}
	return Passed, true
}

// errKept ends a fetch of what is kept already.
var errKept = errors.New("it is kept")

// await keeps the bytes here until whoever has claimed to keep them has done so, so that nobody fetches them again meanwhile. If he
// does not, they are kept from here.
func (f *fetch) await() Outcome {
	for range int(2 * claimLife / awaitPause) {
		select {
		case <-time.After(awaitPause):
		case <-f.ctx.Done():
			return Passed
		}
		if _, err := f.registry.kept.StatBlob(f.ctx, f.registry.keptName(f.name.repository), f.name.digest); err == nil {
			return Passed
		}
		if outcome, again := f.settle(<-f.keep()); !again {
			return outcome
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
	here  bool // somebody else has kept it
	err   error
}

// store stores a body if nobody else does, or has done so. Whoever has the claim looks after that: who had it before has kept it, or
// never will.
func (f *fetch) store(body io.Reader) (k keeping) {
	r := f.registry
	name := r.keptName(f.name.repository)
	if k.lease, k.err = r.claim(f.ctx, f.name.digest); !k.lease.held {
		return k
	}
	if _, err := r.kept.StatBlob(f.ctx, name, f.name.digest); err == nil {
		k.here = true
		return k
	}
	if holder, ok := r.holder(f.ctx, f.name.digest); ok {
		if _, err := r.kept.Mount(f.ctx, f.name.digest, holder, name); err == nil {
			k.here = true
			return k
		}
	}
	_, k.err = r.kept.PushBlob(f.ctx, name, f.name.digest, body, f.size)
	return k
}

// keep stores what comes if this process is the one that shall, and tells how that ended. It follows like anybody else, so that an
// index or objects that are slow, or do not answer, keep no client waiting.
func (f *fetch) keep() <-chan keeping {
	done := make(chan keeping, 1)
	var body io.ReadCloser = &follower{fetch: f, ctx: f.ctx, end: f.size, keeper: true}
	if f.pipe != nil {
		body = f.pipe.second()
	} else {
		f.follow(body.(*follower)) // from the beginning: nothing is lost yet
	}
	go func() {
		k := f.store(body)
		if f.pipe != nil {
			f.pipe.abandon(body)
		}
		_ = body.Close() // so that it holds nobody up
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
		f.change(func() { f.written += int64(len(p)) })
		return nil
	}
	return f.write(p)
}

func (f *fetch) verify(sum hash.Hash) error {
	if digest.NewDigest(f.name.digest.Algorithm(), sum) != f.name.digest {
		return wrong("content that does not have the digest %s", f.name.digest)
	}
	return nil
}
