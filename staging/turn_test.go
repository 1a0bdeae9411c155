package staging_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

// TestUploadsOfEveryKindShareABudget lets crowds of random clients, fast, slow, stalling and vanishing ones, upload through
// a budget of a random size to a store of random limits that is slow at random. What must hold: no upload waits without
// end, none is refused or fails but by its own client, buffers stay within the budget and all come back, and what was
// uploaded is right.
//
// OCIKIT_TEST_SEED repeats one crowd.
func TestUploadsOfEveryKindShareABudget(t *testing.T) {
	t.Parallel()
	if seed, err := strconv.ParseUint(os.Getenv("OCIKIT_TEST_SEED"), 10, 64); err == nil {
		shareABudget(t, seed)
		return
	}
	base := uint64(time.Now().UnixNano()) //nolint:gosec // any number does
	for i := range uint64(12) {
		shareABudget(t, base+i)
	}
}

func shareABudget(t *testing.T, seed uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a test's
		least := int64(1 + random.IntN(6*page))
		limits := store.Limits{
			MinPart: least, PartSize: least + random.Int64N(16*page), MaxPart: 1 << 30, MaxParts: 10_000,
			EqualParts: random.IntN(4) == 0,
		}
		w := newWorld(limits)
		w.light = true
		var budget *staging.Budget
		delay := time.Duration(random.IntN(300)) * time.Millisecond
		far := storetest.Hook{Before: func(context.Context, string) error {
			if budget.Held() > budget.Size() {
				return errors.New("more is held than there is")
			}
			time.Sleep(delay)
			return nil
		}}
		uploads := 1 + random.IntN(30)
		budget = staging.NewBudget(int64(uploads+1+random.IntN(100)) * page)
		replicas := make([]*staging.Stage, 2)
		for i := range replicas {
			replicas[i] = w.replica(staging.Options{
				Budget: budget, Busy: time.Hour, PartsInFlight: 1 + random.IntN(4),
			}, far, storetest.Hook{})
		}
		what := fmt.Sprintf("OCIKIT_TEST_SEED=%d: %d uploads, %d pages, %+v", seed, uploads, budget.Size()/page, limits)
		var running sync.WaitGroup
		for i := range uploads {
			s, data := replicas[i%2], noise(random.IntN(40*page), seed+uint64(i)) //nolint:gosec // not negative
			id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
			vanishes := random.IntN(6) == 0
			ctx, vanish := context.WithCancelCause(t.Context())
			told := random.IntN(2) == 0
			body := func(data []byte) staging.Chunk {
				c := staging.Chunk{Body: newMoody(ctx, data, random), Size: -1, At: -1}
				if told {
					c.Size = int64(len(data))
				}
				return c
			}
			cut := random.IntN(len(data) + 1)
			first, last := body(data[:cut]), body(data[cut:])
			if vanishes {
				after := time.Duration(random.IntN(20_000)) * time.Millisecond
				running.Go(func() {
					time.Sleep(after)
					vanish(errCut)
				})
			}
			running.Go(func() {
				defer vanish(nil)
				_, err := s.Append(ctx, repository, id, first)
				if err == nil {
					_, err = s.Finish(ctx, repository, id, last, d)
				}
				if err != nil && !vanishes {
					t.Errorf("%s: upload %d of %d bytes: %v", what, i, len(data), err)
				}
				if err == nil {
					w.requireContent(t, d, data)
				}
			})
		}
		running.Wait()
		require.Zero(t, budget.Held(), "%s: bytes that nobody has given back", what)
		w.requireSound(t)
	})
}

// moody is a client's body: fast, slow, or by turns, with a rest now and then that may be long.
type moody struct {
	ctx    context.Context
	data   []byte
	random *rand.Rand
	rate   int64
	rests  bool
}

func newMoody(ctx context.Context, data []byte, random *rand.Rand) *moody {
	return &moody{
		ctx: ctx, data: data, rests: random.IntN(3) == 0,
		rate:   []int64{1 << 30, 1 << 30, 4 << 20, 300 << 10}[random.IntN(4)],
		random: rand.New(rand.NewPCG(random.Uint64(), 3)), //nolint:gosec // a test's
	}
}

func (m *moody) Read(p []byte) (int, error) {
	if len(m.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+m.random.IntN(2*page))], m.data)
	wait := time.Duration(int64(n) * int64(time.Second) / m.rate)
	if m.rests && m.random.IntN(20) == 0 {
		wait += time.Duration(m.random.IntN(12_000)) * time.Millisecond
	}
	select {
	case <-time.After(wait):
	case <-m.ctx.Done():
		return 0, context.Cause(m.ctx)
	}
	m.data = m.data[n:]
	return n, nil
}
