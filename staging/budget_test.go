package staging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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

const page = 64 << 10

func TestBudgetIsRoundedToPages(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]int64{-1: 16 * page, 0: 16 * page, 17*page + 1: 17 * page, staging.DefaultBudget: 64 << 20} {
		budget := staging.NewBudget(size)
		assert.Equal(t, want, budget.Size(), "NewBudget(%d)", size)
		assert.Zero(t, budget.Held())
	}
}

// TestUploadsLargerThanTheBudgetShareIt: sixteen uploads, each with parts of a quarter of the budget, all at once.
func TestUploadsLargerThanTheBudgetShareIt(t *testing.T) {
	t.Parallel()
	for _, limits := range []store.Limits{
		{PartSize: 4 * page},
		{MinPart: 3 * page, PartSize: 4 * page, MaxParts: 10_000},
		{MinPart: 3 * page, PartSize: 4 * page, MaxParts: 10_000, EqualParts: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(limits)
			budget, most := staging.NewBudget(0), int64(0)
			var mu sync.Mutex
			slow := storetest.Hook{Before: func(context.Context, string) error {
				mu.Lock()
				most = max(most, budget.Held())
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
				return nil
			}}
			replicas := []*staging.Stage{
				w.replica(staging.Options{Budget: budget}, slow, storetest.Hook{}),
				w.replica(staging.Options{Budget: budget}, slow, storetest.Hook{}),
			}
			var running sync.WaitGroup
			for i := range 16 {
				s := replicas[i%2]
				data := noise(24*page+i, uint64(i))
				id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
				running.Go(func() {
					_, err := s.Append(t.Context(), repository, id, chunk(data[:len(data)/2], 0, i%3 == 0))
					assert.NoError(t, err)
					_, err = s.Finish(t.Context(), repository, id, chunk(data[len(data)/2:], int64(len(data)/2), i%3 == 0), d)
					assert.NoError(t, err)
				})
			}
			running.Wait()
			assert.Zero(t, budget.Held(), "all buffers should be given back")
			assert.LessOrEqual(t, most, budget.Size())
			assert.Greater(t, most, budget.Size()/2, "the uploads should have filled the budget")
			w.requireSound(t)
			for d, data := range w.digests {
				w.requireContent(t, d, data)
			}
		})
	}
}

func TestStalledClientsHoldAPageEachWhileAFastOneCompletes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(store.Limits{MinPart: 3 * page, PartSize: 4 * page, MaxParts: 10_000})
		budget := staging.NewBudget(40 * page)
		s := w.replica(staging.Options{Budget: budget}, storetest.Hook{}, storetest.Hook{})
		var stalled []*client
		var ended []<-chan error
		for range 12 {
			body := newClient()
			ended = append(ended, appending(t.Context(), s, w.start(t, s, ""), 0, body))
			body.send(t, noise(3*page+100, 1))
			stalled = append(stalled, body)
		}
		synctest.Wait()
		assert.Greater(t, budget.Held(), int64(12*page), "before they are idle")
		time.Sleep(5*time.Second + 1)
		synctest.Wait()
		assert.LessOrEqual(t, budget.Held(), int64(12*page))

		data := noise(200*page, 2)
		id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
		_, err := s.Finish(t.Context(), repository, id, chunk(data, 0, false), d)
		require.NoError(t, err)
		w.requireContent(t, d, data)
		for i, body := range stalled {
			require.NoError(t, body.feed.CloseWithError(errCut))
			require.ErrorIs(t, <-ended[i], errCut)
		}
		assert.Zero(t, budget.Held())
		w.requireSound(t)
	})
}

// standstill is a budget whose pages are all held by clients that stall.
type standstill struct {
	*world
	stage   *staging.Stage
	budget  *staging.Budget
	clients []*client
	ended   []<-chan error
}

