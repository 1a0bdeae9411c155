package gc_test

import (
	"context"
	"errors"
	"fmt"
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

const hub = "~hub/alpine"

func evicting(e gc.Eviction) *gc.Options { return &gc.Options{Eviction: e, Grace: 1000 * day} }

// image puts a manifest that tells its layers, which are pushed where they are missing, and returns its bytes.
func (w *world) image(t *testing.T, name, tag string, layers ...string) string {
	t.Helper()
	m := manifest{repository: name, tags: []string{tag}, text: `{"name":"` + tag + `","layers":[`}
	for i, layer := range layers {
		d := digest.FromString(layer)
		if !w.has(t, name, d) {
			w.push(t, name, layer)
		}
		m.layers = append(m.layers, d)
		if i > 0 {
			m.text += ","
		}
		m.text += fmt.Sprintf(`{"digest":%q,"size":%d}`, d, len(layer))
	}
	m.text += "]}"
	w.put(t, m)
	return m.text
}

// mirrored is how much is mirrored.
func (w *world) mirrored(t *testing.T) int64 {
	t.Helper()
	page, err := w.meta.MirroredSize(t.Context(), store.ManifestAt{}, 1<<20)
	require.NoError(t, err)
	return page.Bytes
}

// requireForetoldEviction evicts, after a preview that has to tell the same, with a reason for each.
func (w *world) requireForetoldEviction(t *testing.T, opts *gc.Options) gc.Stats {
	t.Helper()
	before := w.mirrored(t)
	found, want := w.preview(t, opts)
	var told int64
	for _, f := range found {
		require.NotEmpty(t, f.Reason)
		if f.Kind == gc.FindManifest {
			told += f.Size
		}
	}
	require.Equal(t, want.EvictedBytes, told)
	require.Equal(t, before, w.mirrored(t), "a preview changes nothing")
	stats := w.once(t, opts)
	require.Equal(t, want.Evicted, stats.Evicted, "the preview told how many manifests are evicted: %v", found)
	require.Equal(t, want.EvictedBytes, stats.EvictedBytes, "the preview told how much is evicted: %v", found)
	require.Equal(t, before-w.mirrored(t), stats.EvictedBytes, "what was evicted counts no more")
	return stats
}

func TestWhatIsIdleIsEvictedAndCollected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		idle := w.image(t, hub, "idle", "base", "of the idle one")
		used := w.image(t, hub, "used", "base", "of the used one")
		pushed := w.image(t, repository, "idle", "base", "of the idle one")
		time.Sleep(20 * day)
		require.NoError(t, w.meta.RecordPulls(t.Context(), []store.Pull{{Repository: hub, Digest: digest.FromString(used), Tag: "used"}}))
		time.Sleep(10 * day)
		opts := evicting(gc.Eviction{Idle: 30 * day})
		found, _ := w.preview(t, opts)
		require.Equal(t, fmt.Sprintf("manifest %s %s (%d bytes): put or pulled 30d ago, more than 30d", hub, digest.FromString(idle), len(idle+"of the idle one")), found[len(found)-1].String())
		require.Equal(t, 1, w.requireForetoldEviction(t, opts).Evicted)
		require.Equal(t, []string{"used"}, w.tags(t, hub), "tags go with their manifest")
		require.True(t, w.hasManifest(t, repository, pushed), "what was pushed is not evicted")

		time.Sleep(20 * day)
		require.Zero(t, w.requireForetoldEviction(t, opts).Evicted, "a pull may have come up to two hours later than is recorded")
		time.Sleep(2 * time.Hour)
		require.Equal(t, 1, w.requireForetoldEviction(t, opts).Evicted)
		time.Sleep(day)
		w.once(t, nil)
		names, err := w.meta.Repositories(t.Context(), "", 10)
		require.NoError(t, err)
		require.Equal(t, []string{repository}, names, "a mirrored repository goes with its last manifest")
		time.Sleep(time.Hour)
		w.once(t, nil)
		require.Len(t, w.stored(t), 2, "what a pushed manifest needs stays")
	})
}

