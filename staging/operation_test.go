package staging_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

// operation is a request under way.
type operation struct {
	what   string
	kind   string
	upload *modelled
	random *rand.Rand // under lock
	fault  float64    // the chance of each call to fail
	stall  float64    // and to stall
	cancel context.CancelFunc
	done   chan struct{}

	at, size    int64 // of the chunk
	right       bool  // the offset is where the upload stands, and takes bytes
	told        bool
	cut         bool // the body breaks off
	wrong       bool // the digest is another one
	alone       bool // nothing else was under way on this upload
	begun       int  // modelled.operations after it began
	advanced    int  // machine.advanced then
	acked       int64
	offset      int64
	err         error
	interrupted bool // by a fault, or its client vanished
}

// stall is a call, or a client's body, that does not go on before it is told to.
type stall struct {
	operation *operation
	what      string
	before    bool // the call has not reached the store
	claims    int
	verdict   chan error
}

// operationKey is where a call's context has its operation.
type operationKey struct{}

// fitful is a body that comes in pieces, may stall, and may break off.
type fitful struct {
	machine   *machine
	operation *operation
	ctx       context.Context
	data      []byte
}

func (f *fitful) Read(p []byte) (int, error) {
	o := f.operation
	if len(f.data) == 0 && !o.cut {
		return 0, io.EOF
	}
	f.machine.lock.Lock()
	stop, breaks, n := o.random.Float64() < o.stall/2, o.cut && o.random.IntN(3) == 0, 1+o.random.IntN(9000)
	f.machine.lock.Unlock()
	if stop {
		if err := f.machine.stall(o, "Read", false); err != nil {
			return 0, errCut
		}
	}
	if f.ctx.Err() != nil || breaks || len(f.data) == 0 {
		return 0, errCut
	}
	n = copy(p, f.data[:min(n, len(f.data))])
	f.data = f.data[n:]
	return n, nil
}

// hook makes calls fail, or stall, as their operation's dice say.
func (m *machine) hook() storetest.Hook {
	dice := func(ctx context.Context, method string, before bool) error {
		o, ok := ctx.Value(operationKey{}).(*operation)
		if !ok {
			return nil
		}
		m.lock.Lock()
		p := o.random.Float64()
		m.lock.Unlock()
		switch {
		case p < o.fault:
			m.lock.Lock()
			o.interrupted = true
			m.lock.Unlock()
			if before {
				m.seen.add(&m.seen.faults)
			} else {
				m.seen.add(&m.seen.lost)
			}
			return errFault
		case p < o.fault+o.stall/2:
			return m.stall(o, method, before)
		}
		return nil
	}
	return storetest.Hook{
		Before: func(ctx context.Context, method string) error { return dice(ctx, method, true) },
		After: func(ctx context.Context, method string, err error) error {
			if o, ok := ctx.Value(operationKey{}).(*operation); ok && err == nil && method == "ClaimSession" {
				m.lock.Lock()
				o.upload.claims++
				m.lock.Unlock()
			}
			if failed := dice(ctx, method, false); err == nil {
				err = failed
			}
			return err
		},
	}
}

// stall waits for a verdict.
func (m *machine) stall(o *operation, what string, before bool) error {
	m.lock.Lock()
	s := &stall{operation: o, what: what, before: before, claims: o.upload.claims, verdict: make(chan error, 1)}
	if m.over {
		s.verdict <- errFault
	} else {
		m.stalled = append(m.stalled, s)
	}
	m.lock.Unlock()
	return <-s.verdict
}

func (m *machine) stalls() []*stall {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.stalled)
}

// release lets a stalled call go on, or drops it.
func (m *machine) release(s *stall, drop bool) {
	m.lock.Lock()
	i := slices.Index(m.stalled, s)
	m.stalled = slices.Delete(m.stalled, i, i+1)
	zombie := s.before && s.operation.upload.claims > s.claims
	m.lock.Unlock()
	m.note("%s goes on: %s, dropped=%t, a zombie=%t", s.what, s.operation.what, drop, zombie)
	if drop {
		m.lock.Lock()
		s.operation.interrupted = true
		m.lock.Unlock()
		s.verdict <- errFault
		return
	}
	if zombie {
		m.seen.add(&m.seen.zombies)
	}
	s.verdict <- nil
}

