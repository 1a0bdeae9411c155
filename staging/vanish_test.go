package staging_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

var errCut = errors.New("connection reset")

// client is a body that a test feeds by hand.
type client struct {
	*io.PipeReader
	feed *io.PipeWriter
}

func newClient() *client {
	r, w := io.Pipe()
	return &client{r, w}
}

// send returns when all of data has been read.
func (c *client) send(t testing.TB, data []byte) {
	t.Helper()
	_, err := c.feed.Write(data)
	require.NoError(t, err, "the body should be read")
}

// appending appends a body in the background.
func appending(ctx context.Context, s *staging.Stage, id string, at int64, body io.Reader) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := s.Append(ctx, repository, id, staging.Chunk{Body: body, At: at, Size: -1})
		ended <- err
	}()
	return ended
}

func TestBytesOfABrokenRequestAreKept(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, size := range []int{1, inlineLimit, 3000, partSize, partSize + 1, 3*partSize + minPart - 1} {
			for _, finish := range []bool{false, true} {
				w := newWorld(limits)
				here, there, ctx := w.stage(), w.stage(), t.Context()
				data := noise(size+700, 1)
				id, d := w.start(t, here, ""), w.expect(digest.SHA256, data)
				cut := staging.Chunk{Body: io.MultiReader(bytes.NewReader(data[:size]), broken{}), Size: int64(len(data))}
				var err error
				if finish {
					_, err = here.Finish(ctx, repository, id, cut, d)
				} else {
					_, err = here.Append(ctx, repository, id, cut)
				}
				var body *staging.BodyError
				require.ErrorAs(t, err, &body)
				require.ErrorIs(t, err, errCut)
				status, err := there.Status(ctx, repository, id)
				require.NoError(t, err)
				require.Equal(t, int64(size), status.Offset, "%s: all bytes that came should be durable", kind)
				w.requireSound(t)
				_, err = there.Finish(ctx, repository, id, chunk(data[size:], int64(size), true), d)
				require.NoError(t, err)
				w.requireContent(t, d, data)
				w.requireSound(t)
			}
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errCut }

func TestBytesOfAClientThatVanishedAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(kinds["big parts"])
		here, there := w.stage(), w.stage()
		data := noise(2*partSize+3000, 2)
		id, d := w.start(t, here, ""), w.expect(digest.SHA256, data)
		ctx, cancel := context.WithCancel(t.Context())
		body := newClient()
		ended := appending(ctx, here, id, 0, body)
		body.send(t, data[:len(data)-50])
		synctest.Wait()
		cancel() // as a server does, while a Read is under way
		synctest.Wait()
		require.NoError(t, body.feed.CloseWithError(errCut))
		require.ErrorIs(t, <-ended, errCut)
		status, err := there.Status(t.Context(), repository, id)
		require.NoError(t, err)
		require.Equal(t, int64(len(data)-50), status.Offset)
		_, err = there.Finish(t.Context(), repository, id, chunk(data[status.Offset:], status.Offset, false), d)
		require.NoError(t, err)
		w.requireContent(t, d, data)
	})
}

func TestBodyThatGoesOnAfterItsRequestIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["any parts"])
	s := w.stage()
	id := w.start(t, s, "")
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) { cancel(); return copy(p, "more"), nil })
	_, err := s.Append(ctx, repository, id, staging.Chunk{Body: endless, Size: -1})
	var body *staging.BodyError
	require.ErrorAs(t, err, &body)
	require.ErrorIs(t, err, context.Canceled)

	nothing := readerFunc(func([]byte) (int, error) { return 0, nil })
	_, err = s.Append(t.Context(), repository, id, staging.Chunk{Body: nothing, At: -1, Size: -1})
	require.ErrorIs(t, err, io.ErrNoProgress)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestVanishedClientCannotKeepTheServerForLong: the store hangs as well, and honours nothing but its context.
func TestVanishedClientCannotKeepTheServerForLong(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Put", "SaveSession"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(kinds["big parts"])
			hang := storetest.Hook{Before: func(ctx context.Context, called string) error {
				if called == method {
					<-ctx.Done()
				}
				return ctx.Err()
			}}
			s := w.replica(staging.Options{Linger: 10 * time.Second}, hang, hang)
			healthy := w.stage()
			data := noise(3000, 3)
			id, d := w.start(t, healthy, ""), w.expect(digest.SHA256, data)
			ctx, cancel := context.WithCancel(t.Context())
			begin := time.Now()
			ended := appending(ctx, s, id, 0, bytes.NewReader(data))
			time.AfterFunc(time.Minute, cancel)
			require.ErrorIs(t, <-ended, context.Canceled)
			assert.Equal(t, 70*time.Second, time.Since(begin), "it may linger for 10 s")
			status, err := healthy.Status(t.Context(), repository, id)
			require.NoError(t, err)
			require.Zero(t, status.Offset, "nothing was saved")
			_, err = healthy.Finish(t.Context(), repository, id, chunk(data, 0, true), d)
			require.NoError(t, err)
			w.requireContent(t, d, data)
			w.requireSound(t)
		})
	}
}

