package staging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

// gate stalls the nth call of a method, before its effect or after it, until it is opened.
type gate struct {
	method  string
	nth     int64
	after   bool
	calls   atomic.Int64
	arrived chan struct{} // closed when the call stalls
	open    chan struct{}
	effect  chan error // what the store said to the call, once it was let through
}

func newGate(method string, nth int64, after bool) *gate {
	return &gate{
		method: method, nth: nth, after: after,
		arrived: make(chan struct{}), open: make(chan struct{}), effect: make(chan error, 1),
	}
}

func (g *gate) hook() storetest.Hook {
	var mine atomic.Pointer[context.Context] // of the call; others under way have others
	stall := func(ctx context.Context, method string) {
		if method == g.method && g.calls.Add(1) == g.nth {
			mine.Store(&ctx)
			close(g.arrived)
			<-g.open
		}
	}
	return storetest.Hook{
		Before: func(ctx context.Context, method string) error {
			if !g.after {
				stall(ctx, method)
			}
			return nil
		},
		After: func(ctx context.Context, method string, err error) error {
			if g.after {
				stall(ctx, method)
			}
			if p := mine.Load(); p != nil && *p == ctx && mine.CompareAndSwap(p, nil) {
				g.effect <- err
			}
			return err
		},
	}
}

// TestStalledWriterDoesNoHarmWhenItGoesOn lets a writer stall within each kind of call. Another replica takes the upload
// over meanwhile and ends it, or is ended by a third one after the zombie has gone on.
func TestStalledWriterDoesNoHarmWhenItGoesOn(t *testing.T) {
	t.Parallel()
	// What the zombie was doing: an upload that stood at prefix, and was to get chunk bytes more, with or without an end.
	type stall struct {
		method        string
		nth           int64
		prefix, chunk int
		finish        bool
	}
	stalls := []stall{
		{"ClaimSession", 1, 0, 3000, false},
		{"ClaimSession", 1, 3000, 3000, false},
		{"ClaimSession", 1, 3000, 3000, true},
		{"Put", 1, 0, 3000, false},                        // what may become the content
		{"Put", 1, 0, partSize, true},                     // the content
		{"Put", 1, 2000, 2000, true},                      // the content, joined
		{"Put", 1, 2*partSize + minPart + 1, 2000, false}, // a tail
		{"Begin", 1, 0, 3 * partSize, false},              //
		{"PutPart", 1, 0, 3 * partSize, false},            //
		{"PutPart", 2, 2000, 3 * partSize, false},         // while bytes that follow are received
		{"PutPart", 1, 3*partSize + 2000, 2 * partSize, true},
		{"PutPart", 1, 3*partSize + 100, 100, true}, // the last part
		{"Open", 1, 2000, 3 * partSize, false},      // reading a tail back
		{"Complete", 1, 2 * partSize, partSize + 700, true},
		{"SaveSession", 1, 0, 100, false},
		{"SaveSession", 1, 2000, 3000, false},
		{"SaveSession", 1, partSize, 2 * partSize, false},    // parts
		{"SaveSession", 1, partSize, 2*partSize + 100, true}, // completing
		{"FinishSession", 1, 0, 100, true},
		{"FinishSession", 1, 2000, 0, true},
		{"FinishSession", 1, partSize, 2*partSize + 100, true},
	}
	successors := []string{"finishes", "finishes later", "cancels", "sends other bytes"}
	for kind, limits := range kinds {
		for _, s := range stalls {
			if kind == "any parts" && s.method == "Put" && s.prefix > partSize {
				continue // it needs no tails there
			}
			for _, after := range []bool{false, true} {
				for _, successor := range successors {
					name := fmt.Sprintf("%s/%s %d of %d+%d finish=%t after=%t/%s", kind, s.method, s.nth, s.prefix, s.chunk, s.finish, after, successor)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						w := newWorld(limits)
						g := newGate(s.method, s.nth, after)
						healthy, later := w.stage(), w.stage()
						options := staging.Options{SaveBytes: partSize}
						slow := w.replica(options, g.hook(), storetest.Hook{})
						if strings.HasSuffix(s.method, "Session") {
							slow = w.replica(options, storetest.Hook{}, g.hook())
						}
						z := &zombie{
							world: w, gate: g, slow: slow, healthy: healthy, later: later,
							data: noise(6*partSize, 6), prefix: s.prefix, chunk: s.chunk, finish: s.finish, successor: successor,
						}
						z.run(t)
					})
				}
			}
		}
	}
}

type zombie struct {
	world                *world
	gate                 *gate
	slow, healthy, later *staging.Stage
	data                 []byte
	prefix, chunk        int
	finish               bool
	successor            string
}

