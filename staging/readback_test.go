package staging_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

// bodies shows a test the bodies that are stored, before the store reads them.
type bodies struct {
	store.Objects
	see func(body io.ReadSeeker, offset, size int64) error // offset: of a part, or -1
}

func (b *bodies) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	if err := b.see(r, -1, size); err != nil {
		return err
	}
	return b.Objects.Put(ctx, key, r, size)
}

func (b *bodies) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	if err := b.see(r, part.Offset, part.Size); err != nil {
		return part, err
	}
	return b.Objects.PutPart(ctx, m, fence, part, r)
}

// FuzzBodyReadsAndSeeksAsBytesDo lets a store read a part that is made of tails, bytes of the row and new ones in any way
// that it may like, and compares with the same bytes in one piece.
func FuzzBodyReadsAndSeeksAsBytesDo(f *testing.F) {
	f.Add([]byte{0, 10, 1, 0, 0, 200, 2, 255, 3, 0, 0, 255, 4, 7})
	f.Add([]byte{3, 1, 0, 255, 1, 255, 0, 255, 1, 10, 0, 255, 0, 255})
	f.Fuzz(func(t *testing.T, moves []byte) {
		w := newWorld(kinds["big parts"])
		data := noise(partSize+minPart, 1)
		var met atomic.Int64
		see := func(body io.ReadSeeker, offset, size int64) error {
			if offset < 0 {
				return nil
			}
			met.Add(1)
			return move(body, bytes.NewReader(data[offset:offset+size]), size, moves)
		}
		s := staging.New(w.meta, &bodies{w.objects, see}, &staging.Options{InlineLimit: 100})
		id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
		for _, piece := range [][2]int{{0, 3000}, {3000, 4000}, {4000, 4090}, {4090, 4099}} { // two tails, and some in the row
			_, err := s.Append(t.Context(), repository, id, chunk(data[piece[0]:piece[1]], int64(piece[0]), true))
			require.NoError(t, err)
		}
		_, err := s.Finish(t.Context(), repository, id, chunk(data[4099:], 4099, true), d)
		require.NoError(t, err)
		w.requireContent(t, d, data)
		require.Equal(t, int64(2), met.Load(), "parts")
	})
}

// move makes the same moves on both.
func move(got, want io.ReadSeeker, size int64, moves []byte) error {
	for i := 0; i+1 < len(moves); i += 2 {
		arg := int64(moves[i+1]) * size / 255
		switch moves[i] % 5 {
		case 0:
			p, q := make([]byte, arg), make([]byte, arg)
			n, err := io.ReadFull(got, p)
			m, wantErr := io.ReadFull(want, q)
			if n != m || !errors.Is(err, wantErr) || !bytes.Equal(p[:n], q[:m]) {
				return fmt.Errorf("move %d: read %d of %d bytes, %w; want %d, %w", i/2, n, arg, err, m, wantErr)
			}
		default:
			whence := int(moves[i]%5) - 1 // 3 is none
			if whence == io.SeekEnd {
				arg = -arg
			}
			n, err := got.Seek(arg, whence)
			m, wantErr := want.Seek(arg, whence)
			if n != m || (err == nil) != (wantErr == nil) {
				return fmt.Errorf("move %d: sought to %d, %w; want %d, %w", i/2, n, err, m, wantErr)
			}
		}
	}
	return nil
}

// rotten returns a wrong byte from its nth reading of an object on.
type rotten struct {
	store.Objects
	from, until, at int64
	opened          atomic.Int64
}

func (r *rotten) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	reader, err := r.Objects.Open(ctx, key, offset, length)
	if n := r.opened.Add(1); err != nil || n < r.from || n > r.until {
		return reader, err
	}
	data, err := io.ReadAll(reader)
	if err != nil {
		return nil, err
	}
	data[r.at%int64(len(data))] ^= 1
	return io.NopCloser(bytes.NewReader(data)), nil
}

// TestBytesThatRotInTheStoreNeverBecomeContent: tails that are joined are not believed, in whichever reading they are wrong.
func TestBytesThatRotInTheStoreNeverBecomeContent(t *testing.T) {
	t.Parallel()
	budget := staging.NewBudget(0)
	defer takePages(t, budget, 9)() // so that a second reading is one of the store, too
	for _, kind := range []string{"big parts", "equal parts"} {
		for _, size := range []int{6000, partSize + 6000} { // joined as one object, and as a part
			for _, twice := range []bool{false, true} { // the store reads bodies twice, and keeps the second reading
				for _, garbage := range []string{"none", "all", "parts"} {
					for at := int64(0); at < 1000; at += 333 {
						w := newWorld(kinds[kind])
						objects := &rotten{Objects: w.objects, from: 1, until: 1 << 40, at: at}
						if twice {
							objects.from = 3 // two tails, read twice
						}
						reading := &bodies{objects, func(body io.ReadSeeker, _, _ int64) error {
							if !twice {
								return nil
							}
							return readOnce(body)
						}}
						s := staging.New(&forgetful{w.meta, garbage}, reading, &staging.Options{InlineLimit: 10, Budget: budget})
						ctx, data := t.Context(), noise(size, 2)
						id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
						for _, piece := range [][2]int{{0, size - 5000}, {size - 5000, size - 4000}, {size - 4000, size - 3000}} {
							_, err := s.Append(ctx, repository, id, chunk(data[piece[0]:piece[1]], int64(piece[0]), true))
							if err != nil {
								break
							}
						}
						status, err := s.Status(ctx, repository, id)
						require.NoError(t, err)
						_, err = s.Finish(ctx, repository, id, chunk(data[status.Offset:], status.Offset, true), d)
						if objects.opened.Load() >= objects.from {
							require.Error(t, err, "%s, %d bytes, twice=%t, garbage=%s", kind, size, twice, garbage)
							w.requireAbsent(t, d)
						}
						w.requireSound(t)
						objects.until = 0 // the store is well again
						status, err = s.Status(ctx, repository, id)
						if errors.Is(err, store.ErrSessionUnknown) {
							continue
						}
						require.NoError(t, err)
						_, err = s.Finish(ctx, repository, id, chunk(data[status.Offset:], status.Offset, true), d)
						if garbage == "none" {
							require.NoError(t, err)
							w.requireContent(t, d, data)
						}
						w.requireSound(t)
					}
				}
			}
		}
	}
}

