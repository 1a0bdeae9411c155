package gc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

// stuck is an index of which some calls fail for good.
type stuck struct {
	gc.Index
	err       error
	manifests map[digest.Digest]bool // cannot be evicted, expired, or looked up
	listed    map[string]bool        // repositories whose manifests cannot be listed
	tags      map[string]bool        // cannot be expired
	healed    atomic.Bool            // all calls succeed
	lost      bool                   // evictions that fail are done all the same
}

func (s *stuck) fails(is bool) bool { return is && !s.healed.Load() }

func (s *stuck) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (int64, error) {
	if s.fails(s.manifests[eviction.Digest]) {
		if s.lost {
			_, _ = s.Index.EvictManifest(ctx, eviction)
		}
		return 0, s.err
	}
	return s.Index.EvictManifest(ctx, eviction)
}

func (s *stuck) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	if s.fails(s.manifests[expiry.Digest]) {
		return s.err
	}
	return s.Index.ExpireManifest(ctx, expiry)
}

func (s *stuck) ExpireTag(ctx context.Context, expiry store.TagExpiry) error {
	if s.fails(s.tags[expiry.Tag]) {
		return s.err
	}
	return s.Index.ExpireTag(ctx, expiry)
}

func (s *stuck) Manifest(ctx context.Context, name string, ref store.ManifestRef) (store.Manifest, error) {
	if s.fails(s.manifests[ref.Digest]) {
		return store.Manifest{}, s.err
	}
	return s.Index.Manifest(ctx, name, ref)
}

func (s *stuck) ManifestRecords(ctx context.Context, name string, after digest.Digest, limit int) ([]store.ManifestRecord, error) {
	if s.fails(s.listed[name]) {
		return nil, s.err
	}
	return s.Index.ManifestRecords(ctx, name, after, limit)
}

var (
	errRow     = errors.New("a row that cannot be read")
	errTooLong = fmt.Errorf("canceling statement: %w", store.ErrUnavailable)
)

func TestManifestThatCannotBeEvictedKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rules  gc.Eviction
		failed int // of 60, the oldest ones
		err    error
	}{
		"idle":                        {gc.Eviction{Idle: day}, 1, errRow},
		"idle, many":                  {gc.Eviction{Idle: day}, 20, errRow},
		"idle, one that takes long":   {gc.Eviction{Idle: day}, 1, errTooLong},
		"budget":                      {gc.Eviction{Budget: 40}, 1, errRow},
		"budget, as many as may stay": {gc.Eviction{Budget: 40}, 10, errRow},
		"budget, one that takes long": {gc.Eviction{Budget: 40}, 1, errTooLong},
		"both":                        {gc.Eviction{Idle: 20 * day, Budget: 40}, 7, errRow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const many = 60
				w := newWorld()
				index := &stuck{Index: w.index(), err: test.err, manifests: map[digest.Digest]bool{}}
				for i := range many {
					d := w.put(t, manifest{repository: fmt.Sprint("~hub/", i%3), text: fmt.Sprintf("%04d", i)})
					if i < test.failed {
						index.manifests[d] = true
					}
					time.Sleep(time.Minute)
				}
				time.Sleep(2 * day)
				log, lines := logTo()
				opts := evicting(test.rules)
				opts.Logger = log
				stop := running(t, index, w.objects, opts)
				time.Sleep(12 * time.Hour)
				synctest.Wait()
				var left []int
				for i := range many {
					if w.hasManifest(t, fmt.Sprint("~hub/", i%3), fmt.Sprintf("%04d", i)) {
						left = append(left, i)
					}
				}
				want := max(test.failed, int(test.rules.Budget)/4)
				require.Len(t, left, want, "what is behind those that fail is evicted, and no more than is too much: %v", left)
				for i := range test.failed {
					require.Equal(t, i, left[i])
				}
				require.Equal(t, 1, lines("collecting fails"))
				index.healed.Store(true)
				time.Sleep(2 * time.Hour)
				stop()
				require.Equal(t, test.rules.Budget, w.mirrored(t), "what failed is tried again")
			})
		})
	}
}

