package staging_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

var errFault = errors.New("the store failed")

// nth makes the nth call fail, before its effect or after it; as a crash, all that follow as well.
type nth struct {
	n     int64
	after bool
	crash bool
	calls atomic.Int64
	hit   atomic.Bool
}

func (f *nth) hook() storetest.Hook {
	fault := func() error {
		if n := f.calls.Add(1); n < f.n || n > f.n && !f.crash {
			return nil
		}
		f.hit.Store(true)
		return errFault
	}
	if f.after {
		return storetest.Hook{Before: f.over, After: func(_ context.Context, _ string, err error) error {
			if failed := fault(); failed != nil {
				return failed
			}
			return err
		}}
	}
	return storetest.Hook{Before: func(context.Context, string) error { return fault() }}
}

// over fails whatever comes after a crash.
func (f *nth) over(context.Context, string) error {
	if f.crash && f.hit.Load() {
		return errFault
	}
	return nil
}

// TestUploadSurvivesAnyOneFailureOfItsStores lets every call in turn fail, or its answer be lost. The client asks where the
// upload stands and goes on from there; it always comes to the right content.
func TestUploadSurvivesAnyOneFailureOfItsStores(t *testing.T) {
	t.Parallel()
	cases := []chunking{chunkings[0], chunkings[1], chunkings[2], {"", 3000, 3000}, {"", 7000, 2000}, {"", partSize, 1}}
	sizes := []int{0, inlineLimit, inlineLimit + 1, partSize, 2*partSize + 100, 4*partSize + minPart}
	for kind, limits := range kinds {
		for _, which := range []string{"objects", "index"} {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/after=%t", kind, which, after), func(t *testing.T) {
					t.Parallel()
					faults := 0
					for _, c := range cases {
						for _, size := range sizes {
							for n := int64(1); ; n++ {
								fault := &nth{n: n, after: after}
								push(t, limits, c, size, which, fault)
								if !fault.hit.Load() {
									break
								}
								faults++
							}
						}
					}
					assert.Greater(t, faults, 50, "faults that were met")
				})
			}
		}
	}
}

// TestUploadSurvivesACrashBetweenAnyTwoCalls lets a replica crash before each of the calls that it makes of both stores, and
// after each. Another replica goes on.
func TestUploadSurvivesACrashBetweenAnyTwoCalls(t *testing.T) {
	t.Parallel()
	shapes := map[string]struct {
		limits store.Limits
		cases  []chunking
		sizes  []int
	}{
		"parts of many pages": {
			store.Limits{MinPart: 2 * page, PartSize: 6 * page, MaxParts: 10_000},
			[]chunking{chunkings[0], chunkings[1], {"", 3*page + 7, 2 * page}},
			[]int{6 * page, 19*page + 100},
		},
		"equal parts of many pages": {
			store.Limits{MinPart: 2 * page, PartSize: 6 * page, MaxParts: 10_000, EqualParts: true},
			[]chunking{chunkings[0], {"", 4*page + 7, 2 * page}},
			[]int{19*page + 100},
		},
	}
	for kind, limits := range kinds {
		shape := shapes[kind]
		shape.limits = limits
		shape.cases = []chunking{chunkings[0], chunkings[1], {"", 3000, 3000}, {"", partSize, 1}}
		shape.sizes = []int{inlineLimit, partSize, 4*partSize + minPart}
		shapes[kind] = shape
	}
	for kind, shape := range shapes {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/after=%t", kind, after), func(t *testing.T) {
				t.Parallel()
				crashes := 0
				for _, c := range shape.cases {
					for _, size := range shape.sizes {
						for n := int64(1); ; n++ {
							fault := &nth{n: n, after: after, crash: true}
							push(t, shape.limits, c, size, "both", fault)
							if !fault.hit.Load() {
								break
							}
							crashes++
						}
					}
				}
				assert.Greater(t, crashes, 20, "crashes that were met")
			})
		}
	}
}