func TestIdleUploadSavesWhatItHasAndGivesBuffersBack(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, size := range []int{1, 3000, partSize, 2*partSize + minPart + 1} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(limits)
				budget := staging.NewBudget(0)
				s := w.replica(staging.Options{Budget: budget, Idle: 3 * time.Second}, storetest.Hook{}, storetest.Hook{})
				data := noise(2*size, 4)
				id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
				body := newClient()
				ended := appending(t.Context(), s, id, 0, body)
				body.send(t, data[:size])
				time.Sleep(2 * time.Second)
				synctest.Wait()
				before, err := s.Status(t.Context(), repository, id)
				require.NoError(t, err)
				require.Zero(t, before.Offset, "%s: it is not idle yet", kind)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				status, err := s.Status(t.Context(), repository, id)
				require.NoError(t, err)
				require.Equal(t, int64(size), status.Offset, "%s: an idle upload should have saved", kind)
				require.LessOrEqual(t, budget.Held(), int64(64<<10), "%s: and hold a page at most", kind)
				w.requireSound(t)

				body.send(t, data[size:])
				require.NoError(t, body.feed.Close())
				require.NoError(t, <-ended, "it goes on when bytes come")
				require.Zero(t, budget.Held())
				_, err = s.Finish(t.Context(), repository, id, staging.Chunk{At: int64(2 * size)}, d)
				require.NoError(t, err)
				w.requireContent(t, d, data)
				w.requireSound(t)
			})
		}
	}
}

func TestSlowUploadSavesNowAndThen(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(limits)
			s := w.replica(staging.Options{SaveEvery: 20 * time.Second}, storetest.Hook{}, storetest.Hook{})
			data := noise(100*700, 5)
			id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
			body := newClient()
			ended := appending(t.Context(), s, id, 0, body)
			for i := range 100 { // never idle
				body.send(t, data[i*700:(i+1)*700])
				time.Sleep(time.Second)
				status, err := s.Status(t.Context(), repository, id)
				require.NoError(t, err)
				require.GreaterOrEqual(t, status.Offset, int64((i-21)*700), "%s: what came 21 s ago should be durable", kind)
			}
			require.NoError(t, body.feed.Close())
			require.NoError(t, <-ended)
			_, err := s.Finish(t.Context(), repository, id, staging.Chunk{At: -1}, d)
			require.NoError(t, err)
			w.requireContent(t, d, data)
			w.requireSound(t)
		})
	}
}

func TestLargeUploadSavesOnTheWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(kinds["equal parts"])
		s := w.replica(staging.Options{SaveBytes: 4 * partSize}, storetest.Hook{}, storetest.Hook{})
		data := noise(20*partSize, 6)
		id := w.start(t, s, "")
		body := newClient()
		ended := appending(t.Context(), s, id, 0, body)
		for i := range 20 {
			body.send(t, data[i*partSize:(i+1)*partSize])
			synctest.Wait()
			status, err := s.Status(t.Context(), repository, id)
			require.NoError(t, err)
			require.GreaterOrEqual(t, status.Offset, int64((i+1-6)*partSize), "after %d parts", i+1)
		}
		require.NoError(t, body.feed.CloseWithError(errCut))
		require.ErrorIs(t, <-ended, errCut)
	})
}

// TestUploadSurvivesManyTakeovers: part numbers of writers that never came back are burnt, but there are enough.
func TestUploadSurvivesManyTakeovers(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["big parts"])
	dead := w.replica(staging.Options{}, storetest.Hook{}, storetest.Hook{Before: func(_ context.Context, method string) error {
		if method == "SaveSession" {
			return store.ErrUnavailable
		}
		return nil
	}})
	s, ctx := w.stage(), t.Context()
	data := noise(4*partSize, 7)
	id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
	for range 50 {
		_, err := dead.Append(ctx, repository, id, chunk(data, 0, true))
		require.ErrorIs(t, err, store.ErrUnavailable)
	}
	_, err := s.Finish(ctx, repository, id, chunk(data, 0, true), d)
	require.NoError(t, err)
	w.requireContent(t, d, data)
	w.requireSound(t)
}