func TestBudgetTakesWhatWasUsedTheLongestAgo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		const base = "a base that all share, and that is larger than all else of the images together with their manifests: " +
			"it counts once, and goes with the last one that needs it, whatever else was evicted before it, in whatever order"
		var images []string
		for i := range 6 {
			images = append(images, w.image(t, fmt.Sprint("~hub/", i%2), fmt.Sprint("v", i), base, text(i)))
			time.Sleep(day)
		}
		pushed := w.image(t, repository, "v0", base, text(0))
		require.NoError(t, w.meta.RecordPulls(t.Context(), []store.Pull{{Repository: "~hub/0", Digest: digest.FromString(images[0])}}))
		time.Sleep(day)
		each := int64(len(images[0]) + len(text(0)))
		require.Equal(t, int64(len(base))+6*each, w.mirrored(t))
		requireLeft := func(want ...int) {
			t.Helper()
			var left []int
			for i := range images {
				if w.hasManifest(t, fmt.Sprint("~hub/", i%2), images[i]) {
					left = append(left, i)
				}
			}
			require.Equal(t, want, left)
			require.True(t, w.hasManifest(t, repository, pushed), "what was pushed is not evicted")
		}
		limit := func(bytes int64) *gc.Options { return evicting(gc.Eviction{Budget: bytes}) }
		clear(w.calls)
		require.Zero(t, w.once(t, limit(int64(len(base))+6*each)).Evicted, "what is not over the budget stays")
		require.Equal(t, 1, w.count("MirroredSize"), "all that is mirrored is added up in pages")
		require.Zero(t, w.count("ManifestRecords")+w.count("Repositories"), "what is not over the budget is not looked through")
		requireLeft(0, 1, 2, 3, 4, 5)
		found, _ := w.preview(t, limit(int64(len(base))+6*each-1))
		require.Len(t, found, 1)
		require.Equal(t, "put or pulled 6d ago, and 1 bytes more than "+fmt.Sprint(int64(len(base))+6*each-1)+" are mirrored", found[0].Reason)
		require.Equal(t, 2, w.requireForetoldEviction(t, limit(int64(len(base))+5*each-1)).Evicted)
		requireLeft(0, 3, 4, 5)
		require.Equal(t, 4, w.requireForetoldEviction(t, limit(int64(len(base)))).Evicted, "a layer that several need goes with the last one")
		require.Zero(t, w.mirrored(t))
	})
}

func TestWhatWasJustPutOrPulledIsNeverTooMuch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		pulled := w.image(t, hub, "pulled", "a")
		time.Sleep(day)
		require.NoError(t, w.meta.RecordPulls(t.Context(), []store.Pull{{Repository: hub, Digest: digest.FromString(pulled)}}))
		w.image(t, hub, "put", "b")
		time.Sleep(2*time.Hour - time.Second)
		opts := evicting(gc.Eviction{Budget: 1})
		require.Zero(t, w.requireForetoldEviction(t, opts).Evicted)
		require.Zero(t, w.count("EvictManifest"), "it is not even tried")
		time.Sleep(time.Second)
		require.Equal(t, 2, w.requireForetoldEviction(t, opts).Evicted)
	})
}

func TestWhatIsPulledWhileItIsEvictedStays(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]gc.Eviction{"idle": {Idle: 30 * day}, "budget": {Budget: 1}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			pulled := w.image(t, hub, "pulled", "a")
			time.Sleep(30 * day)
			w.failOn(func(method string) error { // right before it is evicted
				if method == "EvictManifest" {
					return w.meta.RecordPulls(t.Context(), []store.Pull{{Repository: hub, Digest: digest.FromString(pulled)}})
				}
				return nil
			})
			require.Zero(t, w.once(t, evicting(e)).Evicted, name)
			require.Equal(t, 1, w.count("EvictManifest"), "it is tried once: %s", name)
			require.True(t, w.hasManifest(t, hub, pulled), name)
		})
	}
}