// readOnce reads a body as a store does that signs it first.
func readOnce(body io.ReadSeeker) error {
	_, err := io.Copy(io.Discard, body)
	_, sought := body.Seek(0, io.SeekStart)
	return errors.Join(err, sought)
}

// takePages takes so many pages of a budget, until the returned function is called.
func takePages(t *testing.T, budget *staging.Budget, n int) (release func()) {
	w := newWorld(kinds["any parts"])
	s := w.replica(staging.Options{Budget: budget}, storetest.Hook{}, storetest.Hook{})
	began, end := make(chan struct{}), make(chan struct{})
	var uploads sync.WaitGroup
	for range n {
		id := w.start(t, s, "")
		uploads.Go(func() {
			_, err := s.Append(t.Context(), repository, id, staging.Chunk{Body: &endless{began, end}, Size: -1})
			assert.NoError(t, err)
		})
		<-began
	}
	return func() { close(end); uploads.Wait() }
}

// endless is a body that does not come, until its client ends it.
type endless struct {
	began chan<- struct{}
	end   <-chan struct{}
}

func (e *endless) Read([]byte) (int, error) {
	e.began <- struct{}{}
	<-e.end
	return 0, io.EOF
}

// TestTailsAreReadOnceHoweverOftenTheStoreReads: they are kept for a store that signs what it sends, while there is memory
// to spare.
func TestTailsAreReadOnceHoweverOftenTheStoreReads(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		taken  int   // pages of 16
		opened int64 // of three tails: one joins the first part, two the last
	}{
		{"with memory to spare", 0, 3},
		{"without", 9, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, budget := newWorld(kinds["big parts"]), staging.NewBudget(0)
			release := takePages(t, budget, test.taken)
			objects := &rotten{Objects: w.objects} // it counts
			s := staging.New(w.meta, &bodies{objects, func(body io.ReadSeeker, offset, _ int64) error {
				if offset < 0 {
					return nil
				}
				return readOnce(body)
			}}, &staging.Options{InlineLimit: 10, Budget: budget})
			data := noise(partSize+4000, 4)
			id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
			for _, at := range []int{0, partSize, partSize + 2000} {
				end := map[int]int{0: partSize, partSize: partSize + 2000, partSize + 2000: len(data)}[at]
				_, err := s.Append(t.Context(), repository, id, chunk(data[at:end], int64(at), true))
				require.NoError(t, err)
			}
			_, err := s.Finish(t.Context(), repository, id, staging.Chunk{At: -1}, d)
			require.NoError(t, err)
			w.requireContent(t, d, data)
			assert.Equal(t, test.opened, objects.opened.Load())
			release()
			assert.Zero(t, budget.Held(), "all buffers should be given back")
		})
	}
}

// forgetful is an index whose hash states nobody can read, as after a change of what computes them.
type forgetful struct {
	store.Metadata
	garbage string // all, sum, parts, none
}

func (f *forgetful) ClaimSession(ctx context.Context, claim store.Claim) (store.Session, error) {
	session, err := f.Metadata.ClaimSession(ctx, claim)
	if f.garbage == "all" || f.garbage == "sum" {
		session.Hash = []byte("garbage")
	}
	if f.garbage == "all" || f.garbage == "parts" {
		session.PartsHash = session.PartsHash[:len(session.PartsHash)/2]
	}
	return session, err
}

func TestUploadWhoseHashCannotBeReadIsReadBack(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, garbage := range []string{"all", "sum", "parts"} {
			for _, size := range []int{500, 3000, partSize, partSize + 300, 3*partSize + 3000} {
				for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
					w := newWorld(limits)
					s := staging.New(&forgetful{w.meta, garbage}, w.objects, &staging.Options{InlineLimit: inlineLimit})
					ctx, data := t.Context(), noise(size, 3)
					id, d := w.start(t, s, ""), w.expect(a, data)
					for at := 0; at < size; at += 2500 {
						_, err := s.Append(ctx, repository, id, chunk(data[at:min(at+2500, size)], int64(at), true))
						require.NoError(t, err)
					}
					wrong := a.FromString("wrong")
					var mismatch *cas.MismatchError
					_, err := s.Finish(ctx, repository, id, staging.Chunk{At: -1}, wrong)
					require.ErrorAs(t, err, &mismatch, "%s, %s, %d bytes", kind, garbage, size)
					w.requireAbsent(t, wrong)
					got, err := s.Finish(ctx, repository, id, staging.Chunk{At: -1}, d)
					require.NoError(t, err, "%s, %s, %d bytes", kind, garbage, size)
					assert.Equal(t, int64(size), got)
					w.requireContent(t, d, data)
					w.requireSound(t)
				}
			}
		}
	}
}
