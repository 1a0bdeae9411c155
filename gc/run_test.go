package gc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestContentGoesAfterItsGraceAndItsObjectAfterTheDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		unneeded, needed := w.push(t, repository, "unneeded"), w.push(t, repository, "needed")
		image := manifest{text: "image", layers: nil}
		image.layers = append(image.layers, needed.Digest)
		w.put(t, image)
		time.Sleep(24*time.Hour - time.Second)
		w.once(t, nil)
		require.True(t, w.has(t, repository, unneeded.Digest), "content stays for its grace")

		time.Sleep(time.Second)
		stats := w.once(t, nil)
		require.False(t, w.has(t, repository, unneeded.Digest), "content that nothing needs goes after its grace")
		require.Equal(t, 1, stats.Contents)
		require.Equal(t, int64(len("unneeded")), stats.Bytes)
		time.Sleep(time.Hour - time.Second)
		w.once(t, nil)
		require.True(t, w.hasObject(t, unneeded.Key), "the object stays for the delay")

		time.Sleep(time.Second)
		require.Equal(t, 1, w.once(t, nil).Objects)
		require.False(t, w.hasObject(t, unneeded.Key), "the object goes after the delay")
		require.Empty(t, w.garbage(t), "what is gone is forgotten")
		time.Sleep(1000 * time.Hour)
		w.once(t, nil)
		require.True(t, w.has(t, repository, needed.Digest), "what a manifest refers to stays")
		require.True(t, w.hasObject(t, needed.Key), "what a manifest refers to stays")
	})
}

func TestRoundWithoutWorkIsOneProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{text: "image", layers: nil})
		require.Equal(t, gc.Stats{Rounds: 1}, w.once(t, nil))
		require.Equal(t, map[string]int{"Due": 1}, w.calls)
	})
}

func TestOnceGoesOnWithWhatDoesNotFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var log bytes.Buffer
		opts := &gc.Options{Batch: 4, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		locked := map[store.Key]bool{}
		for i := range 40 {
			if content := w.push(t, repository, text(i)); i%5 == 0 {
				locked[content.Key] = true
			}
		}
		time.Sleep(24 * time.Hour)
		w.once(t, opts)
		w.put(t, manifest{repository: "team/gone", text: "of a deleted repository"})
		require.NoError(t, w.meta.DeleteRepository(t.Context(), "team/gone"))
		require.NoError(t, w.meta.CreateSession(t.Context(), store.NewID(), repository, ""))
		time.Sleep(24 * time.Hour)
		w.calls = map[string]int{}
		w.failOn(func(method string) error {
			if method == "EndSessions" || method == "RecordPulls" {
				return errors.New("away: " + method)
			}
			return nil
		})
		opts.Pulls = gc.NewPulls(0)
		opts.Pulls.Record(repository, digest.FromString("a"), "")
		began := time.Now()
		stats, err := gc.Once(t.Context(), w.index(), &partial{w.objects, locked}, opts)
		require.Zero(t, time.Since(began), "it waits for nothing")
		for _, want := range []string{"away: EndSessions", "away: RecordPulls", "delete objects"} {
			require.ErrorContains(t, err, want, "the error tells of every step that failed")
		}
		require.Equal(t, 32, stats.Objects, "what can be deleted is")
		require.Equal(t, 8, stats.Failed)
		require.Len(t, w.garbage(t), 8, "what cannot be deleted is left for another time")
		require.Positive(t, stats.Drained, "steps after one that failed are taken")
		require.Equal(t, 2, w.count("EndSessions"), "what fails twice without doing anything is not tried again")
		require.Empty(t, log.String(), "what is returned is not logged")
	})
}

func TestDeletedRepositoryIsDrained(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 25 {
			w.push(t, repository, text(i))
		}
		require.NoError(t, w.meta.DeleteRepository(t.Context(), repository))
		stats := w.once(t, &gc.Options{Batch: 10})
		require.Equal(t, 25, stats.Drained)
		time.Sleep(25 * time.Hour)
		require.Equal(t, 25, w.once(t, nil).Contents, "content of a deleted repository is collected after its grace")
		time.Sleep(time.Hour)
		w.once(t, nil)
		require.Empty(t, w.stored(t))
	})
}

