package staging_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
)

// slowPart is a store in which one part takes long, and then fails or not. It notes the numbers of all.
type slowPart struct {
	store.Objects
	number int32
	err    error

	mu      sync.Mutex
	numbers []int32 // in the order of their arrival
	most    int     // that were under way at once
	now     int
}

func (o *slowPart) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	o.mu.Lock()
	o.now++
	o.most = max(o.most, o.now)
	o.mu.Unlock()
	wait, fail := time.Second, error(nil)
	if part.Number == o.number {
		wait, fail = time.Minute, o.err
	}
	time.Sleep(wait)
	put, err := o.Objects.PutPart(ctx, m, fence, part, r)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now--
	o.numbers = append(o.numbers, part.Number)
	return put, errors.Join(err, fail)
}

// TestPartThatFailsTakesThoseAfterItAlong: parts are stored several at a time and out of order, but bytes are durable in
// theirs.
func TestPartThatFailsTakesThoseAfterItAlong(t *testing.T) {
	t.Parallel()
	const parts = 8
	for kind, limits := range kinds {
		for _, inFlight := range []int{1, 2, 3, 5} {
			for number := int32(1); number <= parts; number++ {
				synctest.Test(t, func(t *testing.T) {
					what := fmt.Sprintf("%s, %d in flight, part %d fails", kind, inFlight, number)
					w := newWorld(limits)
					objects := &slowPart{Objects: w.objects, number: number, err: errFault}
					s := staging.New(w.meta, objects, &staging.Options{
						InlineLimit: inlineLimit, SaveBytes: partSize, PartsInFlight: inFlight,
					})
					data := noise(parts*partSize, 7)
					id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
					_, err := s.Append(t.Context(), repository, id, chunk(data, 0, number%2 == 0))
					require.ErrorIs(t, err, errFault, what)
					status, err := s.Status(t.Context(), repository, id)
					require.NoError(t, err)
					require.Equal(t, int64(number-1)*partSize, status.Offset, what)
					require.LessOrEqual(t, objects.most, inFlight+1, "%s: with what was left at the end", what)
					if int(number) < parts-inFlight {
						require.Equal(t, inFlight, objects.most, what)
						require.Equal(t, number+int32(inFlight)-1, slices.Max(objects.numbers), "%s: parts that were sent meanwhile", what)
					}
					_, err = s.Finish(t.Context(), repository, id, chunk(data[status.Offset:], status.Offset, true), d)
					require.NoError(t, err, what)
					w.requireContent(t, d, data)
					w.requireSound(t)
					slices.Sort(objects.numbers)
					require.Len(t, slices.Compact(slices.Clone(objects.numbers)), len(objects.numbers), "%s: a part number was used twice: %v", what, objects.numbers)
				})
			}
		}
	}
}

// TestPartsThatArriveOutOfOrderAreInOrder, also where a save comes in between.
func TestPartsThatArriveOutOfOrderAreInOrder(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for number := int32(1); number <= 6; number++ {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(limits)
				objects := &slowPart{Objects: w.objects, number: number}
				s := staging.New(w.meta, objects, &staging.Options{InlineLimit: inlineLimit, SaveBytes: partSize, PartsInFlight: 3})
				data := noise(6*partSize+100, 8)
				id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
				begin := time.Now()
				_, err := s.Finish(t.Context(), repository, id, chunk(data, 0, false), d)
				require.NoError(t, err)
				assert.Less(t, time.Since(begin), 64*time.Second, "%s: a slow part should not stop the others", kind)
				w.requireContent(t, d, data)
				w.requireSound(t)
			})
		}
	}
}

// TestPUTIsRetriedElsewhereWhileACompletionTakesMinutes: S3 may take long to complete. The client has lost its patience, and
// sends the closing request again, to other replicas; all of the completions reach the store, in whatever order.
func TestPUTIsRetriedElsewhereWhileACompletionTakesMinutes(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, minutes := range [][3]time.Duration{{5, 5, 5}, {7, 3, 1}, {1, 3, 7}, {9, 1, 9}} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(limits)
				data := noise(3*partSize+100, 9)
				id, d := w.start(t, w.stage(), ""), w.expect(digest.SHA256, data)
				var running sync.WaitGroup
				for i, take := range minutes {
					objects := &slowCompletion{w.objects, take * time.Minute, &running}
					s := staging.New(w.meta, objects, &staging.Options{InlineLimit: inlineLimit})
					ctx, giveUp := context.WithCancel(t.Context())
					running.Go(func() {
						_, err := s.Finish(ctx, repository, id, chunk(data, 0, true), d)
						if i == len(minutes)-1 {
							assert.NoError(t, err, "%s, %v: the last closing request", kind, minutes)
						}
					})
					time.Sleep(time.Minute)
					if i < len(minutes)-1 {
						giveUp()
					} else {
						defer giveUp()
					}
				}
				running.Wait()
				w.requireContent(t, d, data)
				w.requireSound(t)
			})
		}
	}
}

// slowCompletion takes long to complete, and does it also for who does not wait.
type slowCompletion struct {
	store.Objects
	take time.Duration
	late *sync.WaitGroup
}

func (o *slowCompletion) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	done := make(chan error, 1)
	o.late.Go(func() {
		time.Sleep(o.take)
		done <- o.Objects.Complete(context.WithoutCancel(ctx), m, parts)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