func TestIndexGoesBeforeItsChildren(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]gc.Eviction{"idle": {Idle: 30 * day}, "budget": {Budget: 1}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			child := w.image(t, hub, "child", "layer")
			other := w.image(t, hub, "other", "other layer")
			list := w.put(t, manifest{repository: hub, text: "list", children: []digest.Digest{digest.FromString(child)}})
			nested := w.put(t, manifest{repository: hub, text: "nested", children: []digest.Digest{list, digest.FromString(other)}})
			time.Sleep(30 * day)
			w.image(t, hub, "young", "young layer")
			require.NoError(t, w.meta.RecordPulls(t.Context(), []store.Pull{{Repository: hub, Digest: nested}}))
			require.Zero(t, w.once(t, evicting(e)).Evicted, "what an index that is used refers to stays: %s", name)
			time.Sleep(29 * day)
			w.image(t, hub, "young", "young layer")
			time.Sleep(day + 2*time.Hour) // a pull may have come so much later than is recorded
			e.Budget *= w.mirrored(t) - int64(len(child)+len("layer")+len(other)+len("other layer")+len("listnested"))
			require.Equal(t, 4, w.once(t, evicting(e)).Evicted, "what an index makes way for goes at once: %s", name)
			require.True(t, w.has(t, hub, digest.FromString("young layer")), name)
		})
	}
}

func TestPoliciesDoNotSeeWhatIsMirrored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		subject := w.put(t, manifest{repository: hub, text: "subject"})
		w.put(t, manifest{repository: hub, text: "untagged", tags: nil})
		w.put(t, manifest{repository: hub, text: "signature", subject: subject})
		w.image(t, hub, "old", "layer")
		w.put(t, manifest{text: "pushed"})
		time.Sleep(100 * day)
		opts := &gc.Options{Policies: []gc.Policy{{
			Repositories: []string{"**"}, Cascade: true, UntaggedOlderThan: day,
			Tags: []gc.TagRule{{Match: []string{"**"}, Everything: true}},
		}}}
		stats := w.requireForetold(t, opts)
		require.Equal(t, 1, stats.Manifests, "only what was pushed goes")
		require.Zero(t, stats.Tags)
		_, err := w.meta.EvictManifest(t.Context(), store.ManifestEviction{Repository: hub, Digest: subject})
		require.NoError(t, err)
		time.Sleep(2 * day)
		w.once(t, opts)
		require.True(t, w.hasManifest(t, hub, "signature"), "referrers are evicted by themselves")
	})
}

func TestEvictionRemembersTheOldestOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		const many = 1200 // more than are remembered
		for i := range many {
			w.put(t, manifest{repository: fmt.Sprint("~hub/", i%3), text: fmt.Sprintf("%04d", i)})
			time.Sleep(time.Second)
		}
		time.Sleep(day)
		require.Equal(t, many-10, w.once(t, evicting(gc.Eviction{Budget: 40})).Evicted)
		for i := range many {
			require.Equal(t, i >= many-10, w.hasManifest(t, fmt.Sprint("~hub/", i%3), fmt.Sprintf("%04d", i)), "whether %d stays", i)
		}
	})
}

func TestEvictionIsOneCollectorsAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 50 {
			w.put(t, manifest{repository: hub, text: fmt.Sprintf("%04d", i)})
		}
		time.Sleep(day)
		looks := 0
		var mu sync.Mutex
		index := hooked(w.meta, storetest.Hook{Before: func(_ context.Context, method string) error {
			if method == "EvictManifest" || method == "MirroredSize" {
				time.Sleep(10 * time.Millisecond) // the others come in between
			}
			mu.Lock()
			defer mu.Unlock()
			if method == "MirroredSize" {
				looks++
			}
			return nil
		}})
		var total gc.Stats
		var wait sync.WaitGroup
		opts := evicting(gc.Eviction{Budget: 100})
		opts.Observe = func(e gc.Event) {
			mu.Lock()
			defer mu.Unlock()
			total.Add(e.Stats)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour)
		defer cancel()
		for range 4 {
			wait.Go(func() { assert.NoError(t, gc.Run(ctx, index, w.objects, opts)) })
		}
		wait.Wait()
		require.Equal(t, 25, total.Evicted, "no more is evicted than one alone would")
		require.EqualValues(t, 100, w.mirrored(t))
		require.Less(t, looks, 4*10*6*2, "each looks about every ten minutes")
	})
}