// everything makes some work of each kind, and returns how many objects will be left.
func everything(t *testing.T, w *world) {
	t.Helper()
	ctx := t.Context()
	layer := w.push(t, repository, "layer")
	w.put(t, manifest{text: "image", tags: []string{"latest"}, layers: nil})
	d := w.put(t, manifest{text: "other", layers: []digest.Digest{layer.Digest}})
	require.NoError(t, w.meta.DeleteManifest(ctx, repository, d, nil))
	w.push(t, "team/deleted", "shared")
	require.NoError(t, w.meta.DeleteRepository(ctx, "team/deleted"))
	id, key := store.NewID(), store.NewBlobKey()
	require.NoError(t, w.meta.CreateSession(ctx, id, repository, ""))
	session, err := w.meta.ClaimSession(ctx, store.Claim{SessionRef: store.SessionRef{ID: id, Repository: repository}, Reserve: store.Reservation{Blob: key}})
	require.NoError(t, err)
	begun, err := w.objects.Begin(ctx, key)
	require.NoError(t, err)
	session.Progress.Multipart = begun
	require.NoError(t, w.meta.SaveSession(ctx, store.Save{ID: id, Version: session.Version, Progress: session.Progress}))
}

func requireNothingLeft(t *testing.T, w *world, message string) {
	t.Helper()
	require.Empty(t, w.stored(t), message)
	require.Empty(t, w.garbage(t), message)
	candidates, err := w.meta.Candidates(t.Context(), -time.Hour<<20, 1<<20)
	require.NoError(t, err)
	require.Empty(t, candidates, message)
	require.True(t, w.has(t, repository, digest.FromString("image")), "what is needed stays: %s", message)
}

func TestCrashBetweenAnyTwoCallsLeavesWhatTheNextRoundFinishes(t *testing.T) {
	t.Parallel()
	days := func(t *testing.T, w *world, index gc.Index, objects store.Objects) (failed bool) {
		for range 4 {
			if _, err := gc.Once(t.Context(), index, objects, nil); err != nil {
				return true
			}
			time.Sleep(25 * time.Hour)
		}
		return false
	}
	for _, lost := range []string{"request", "answer"} {
		crashes := 0
		for at := 1; ; at++ {
			crashed := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				everything(t, w)
				calls, dead := 0, errors.New("killed")
				var mu sync.Mutex
				count := func() error {
					mu.Lock()
					defer mu.Unlock()
					if calls++; calls >= at {
						return dead
					}
					return nil
				}
				hook := storetest.Hook{Before: func(context.Context, string) error { return count() }}
				if lost == "answer" {
					hook = storetest.Hook{After: func(_ context.Context, _ string, err error) error { return errors.Join(count(), err) }}
				}
				crashed = days(t, w, hooked(w.meta, hook), storetest.HookObjects(w.objects, hook))
				time.Sleep(25 * time.Hour)
				require.False(t, days(t, w, w.index(), w.hookedObjects()))
				requireNothingLeft(t, w, fmt.Sprintf("crash at call %d, %s lost", at, lost))
			})
			if !crashed {
				break
			}
			crashes++
		}
		require.GreaterOrEqual(t, crashes, 15, "the test must have crashed between many calls")
	}
}

func TestCollectorsInParallelDoTheWorkOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		everything(t, w)
		for i := range 500 {
			w.push(t, repository, text(i))
		}
		var (
			mu    sync.Mutex
			total gc.Stats
			wait  sync.WaitGroup
		)
		ctx, cancel := context.WithCancel(t.Context())
		for range 4 {
			wait.Go(func() {
				assert.NoError(t, gc.Run(ctx, w.index(), w.hookedObjects(), &gc.Options{Batch: 16, Observe: func(e gc.Event) {
					assert.NoError(t, e.Err)
					mu.Lock()
					defer mu.Unlock()
					total.Add(e.Stats)
				}}))
			})
		}
		time.Sleep(100 * time.Hour)
		cancel()
		wait.Wait()
		requireNothingLeft(t, w, "after four days")
		require.Equal(t, 503, total.Contents, "content is collected once: the 500, two blobs and a manifest")
		require.Equal(t, 1, total.Sessions)
		require.Zero(t, w.count("List"))
	})
}