func newStandstill(t *testing.T) *standstill {
	w := newWorld(kinds["big parts"])
	c := &standstill{world: w, budget: staging.NewBudget(0)}
	c.stage = w.replica(staging.Options{Budget: c.budget, Busy: 30 * time.Second}, storetest.Hook{}, storetest.Hook{})
	for range c.budget.Size() / page {
		body := newClient()
		c.ended = append(c.ended, appending(t.Context(), c.stage, w.start(t, c.stage, ""), 0, body))
		body.send(t, []byte("a"))
		c.clients = append(c.clients, body)
	}
	synctest.Wait()
	require.Equal(t, c.budget.Size(), c.budget.Held())
	return c
}

// leave lets one client go.
func (c *standstill) leave(t *testing.T) {
	t.Helper()
	require.NoError(t, c.clients[0].feed.Close())
	require.NoError(t, <-c.ended[0])
	c.clients, c.ended = c.clients[1:], c.ended[1:]
	synctest.Wait()
}

func (c *standstill) leaveAll(t *testing.T) {
	t.Helper()
	for len(c.clients) > 0 {
		c.leave(t)
	}
	assert.Zero(t, c.budget.Held())
	c.requireSound(t)
}

func TestUploadThatFindsNoBufferIsBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newStandstill(t)
		id := c.start(t, c.stage, "")
		begin := time.Now()
		_, err := c.stage.Append(t.Context(), repository, id, chunk(noise(100, 1), 0, true))
		require.ErrorIs(t, err, staging.ErrBusy)
		assert.InDelta(t, 30, time.Since(begin).Seconds(), 1)
		c.leaveAll(t)
		_, err = c.stage.Append(t.Context(), repository, id, chunk(noise(100, 1), 0, true))
		require.NoError(t, err)
	})
}

func TestUploadThatFindsNoMoreBufferKeepsWhatCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newStandstill(t)
		c.leave(t)
		data := noise(5*partSize, 2)
		id, body := c.start(t, c.stage, ""), newClient()
		ended := appending(t.Context(), c.stage, id, 0, body)
		body.send(t, data[:partSize]) // it holds the last page; a part's end wants another
		synctest.Wait()
		time.Sleep(time.Second)
		status, err := c.stage.Status(t.Context(), repository, id)
		require.NoError(t, err)
		require.Equal(t, int64(partSize), status.Offset, "it should save rather than hold what others wait for")
		go func() { _, _ = body.feed.Write(data[partSize:]) }()
		require.NoError(t, errorOf(ended, body))
		c.leaveAll(t)
	})
}

// errorOf waits until the upload has read all that its client sends, and ends it.
func errorOf(ended <-chan error, body *client) error {
	synctest.Wait()
	body.feed.Close()
	return <-ended
}

func TestBuffersGoToWhoeverCameFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newStandstill(t)
		var waiting []<-chan error
		var order []int
		var mu sync.Mutex
		for i := range 5 {
			id, ended := c.start(t, c.stage, ""), make(chan error, 1)
			waiting = append(waiting, ended)
			go func() {
				_, err := c.stage.Append(t.Context(), repository, id, chunk([]byte(fmt.Sprint(i)), 0, true))
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				ended <- err
			}()
			time.Sleep(30 * time.Millisecond) // less, and more, than what they wait before they settle
			synctest.Wait()
		}
		assert.Empty(t, order)
		c.leave(t)
		for _, ended := range waiting {
			require.NoError(t, <-ended)
		}
		assert.Equal(t, []int{0, 1, 2, 3, 4}, order)
		c.leaveAll(t)
	})
}

func TestUploadThatWaitsForABufferCanBeCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newStandstill(t)
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		first := appending(ctx, c.stage, c.start(t, c.stage, ""), 0, strings.NewReader("bytes"))
		synctest.Wait()
		second := appending(t.Context(), c.stage, c.start(t, c.stage, ""), 0, strings.NewReader("bytes"))
		time.Sleep(time.Second)
		cancel(gone)
		require.ErrorIs(t, <-first, gone)
		c.leave(t)
		require.NoError(t, <-second, "the buffer goes to the next one")
		c.leaveAll(t)
	})
}