func TestCrashOfAnEvictionTakesNoMoreThanIsTooMuch(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"request", "answer"} {
		for at := 1; ; at++ {
			crashed := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				for i := range 8 {
					w.image(t, hub, fmt.Sprint("v", i), "base", text(i))
					time.Sleep(time.Hour)
				}
				pushed := w.image(t, repository, "v0", "base", text(0))
				each := int64(len(`{"name":"v0","layers":[,]}`) + len(text(0)) + 2*len(fmt.Sprintf(`{"digest":%q,"size":1}`, digest.FromString(""))))
				budget := w.mirrored(t) - 3*each
				time.Sleep(40 * day)
				opts := &gc.Options{Eviction: gc.Eviction{Budget: budget}}
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
				_, err := gc.Once(t.Context(), hooked(w.meta, hook), storetest.HookObjects(w.objects, hook), opts)
				crashed = err != nil
				message := fmt.Sprintf("crash at call %d, %s lost", at, lost)
				time.Sleep(5 * time.Minute)
				w.once(t, opts)
				left := w.mirrored(t)
				require.LessOrEqual(t, left, budget, message)
				require.Greater(t, left, budget-2*each, message)
				require.True(t, w.hasManifest(t, repository, pushed), message)
				time.Sleep(25 * time.Hour)
				w.once(t, opts)
				time.Sleep(2 * time.Hour)
				w.once(t, opts)
				require.Equal(t, left, w.mirrored(t), "what is left stays: %s", message)
				require.Empty(t, w.garbage(t), message)
			})
			if !crashed {
				require.Greater(t, at, 8, "the test must have crashed between many calls")
				break
			}
		}
	}
}

func TestLostAnswerOfAnEvictionIsNotGuessed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 50 {
			w.put(t, manifest{repository: hub, text: fmt.Sprintf("%04d", i)})
		}
		time.Sleep(day)
		evictions := 0
		index := hooked(w.meta, storetest.Hook{After: func(_ context.Context, method string, err error) error {
			if method == "EvictManifest" {
				if evictions++; evictions%3 == 0 {
					return errors.Join(err, store.ErrUnavailable)
				}
			}
			return err
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
		defer cancel()
		require.NoError(t, gc.Run(ctx, index, w.objects, evicting(gc.Eviction{Budget: 100})))
		require.EqualValues(t, 100, w.mirrored(t), "as much went as had to, and no more")
	})
}

func TestWhatIsIdleCountsForTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 10 {
			w.put(t, manifest{repository: fmt.Sprint("~hub/", i%3), text: fmt.Sprintf("%04d", i)})
			time.Sleep(day)
		}
		require.Equal(t, 4, w.requireForetoldEviction(t, evicting(gc.Eviction{Idle: 7 * day, Budget: 36})).Evicted, "what is idle goes, and that is enough")
		require.Equal(t, 3, w.requireForetoldEviction(t, evicting(gc.Eviction{Idle: 6 * day, Budget: 12})).Evicted, "what is idle goes first, and then as much as is still too much")
	})
}

func TestWrongEvictionsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for field, e := range map[string]gc.Eviction{"Eviction.Idle": {Idle: -1}, "Eviction.Budget": {Budget: -1}, "Eviction.Pause": {Pause: -1}} {
		_, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), evicting(e))
		require.ErrorContains(t, err, field+": -1")
	}
	require.Empty(t, w.calls)
}