func TestErrorIsLoggedOnceAndBacksOffAndOtherWorkGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var log bytes.Buffer
		w.push(t, repository, "a")
		time.Sleep(24 * time.Hour)
		w.once(t, nil)
		time.Sleep(time.Hour)
		n := 0
		w.failOn(func(method string) error {
			if method == "Delete" {
				n++
				return fmt.Errorf("bucket is away, request %d", n)
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() {
			assert.NoError(t, gc.Run(ctx, w.index(), w.hookedObjects(), &gc.Options{
				Grace: time.Hour, Again: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			}))
		})
		b := w.push(t, repository, "b")
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		assert.False(t, w.has(t, repository, b.Digest), "what does not fail goes on")
		assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), "an error is logged once: %s", log.String())
		assert.Greater(t, w.count("Delete"), 100, "it is tried again")
		assert.Less(t, w.count("Delete"), 400, "it is tried again in ever longer turns, up to a minute")

		w.failOn(nil)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, strings.Count(log.String(), "level=INFO"), "that it goes on is logged: %s", log.String())
		assert.Empty(t, w.stored(t))
		cancel()
		wait.Wait()
	})
}

func TestIndexThatIsAwayIsAskedInEverLongerTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.failOn(func(string) error { return store.ErrUnavailable })
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() { assert.NoError(t, gc.Run(ctx, w.index(), w.hookedObjects(), nil)) })
		time.Sleep(10 * time.Minute)
		cancel()
		wait.Wait()
		assert.Greater(t, w.count("Due"), 9)
		assert.Less(t, w.count("Due"), 25)
	})
}

func TestRunEndsWithItsContextAndRefusesWrongOptions(t *testing.T) {
	t.Parallel()
	w := newWorld()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, gc.Run(ctx, w.index(), w.hookedObjects(), nil))
	for field, opts := range map[string]*gc.Options{
		"Grace: ":                    {Grace: -1},
		"Delay: ":                    {Delay: -1},
		"URLLife: ":                  {URLLife: -1},
		"Life.Idle: ":                {Life: store.Life{Idle: -1}},
		"Life.Total: ":               {Life: store.Life{Total: -1}},
		"Batch: ":                    {Batch: -1},
		"Share: -0.1 is not above":   {Share: -0.1},
		"Share: 1.1 is not above":    {Share: 1.1},
		"Share: NaN is not above":    {Share: math.NaN()},
		"policies[0].repositories: ": {Policies: []gc.Policy{{}}},
	} {
		require.ErrorContains(t, gc.Run(t.Context(), w.index(), w.hookedObjects(), opts), field)
		_, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), opts)
		require.ErrorContains(t, err, field)
		require.ErrorContains(t, opts.Validate(), field)
	}
	require.NoError(t, (*gc.Options)(nil).Validate())
	require.NoError(t, new(gc.Options).Validate())
	for _, opts := range []*gc.Options{{URLLife: time.Hour}, {Delay: time.Minute, URLLife: time.Minute}} {
		_, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), opts)
		require.ErrorContains(t, err, "Delay: ")
		require.ErrorContains(t, err, "not longer than URLLife")
	}
	require.NoError(t, gc.Run(ctx, w.index(), w.hookedObjects(), &gc.Options{URLLife: time.Hour - 1}))
	require.Empty(t, w.calls, "nothing happens with wrong options")
}

func TestBatchesAdaptToHowLongTheyTake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 4000 {
			w.push(t, repository, text(i))
		}
		time.Sleep(24 * time.Hour)
		var sizes []int
		w.failOn(func(method string) error {
			if method == "ReviewCandidates" {
				took := 300 * time.Millisecond
				if len(sizes) >= 3 {
					took = time.Millisecond
				}
				time.Sleep(took)
			}
			return nil
		})
		_, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), &gc.Options{Observe: func(e gc.Event) {
			if e.Step == gc.StepCandidates {
				sizes = append(sizes, e.Stats.Candidates)
			}
		}})
		require.NoError(t, err)
		require.Equal(t, []int{1000, 500, 250, 125, 250, 500, 1000, 375}, sizes)
	})
}