// push uploads over a store that fails once, and over a healthy one after that.
func push(t *testing.T, limits store.Limits, c chunking, size int, which string, fault *nth) {
	t.Helper()
	w := newWorld(limits)
	options := staging.Options{SaveBytes: partSize} // many saves
	healthy := w.replica(options, storetest.Hook{}, storetest.Hook{})
	faulty := w.replica(options, fault.hook(), storetest.Hook{})
	switch which {
	case "index":
		faulty = w.replica(options, storetest.Hook{}, fault.hook())
	case "both":
		faulty = w.replica(options, fault.hook(), fault.hook())
	}
	what := fmt.Sprintf("%d bytes in %+v, failure %d", size, c, fault.n)
	data := noise(size, 4)
	id, d := w.start(t, healthy, ""), w.expect(digest.SHA256, data)
	ends, at := c.cut(size), 0
	for i, s := 0, faulty; i < len(ends); i++ {
		piece := chunk(data[at:ends[i]], int64(at), i%2 == 0)
		var err error
		if i < len(ends)-1 {
			_, err = s.Append(t.Context(), repository, id, piece)
		} else {
			_, err = s.Finish(t.Context(), repository, id, piece, d)
		}
		if err == nil {
			at = ends[i]
			continue
		}
		require.ErrorIs(t, err, errFault, what)
		require.NoError(t, w.check(), what)
		s = healthy
		status, err := s.Status(t.Context(), repository, id)
		if errors.Is(err, store.ErrSessionUnknown) {
			require.Equal(t, len(ends)-1, i, "%s: the upload is gone before its end", what)
			_, err := s.Finish(t.Context(), repository, id, piece, d)
			require.NoError(t, err, "%s: the same PUT again", what)
			break
		}
		require.NoError(t, err, what)
		require.GreaterOrEqual(t, status.Offset, int64(at), "%s: acknowledged bytes are lost", what)
		require.LessOrEqual(t, status.Offset, int64(ends[i]), what)
		at = int(status.Offset)
		i-- // the rest of the same piece
	}
	w.requireContent(t, d, data)
	require.NoError(t, w.check(), what)
}

// TestPUTThatFailedCanBeSentAgainAsItIs: whatever failed, the same closing request either succeeds, or says where the upload
// stands.
func TestPUTThatFailedCanBeSentAgainAsItIs(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, after := range []bool{false, true} {
			for _, which := range []string{"objects", "index"} {
				succeeded := 0
				for n := int64(1); ; n++ {
					fault, hook := &nth{n: n, after: after}, storetest.Hook{}
					w := newWorld(limits)
					s := w.stage()
					data := noise(3*partSize, 5)
					id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
					_, err := s.Append(t.Context(), repository, id, chunk(data[:partSize+50], 0, true))
					require.NoError(t, err)
					faulty := w.replica(staging.Options{}, fault.hook(), hook)
					if which == "index" {
						faulty = w.replica(staging.Options{}, hook, fault.hook())
					}
					last := func() staging.Chunk { return chunk(data[partSize+50:], partSize+50, true) }
					if _, err = faulty.Finish(t.Context(), repository, id, last(), d); !fault.hit.Load() {
						require.NoError(t, err)
						break
					}
					_, err = s.Finish(t.Context(), repository, id, last(), d)
					var offset *staging.OffsetError
					if errors.As(err, &offset) {
						at := offset.Upload.Offset
						_, err = s.Finish(t.Context(), repository, id, chunk(data[at:], at, true), d)
					} else {
						succeeded++
					}
					require.NoError(t, err, "%s, %s failure %d, after=%t", kind, which, n, after)
					w.requireContent(t, d, data)
					w.requireSound(t)
				}
				assert.Positive(t, succeeded)
			}
		}
	}
}

// TestUploadWhoseEndFailedCanBeContinued: the last part, which may be smaller than others may, does not count before the
// upload is completing.
func TestUploadWhoseEndFailedCanBeContinued(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, after := range []bool{false, true} {
			for n := int64(1); continued(t, limits, &nth{n: n, after: after}, kind); n++ {
			}
		}
	}
}

// continued finishes an upload over a store that fails once, then goes on with it, if it is still open. It reports whether
// the store failed.
func continued(t *testing.T, limits store.Limits, fault *nth, kind string) bool {
	t.Helper()
	w, ctx := newWorld(limits), t.Context()
	s, faulty := w.stage(), w.replica(staging.Options{}, fault.hook(), fault.hook())
	data := noise(2*partSize, 6)
	short := w.expect(digest.SHA256, data[:partSize+10])
	id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
	_, err := s.Append(ctx, repository, id, chunk(data[:partSize+5], 0, true))
	require.NoError(t, err)
	_, err = faulty.Finish(ctx, repository, id, chunk(data[partSize+5:partSize+10], partSize+5, true), short)
	if !fault.hit.Load() {
		require.NoError(t, err)
		return false
	}
	w.requireSound(t)
	status, err := s.Status(ctx, repository, id)
	if errors.Is(err, store.ErrSessionUnknown) { // it was finished
		w.requireContent(t, short, data[:partSize+10])
		return true
	}
	require.NoError(t, err)
	_, err = s.Append(ctx, repository, id, chunk(data[status.Offset:], status.Offset, true))
	var offset *staging.OffsetError
	if errors.As(err, &offset) { // it is completing, and can only be finished
		_, err = s.Finish(ctx, repository, id, staging.Chunk{At: -1}, short)
		require.NoError(t, err)
		return true
	}
	require.NoError(t, err)
	_, err = s.Finish(ctx, repository, id, staging.Chunk{At: -1}, d)
	require.NoError(t, err, "%s, failure %d, after=%t", kind, fault.n, fault.after)
	w.requireContent(t, d, data)
	w.requireSound(t)
	return true
}