// vanish ends a request's context, as a server does when its client is gone.
func (m *machine) vanish(o *operation) {
	m.note("vanished: %s", o.what)
	m.seen.add(&m.seen.vanished)
	m.lock.Lock()
	o.interrupted = true
	m.lock.Unlock()
	o.cancel()
}

// look compares an upload's row with the model.
func (m *machine) look(i int, u *modelled) {
	session, err := m.session(u.id)
	if err != nil {
		if u.finished || !u.ending {
			m.fail("upload %d is gone: %v", i, err)
		}
		return
	}
	if u.cancelled {
		m.fail("upload %d was cancelled, and is there", i)
	}
	if session.State == store.SessionFinished {
		if !u.finishing {
			m.fail("upload %d is finished, and nobody did it", i)
		}
		if got, err := m.read(u.digest); err != nil || !bytes.Equal(got, u.data) {
			m.fail("upload %d is finished, and its content is not right: %v", i, err)
		}
		return
	}
	if u.finished {
		m.fail("upload %d was finished, and is not", i)
	}
	if session.Offset < u.acked || session.Offset > int64(len(u.data)) {
		m.fail("upload %d stands at %d; acknowledged are %d of %d", i, session.Offset, u.acked, len(u.data))
	}
	// What is not in parts yet can be looked at.
	var rest []byte
	for _, tail := range session.Tails {
		r, err := m.objects.Open(m.t.Context(), tail.Key, 0, -1)
		if err != nil {
			m.fail("upload %d: %v", i, err)
		}
		data, _ := io.ReadAll(r)
		rest = append(rest, data...)
	}
	rest = append(rest, session.Inline...)
	if !bytes.Equal(rest, u.data[session.PartsEnd:session.Offset]) {
		m.fail("upload %d holds wrong bytes from %d to %d", i, session.PartsEnd, session.Offset)
	}
}

// answer holds an answer against the model.
func (m *machine) answer(o *operation) {
	u := o.upload
	m.note("  answered: %s: %d, %v", o.what, o.offset, o.err)
	var offset *staging.OffsetError
	var mismatch *cas.MismatchError
	var body *staging.BodyError
	m.lock.Lock()
	interrupted := o.interrupted || o.cut
	m.lock.Unlock()
	if o.right && o.alone && !interrupted && !o.wrong && o.begun == u.operations && o.advanced == m.advanced && o.err != nil {
		m.fail("nothing was in its way: %s: %v", o.what, o.err)
	}
	switch {
	case o.err == nil && o.kind == "append":
		if o.at+o.size != o.offset {
			m.fail("acknowledged %d, not %d: %s", o.offset, o.at+o.size, o.what)
		}
		u.acked = max(u.acked, o.offset)
	case o.err == nil && o.kind == "status":
		if o.offset < o.acked {
			m.fail("told %d after %d were acknowledged: %s", o.offset, o.acked, o.what)
		}
		u.acked = max(u.acked, o.offset)
	case o.err == nil && o.kind == "finish":
		if o.wrong || o.offset != int64(len(u.data)) {
			m.fail("finished with %d bytes: %s", o.offset, o.what)
		}
		if !u.finished {
			m.seen.add(&m.seen.finished)
		}
		u.finished = true
	case o.err == nil:
		m.seen.add(&m.seen.cancelled)
		u.cancelled = true
	case errors.As(o.err, &offset):
		if offset.Upload.Offset < o.acked {
			m.fail("told %d after %d were acknowledged: %s", offset.Upload.Offset, o.acked, o.what)
		}
		if o.right {
			m.seen.add(&m.seen.fenced)
		} else {
			m.seen.add(&m.seen.refused)
		}
	case errors.Is(o.err, store.ErrSessionUnknown):
		if u.expired {
			m.seen.add(&m.seen.expired)
		} else if !u.finishing && !u.ending {
			m.fail("unknown, and nobody ended it: %s", o.what)
		}
	case errors.As(o.err, &mismatch):
		m.seen.add(&m.seen.mismatched)
		if !o.wrong && o.at+o.size == int64(len(u.data)) && o.at <= int64(len(u.data)) {
			m.fail("refused the right digest: %s: %v", o.what, o.err)
		}
	case errors.As(o.err, &body):
		if !interrupted {
			m.fail("the body did not fail: %s: %v", o.what, o.err)
		}
	default:
		if !interrupted {
			m.fail("nothing had failed: %s: %v", o.what, o.err)
		}
	}
}