func TestBatchesBesideClientsAreSmall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		way, each time.Duration // what a review takes: to get there and back, and for each candidate
		most      int           // at once
	}{
		"TheIndexIsNear":      {way: time.Millisecond, each: 50 * time.Microsecond, most: 64},
		"TheIndexIsFarAway":   {way: 80 * time.Millisecond, each: 50 * time.Microsecond, most: 64},
		"SixteenTakeLong":     {way: time.Millisecond, each: 10 * time.Millisecond, most: 32},
		"TheIndexTakesNoTime": {way: time.Millisecond, each: time.Nanosecond, most: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				for i := range 4000 {
					w.push(t, repository, text(i))
				}
				time.Sleep(24 * time.Hour)
				index := &slowReviews{Index: w.index(), way: test.way, each: test.each}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				var sizes []int
				require.NoError(t, gc.Run(ctx, index, w.hookedObjects(), &gc.Options{Observe: func(e gc.Event) {
					if e.Step == gc.StepCandidates {
						sizes = append(sizes, e.Stats.Candidates)
					}
				}}))
				require.Equal(t, 16, sizes[0], "nobody knows yet how much work one is")
				require.Equal(t, test.most, slices.Max(sizes))
			})
		})
	}
}

// slowReviews is an index whose reviews take their time.
type slowReviews struct {
	gc.Index
	way, each time.Duration
}

func (s *slowReviews) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	done, err := s.Index.ReviewCandidates(ctx, review)
	time.Sleep(s.way + time.Duration(done.Candidates)*s.each)
	return done, err
}

func TestCollectorLeavesClientsTheirShareOfTheTime(t *testing.T) {
	t.Parallel()
	for share, times := range map[float64]time.Duration{0: 20, 0.5: 2, 1: 1} { // 0 is a twentieth
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				for i := range 30 {
					w.push(t, repository, text(i))
				}
				time.Sleep(24 * time.Hour)
				const took = 100 * time.Millisecond
				w.failOn(func(method string) error {
					if method == "ReviewCandidates" {
						time.Sleep(took)
					}
					return nil
				})
				var reviewed []time.Duration
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
				defer cancel()
				require.NoError(t, gc.Run(ctx, w.index(), w.hookedObjects(), &gc.Options{Batch: 10, Share: share, Pause: 10 * time.Second, Observe: func(e gc.Event) {
					if e.Step == gc.StepCandidates && e.Stats.Candidates > 0 {
						reviewed = append(reviewed, time.Since(began)-took)
					}
				}}))
				require.Equal(t, []time.Duration{0, times * took, 2 * times * took}, reviewed)
			})
		})
	}
}

func TestOnceEndsOnlyWhenNothingIsDue(t *testing.T) {
	t.Parallel()
	for _, candidates := range []int{999, 1000, 2000} {
		t.Run(fmt.Sprint(candidates), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				for i := range candidates {
					w.push(t, repository, text(i))
				}
				time.Sleep(24 * time.Hour)
				w.failOn(func(string) error {
					time.Sleep(2 * time.Millisecond)
					return nil
				})
				stats := w.once(t, &gc.Options{Delay: time.Nanosecond})
				require.Equal(t, candidates, stats.Contents)
				require.Equal(t, candidates, stats.Objects, "they became due meanwhile")
			})
		})
	}
}

func TestCollectorLooksForOtherWorkWhileItFillsItsBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 1000 {
			w.push(t, repository, text(i))
		}
		time.Sleep(24 * time.Hour)
		w.failOn(func(method string) error {
			if method == "ReviewCandidates" {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		})
		began := time.Now()
		var looks int
		var swept time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		require.NoError(t, gc.Run(ctx, w.index(), w.hookedObjects(), &gc.Options{Batch: 10, Delay: 10 * time.Millisecond, Observe: func(e gc.Event) {
			switch {
			case e.Step == gc.StepLook:
				looks++
			case e.Step == gc.StepGarbage && swept == 0:
				swept = time.Since(began)
			}
		}}))
		require.Less(t, swept, 2*time.Second, "the first objects go while candidates are left")
		require.NotZero(t, swept)
		require.LessOrEqual(t, looks, 25, "a look a second does, of a hundred batches")
	})
}