func TestBudgetIsKeptBesideManifestsThatCannotBeEvicted(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"refused": false, "answer lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const idle, young, failing = 1000, 30, 500
				w := newWorld()
				bad := map[digest.Digest]bool{}
				for i := range idle {
					d := w.put(t, manifest{repository: "~hub/a", text: fmt.Sprintf("%04d", i)})
					bad[d] = i < failing
				}
				time.Sleep(10 * day)
				for i := range young {
					w.put(t, manifest{repository: "~hub/b", text: fmt.Sprintf("%04d", idle+i)})
				}
				time.Sleep(day)
				index := &stuck{Index: w.index(), err: errRow, manifests: bad, lost: lost}
				clear(w.calls)
				stats, err := gc.Once(t.Context(), index, w.objects, evicting(gc.Eviction{Idle: 5 * day, Budget: 4 * (failing + 10)}))
				require.ErrorIs(t, err, errRow)
				if lost {
					require.Equal(t, idle-failing, stats.Evicted)
					require.EqualValues(t, 4*young, w.mirrored(t), "what has gone although it failed counts no more")
				} else {
					require.Equal(t, idle-failing+young-10, stats.Evicted)
					require.EqualValues(t, 4*(failing+10), w.mirrored(t), "as much goes as has to")
				}
				require.Less(t, w.count("MirroredSize"), 10, "all is not added up for each that fails")
			})
		})
	}
}

func TestMirroredRepositoryThatCannotBeListedKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 9 {
			w.put(t, manifest{repository: fmt.Sprint("~hub/", i%3), text: fmt.Sprintf("%04d", i)})
		}
		time.Sleep(2 * day)
		index := &stuck{Index: w.index(), err: errRow, listed: map[string]bool{"~hub/0": true}}
		stats, err := gc.Once(t.Context(), index, w.objects, evicting(gc.Eviction{Idle: day}))
		require.ErrorContains(t, err, "list manifests of ~hub/0")
		require.Equal(t, 6, stats.Evicted)
	})
}

func TestOnceGetsPastWhatAlwaysTakesTooLong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rules      gc.Eviction
		inARow     int // that take too long, the oldest ones of 60
		everyTenth bool
	}{
		"idle":                      {rules: gc.Eviction{Idle: day}, inARow: 1},
		"idle, several in a row":    {rules: gc.Eviction{Idle: day}, inARow: 8},
		"idle, some among others":   {rules: gc.Eviction{Idle: day}, everyTenth: true},
		"budget":                    {rules: gc.Eviction{Budget: 40}, inARow: 1},
		"budget, several in a row":  {rules: gc.Eviction{Budget: 40}, inARow: 8},
		"budget, some among others": {rules: gc.Eviction{Budget: 40}, everyTenth: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				index := &stuck{Index: w.index(), err: errTooLong, manifests: map[digest.Digest]bool{}}
				for i := range 60 {
					d := w.put(t, manifest{repository: fmt.Sprint("~hub/", i%3), text: fmt.Sprintf("%04d", i)})
					index.manifests[d] = i < test.inARow || test.everyTenth && i%10 == 0
					time.Sleep(time.Minute)
				}
				time.Sleep(2 * day)
				stats, err := gc.Once(t.Context(), index, w.objects, evicting(test.rules))
				require.ErrorIs(t, err, store.ErrUnavailable)
				left := int(w.mirrored(t)) / 4
				require.Equal(t, 60-left, stats.Evicted)
				failing := test.inARow
				if test.everyTenth {
					failing = 6
				}
				require.Equal(t, max(failing, int(test.rules.Budget)/4), left, "what is behind it is evicted, and no more than is too much")
			})
		})
	}
	t.Run("policies", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			index := &stuck{Index: w.index(), err: errTooLong, listed: map[string]bool{"a": true, "b": true, "d": true}}
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				w.put(t, manifest{repository: name, text: name})
			}
			time.Sleep(2 * day)
			stats, err := gc.Once(t.Context(), index, w.objects, with(gc.Policy{Repositories: []string{"**"}, UntaggedOlderThan: day}))
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.Equal(t, 2, stats.Manifests, "repositories behind those that take too long have their turn")
		})
	})
}

func TestOnceEndsWhenTheIndexIsAway(t *testing.T) {
	t.Parallel()
	for name, works := range map[string][]string{
		"all of it":              nil,
		"all but the look":       {"Due"},
		"all but what is listed": {"Due", "ClaimFetch", "Repositories", "MirroredSize", "ReleaseFetch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const many = 200
				w := newWorld()
				for i := range many {
					w.put(t, manifest{repository: fmt.Sprint("~hub/", i), text: "mirrored"})
					w.put(t, manifest{repository: fmt.Sprint("team/", i), text: "pushed"})
				}
				time.Sleep(2 * day)
				w.failOn(func(method string) error {
					if slices.Contains(works, method) {
						return nil
					}
					return errTooLong
				})
				opts := evicting(gc.Eviction{Idle: day, Budget: 40})
				opts.Policies = []gc.Policy{{Repositories: []string{"**"}, UntaggedOlderThan: day}}
				_, err := gc.Once(t.Context(), w.index(), w.objects, opts)
				require.ErrorIs(t, err, store.ErrUnavailable)
				require.Less(t, w.count("ManifestRecords"), 100, "it does not ask for each repository while none is told")
				w.failOn(nil)
				require.Equal(t, many, w.once(t, opts).Evicted, "others may evict at once")
			})
		})
	}
}

func TestOutageOfTheIndexPutsNothingOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 20 {
			w.put(t, manifest{repository: hub, text: fmt.Sprintf("%04d", i)})
			time.Sleep(time.Minute)
		}
		time.Sleep(day)
		w.failOn(func(method string) error {
			if method == "EvictManifest" {
				w.fault = func(string) error { return store.ErrUnavailable } // from now on
				return store.ErrUnavailable
			}
			return nil
		})
		stop := running(t, w.index(), w.objects, evicting(gc.Eviction{Budget: 40}))
		time.Sleep(30 * time.Second)
		w.failOn(nil)
		time.Sleep(time.Hour)
		stop()
		for i := range 20 {
			require.Equal(t, i >= 10, w.hasManifest(t, hub, fmt.Sprintf("%04d", i)), "the least recently used ones go: %d", i)
		}
	})
}

func TestWhatWorksAgainIsPutOffFromTheBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{repository: hub, text: "mirrored"})
		tried, fails := 0, true
		w.failOn(func(method string) error {
			if method == "ManifestRecords" {
				if tried++; fails {
					return errRow
				}
			}
			return nil
		})
		set := func(to bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			tried, fails = 0, to
		}
		stop := running(t, w.index(), w.objects, evicting(gc.Eviction{Idle: 1000 * day, Pause: time.Minute}))
		time.Sleep(12 * time.Hour)
		set(false)
		time.Sleep(4 * time.Hour)
		set(true)
		time.Sleep(time.Hour)
		stop()
		require.Greater(t, tried, 4, "a repository that can be listed is not held to have failed before")
	})
}

func TestPoliciesGoOnPastWhatFailsOfARepository(t *testing.T) {
	t.Parallel()
	old := func(i int) string { return fmt.Sprint("untagged ", i) }
	subject := digest.FromString("a subject that cannot be looked up")
	setUp := func(t *testing.T, err error) (*world, *stuck, *gc.Options) {
		t.Helper()
		w := newWorld()
		for i := range 10 {
			w.put(t, manifest{text: old(i)})
			w.put(t, manifest{text: fmt.Sprint("tagged ", i), tags: []string{fmt.Sprint("pr-", i)}})
			w.put(t, manifest{repository: "team/behind", text: text(i)})
		}
		w.put(t, manifest{text: "referrer", subject: subject})
		time.Sleep(10 * day)
		opts := with(gc.Policy{Repositories: []string{"**"}, UntaggedOlderThan: day, Tags: []gc.TagRule{{Match: []string{"pr-*"}, OlderThan: day}}})
		return w, &stuck{
			Index: w.index(), err: err, tags: map[string]bool{"pr-0": true},
			manifests: map[digest.Digest]bool{digest.FromString(old(4)): true, subject: true},
		}, opts
	}
	requireLeft := func(t *testing.T, w *world, stays ...string) {
		t.Helper()
		for i := range 10 {
			assert.Equal(t, slices.Contains(stays, old(i)), w.hasManifest(t, repository, old(i)), old(i))
			assert.False(t, w.hasManifest(t, "team/behind", text(i)), "what is in a repository behind it goes")
		}
		assert.Equal(t, slices.Contains(stays, "referrer"), w.hasManifest(t, repository, "referrer"))
	}
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w, index, opts := setUp(t, errRow)
			stats, err := gc.Once(t.Context(), index, w.objects, opts)
			require.ErrorContains(t, err, "expire: 3 failed, among them: ")
			assert.Equal(t, 19, stats.Manifests)
			assert.Equal(t, 9, stats.Tags)
			requireLeft(t, w, old(4), "referrer")
			assert.Equal(t, []string{"pr-0"}, w.tags(t, repository))
			index.healed.Store(true)
			stats, err = gc.Once(t.Context(), index, w.objects, opts)
			require.NoError(t, err)
			assert.Equal(t, 1, stats.Tags, "the next run meets what failed again")
			requireLeft(t, w)
		})
	})
	t.Run("takes too long", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w, index, opts := setUp(t, errTooLong)
			stop := running(t, index, w.objects, opts)
			time.Sleep(5 * time.Minute)
			stop()
			requireLeft(t, w, old(4), "referrer")
		})
	})
}