func (z *zombie) run(t *testing.T) {
	ctx, w := t.Context(), z.world
	id := w.start(t, z.healthy, "")
	for at := 0; at < z.prefix; {
		end := min(at+2*partSize+minPart+1, z.prefix)
		_, err := z.healthy.Append(ctx, repository, id, chunk(z.data[at:end], int64(at), true))
		require.NoError(t, err)
		at = end
	}
	own := z.data[:z.prefix+z.chunk]
	ownDigest := w.expect(digest.SHA256, own)
	ended := make(chan error, 1)
	go func() {
		piece := chunk(z.data[z.prefix:z.prefix+z.chunk], int64(z.prefix), true)
		var err error
		if z.finish {
			_, err = z.slow.Finish(ctx, repository, id, piece, ownDigest)
		} else {
			_, err = z.slow.Append(ctx, repository, id, piece)
		}
		ended <- err
	}()
	select {
	case <-z.gate.arrived:
	case err := <-ended:
		require.Fail(t, "the writer did not stall", "it ended with %v", err)
	}
	goOn := func() error {
		close(z.gate.open)
		err := <-ended
		require.NotEmpty(t, z.gate.effect, "the zombie's call has reached the store")
		w.requireSound(t)
		return err
	}
	finishAnother := func(s *staging.Stage, id string, data []byte) error {
		status, err := s.Status(ctx, repository, id)
		if err != nil {
			return err
		}
		_, err = s.Finish(ctx, repository, id, chunk(data[status.Offset:], status.Offset, true), w.expect(digest.SHA256, data))
		return err
	}

	want := own
	if !z.finish {
		want = z.data // more follows
	}
	wantDigest := w.expect(digest.SHA256, want)
	switch z.successor {
	case "cancels":
		err := z.healthy.Cancel(ctx, repository, id)
		finished := errors.Is(err, store.ErrSessionUnknown)
		if !finished {
			require.NoError(t, err)
		}
		err = goOn()
		if finished {
			require.NoError(t, err, "the zombie had finished before it was cancelled")
			w.requireContent(t, ownDigest, own)
			return
		}
		if saved := z.gate.after && z.gate.method == "SaveSession" && !z.finish; !saved || err != nil {
			require.ErrorIs(t, err, store.ErrSessionUnknown)
		}
		w.requireAbsent(t, ownDigest)
		_, err = z.later.Status(ctx, repository, id)
		require.ErrorIs(t, err, store.ErrSessionUnknown)
		return
	case "finishes":
		err := finishAnother(z.healthy, id, want)
		if errors.Is(err, store.ErrSessionUnknown) {
			_, err = z.healthy.Finish(ctx, repository, id, staging.Chunk{At: -1}, wantDigest)
		}
		require.NoError(t, err)
		w.requireContent(t, wantDigest, want)
		z.requireOutcome(t, goOn(), true)
	case "finishes later":
		// The successor only claims; the zombie goes on, and then somebody ends it.
		status, err := z.healthy.Status(ctx, repository, id)
		if err == nil && status.Offset+100 <= int64(len(want)) {
			_, err = z.healthy.Append(ctx, repository, id, chunk(want[status.Offset:status.Offset+100], status.Offset, false))
		}
		var offset *staging.OffsetError
		if !errors.As(err, &offset) && !errors.Is(err, store.ErrSessionUnknown) { // it is completing, or finished
			require.NoError(t, err)
		}
		z.requireOutcome(t, goOn(), false)
		err = finishAnother(z.later, id, want)
		if errors.Is(err, store.ErrSessionUnknown) {
			_, err = z.later.Finish(ctx, repository, id, staging.Chunk{At: -1}, wantDigest)
		}
		require.NoError(t, err)
	case "sends other bytes":
		other := append(append([]byte{}, z.data[:z.prefix]...), noise(4*partSize, 7)...)
		otherDigest := w.expect(digest.SHA256, other)
		status, err := z.healthy.Status(ctx, repository, id)
		if err != nil || status.Offset > int64(z.prefix) {
			// The zombie's bytes count already, or it has ended the upload: it can only be mixed up with itself.
			z.requireOutcome(t, goOn(), false)
			return
		}
		err = finishAnother(z.healthy, id, other)
		if err != nil { // it is completing, with the zombie's bytes
			var offset *staging.OffsetError
			require.ErrorAs(t, err, &offset)
		}
		z.requireOutcome(t, goOn(), false)
		if err == nil {
			w.requireContent(t, otherDigest, other)
			w.requireAbsent(t, ownDigest)
		}
		return
	}
	w.requireContent(t, wantDigest, want)
	w.requireSound(t)
}

// requireOutcome requires that the zombie was told what had become of the upload: it went through, or where it stands, or
// that it is gone.
func (z *zombie) requireOutcome(t *testing.T, err error, taken bool) {
	t.Helper()
	var offset *staging.OffsetError
	switch {
	case err == nil:
		if taken && !z.finish {
			assert.True(t, z.gate.after, "an append that was taken over succeeded")
		}
	case errors.As(err, &offset), errors.Is(err, store.ErrSessionUnknown):
	default:
		require.NoError(t, err, "the zombie should be told where the upload stands")
	}
}
