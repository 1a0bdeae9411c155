package gc_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

func TestPullsAreRecordedOffThePathAndBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		pulls := gc.NewPulls(3)
		opts := &gc.Options{Pulls: pulls}
		w.put(t, manifest{text: "a", tags: []string{"v1"}})
		time.Sleep(day)
		for range 100 {
			pulls.Record(repository, digest.FromString("a"), "v1")
		}
		stats := w.once(t, opts)
		require.Equal(t, 1, stats.Pulls, "a manifest that is pulled often is recorded once")
		require.Zero(t, stats.DroppedPulls)
		tags, err := w.meta.TagRecords(t.Context(), repository, "", 10)
		require.NoError(t, err)
		require.True(t, tags[0].Pulled.Equal(time.Now()))

		pulls.Record(repository, digest.FromString("a"), "v1")
		require.Zero(t, w.once(t, opts).Pulls, "it was recorded a moment ago")
		for i := range 10 {
			pulls.Record(repository, digest.FromString(text(i)), "")
		}
		stats = w.once(t, opts)
		require.Equal(t, 3, stats.Pulls)
		require.Equal(t, 7, stats.DroppedPulls, "what comes when it is full is dropped, and counted")
		time.Sleep(time.Hour)
		w.once(t, opts)
		pulls.Record(repository, digest.FromString(text(0)), "")
		time.Sleep(time.Hour)
		require.Equal(t, 1, w.once(t, opts).Pulls)
		pulls.Record(repository, digest.FromString(text(0)), "")
		require.Equal(t, 1, w.once(t, opts).Pulls, "it is recorded again after an hour")
	})
}

func TestPullsThatWereDroppedAreGatheredAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		pulls := gc.NewPulls(2)
		d := w.put(t, manifest{text: "a", tags: []string{"v0", "v1", "v2", "v3"}})
		flush := func() gc.Stats {
			stats, err := pulls.Flush(t.Context(), w.index())
			require.NoError(t, err)
			return stats
		}
		for i := range 3 {
			pulls.Record(repository, d, fmt.Sprint("v", i))
		}
		require.Equal(t, gc.Stats{Pulls: 2, DroppedPulls: 1}, flush())
		pulls.Record(repository, d, "v2")
		require.Equal(t, gc.Stats{Pulls: 1}, flush(), "what came when it was full comes again")

		other := w.put(t, manifest{text: "b", tags: []string{"w0", "w1", "w2"}})
		pulls.Record(repository, other, "w0")
		pulls.Record(repository, other, "w1")
		w.failOn(func(string) error { // meanwhile, another one comes
			pulls.Record(repository, other, "w2")
			return store.ErrUnavailable
		})
		_, err := pulls.Flush(t.Context(), w.index())
		require.ErrorIs(t, err, store.ErrUnavailable)
		w.failOn(nil)
		require.Equal(t, gc.Stats{Pulls: 2, DroppedPulls: 1}, flush())
		for i := range 3 {
			pulls.Record(repository, other, fmt.Sprint("w", i))
		}
		require.Equal(t, gc.Stats{Pulls: 1}, flush(), "what could not be put back comes again, and the others were recorded")
	})
}

func TestWhatIsPulledAllTheTimeStays(t *testing.T) {
	t.Parallel()
	const name = "is pulled"
	policy := func(within time.Duration) *gc.Options {
		opts := with(gc.Policy{Repositories: []string{"**"}, KeepPulledWithin: within, UntaggedOlderThan: day, Tags: []gc.TagRule{{Match: []string{"pr-*"}, OlderThan: day}}})
		opts.PolicyPause = 10 * time.Minute
		return opts
	}
	idle := func(idle time.Duration) *gc.Options { return evicting(gc.Eviction{Idle: idle}) }
	for what, test := range map[string]struct {
		opts       *gc.Options
		repository string
		tag        string
		keeps      time.Duration
	}{
		"tag, a minute":              {policy(time.Minute), repository, "pr-1", time.Minute},
		"tag, an hour":               {policy(time.Hour), repository, "pr-1", time.Hour},
		"tag, 80 minutes":            {policy(80 * time.Minute), repository, "pr-1", 80 * time.Minute},
		"tag, a day":                 {policy(day), repository, "pr-1", day},
		"manifest, a minute":         {policy(time.Minute), repository, "", time.Minute},
		"manifest, an hour":          {policy(time.Hour), repository, "", time.Hour},
		"mirrored, idle, a second":   {idle(time.Second), hub, "", time.Second},
		"mirrored, idle, an hour":    {idle(time.Hour), hub, "", time.Hour},
		"mirrored, idle, 80 minutes": {idle(80 * time.Minute), hub, "latest", 80 * time.Minute},
		"mirrored, budget":           {evicting(gc.Eviction{Budget: 1}), hub, "", 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				m := manifest{repository: test.repository, text: name}
				if test.tag != "" {
					m.tags = []string{test.tag}
				}
				d := w.put(t, m)
				is := func() bool {
					ref := store.ManifestRef{Tag: test.tag}
					if test.tag == "" {
						ref.Digest = d
					}
					_, err := w.meta.Manifest(t.Context(), test.repository, ref)
					return err == nil
				}
				opts := *test.opts
				opts.Pulls = gc.NewPulls(0)
				opts.Pulls.Record(test.repository, d, test.tag)
				stop := running(t, w.index(), w.objects, &opts)
				began := time.Now()
				for time.Since(began) < 5*day {
					time.Sleep(time.Minute)
					require.True(t, is(), "it was pulled a minute ago, and is gone after %v", time.Since(began))
					opts.Pulls.Record(test.repository, d, test.tag)
				}
				time.Sleep(test.keeps)
				require.True(t, is(), "it stays for so long after the last pull")
				time.Sleep(3 * time.Hour)
				require.False(t, is(), "it goes when it has not been pulled for so long, and two hours")
				stop()
			})
		})
	}
}

func TestPullsWaitWhileTheIndexIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		pulls := gc.NewPulls(0)
		pulls.Record(repository, "sha256:a", "")
		w.failOn(func(string) error { return store.ErrUnavailable })
		_, err := pulls.Flush(t.Context(), w.index())
		require.ErrorIs(t, err, store.ErrUnavailable)
		w.failOn(nil)
		stats, err := pulls.Flush(t.Context(), w.index())
		require.NoError(t, err)
		require.Equal(t, 1, stats.Pulls)
	})
}

func TestPullsAreRecordedWhereNobodyCollects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		d := w.put(t, manifest{text: "a", tags: []string{"v1", "v2"}})
		w.push(t, repository, "garbage")
		time.Sleep(2 * day)
		pulls := gc.NewPulls(0)
		ctx, cancel := context.WithCancel(t.Context())
		var seen gc.Stats
		ended := make(chan error)
		go func() {
			ended <- pulls.Run(ctx, w.index(), &gc.Options{Observe: func(e gc.Event) { seen.Add(e.Stats) }})
		}()
		pulled := func(tag string) bool {
			records, err := w.meta.TagRecords(t.Context(), repository, "", 10)
			require.NoError(t, err)
			return slices.ContainsFunc(records, func(r store.TagRecord) bool { return r.Name == tag && !r.Pulled.IsZero() })
		}
		w.failOn(func(string) error { return store.ErrUnavailable })
		pulls.Record(repository, d, "v1")
		time.Sleep(5 * time.Minute)
		require.False(t, pulled("v1"))
		w.failOn(nil)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.True(t, pulled("v1"), "what could not be recorded is recorded later")
		require.Equal(t, gc.Stats{Pulls: 1}, seen, "nothing but pulls is done")
		pulls.Record(repository, d, "v2")
		cancel()
		require.NoError(t, <-ended)
		require.True(t, pulled("v2"), "the last pulls are not forgotten with the process")
		require.ErrorContains(t, pulls.Run(t.Context(), w.index(), &gc.Options{Pause: -1}), "Pause")
	})
}

func TestPullsAreRecordedDuringALongPause(t *testing.T) {
	t.Parallel()
	for name, collects := range map[string]bool{"by a collector": true, "where nobody collects": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				d := w.put(t, manifest{text: "a", tags: []string{"first"}})
				opts := &gc.Options{Pause: 10 * time.Hour, Pulls: gc.NewPulls(0)}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() {
					if collects {
						ended <- gc.Run(ctx, w.index(), w.objects, opts)
					} else {
						ended <- opts.Pulls.Run(ctx, w.index(), opts)
					}
				}()
				recorded := func(tag string) bool {
					records, err := w.meta.TagRecords(t.Context(), repository, "", 1000)
					require.NoError(t, err)
					return slices.ContainsFunc(records, func(r store.TagRecord) bool { return r.Name == tag && !r.Pulled.IsZero() })
				}
				for i := range 24 {
					tag := fmt.Sprint("v", i)
					w.put(t, manifest{text: "a", tags: []string{tag}})
					time.Sleep(7 * time.Minute)
					opts.Pulls.Record(repository, d, tag)
					if i == 20 {
						w.failOn(func(string) error { return store.ErrUnavailable })
						time.Sleep(15 * time.Minute)
						w.failOn(nil)
					}
					time.Sleep(20 * time.Minute)
					synctest.Wait()
					require.True(t, recorded(tag), "%d: it waits for twenty minutes at most", i)
				}
				cancel()
				require.NoError(t, <-ended)
				require.LessOrEqual(t, w.count("Due"), 2, "nothing else is done more often")
			})
		})
	}
}

func TestPullsAreRecordedLittleByLittle(t *testing.T) {
	t.Parallel()
	for _, collects := range []bool{true, false} {
		t.Run(fmt.Sprint("Collects=", collects), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const all, pause = 1000, 10 * time.Second
				w := newWorld()
				pulls := gc.NewPulls(0)
				var recorded []int
				opts := &gc.Options{Pulls: pulls, Pause: pause, Observe: func(e gc.Event) {
					if e.Step == gc.StepPulls {
						recorded = append(recorded, e.Stats.Pulls)
					}
				}}
				w.failOn(func(method string) error {
					if method == "RecordPulls" {
						time.Sleep(3 * time.Millisecond)
					}
					return nil
				})
				for i := range all {
					pulls.Record(repository, digest.FromString(text(i)), "")
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() {
					if collects {
						ended <- gc.Run(ctx, w.index(), w.hookedObjects(), opts)
					} else {
						ended <- pulls.Run(ctx, w.index(), opts)
					}
				}()
				time.Sleep(3 * pause)
				cancel()
				require.NoError(t, <-ended)
				require.Equal(t, 16, recorded[0], "nobody knows yet how much work one is")
				sum := 0
				for _, n := range recorded {
					sum += n
				}
				require.Equal(t, all, sum)
				require.Greater(t, len(recorded), 2, "a burst would keep others waiting")
			})
		})
	}
}

func TestPoliciesSeeAllThatWasPulledBefore(t *testing.T) {
	t.Parallel()
	opts := func() *gc.Options {
		opts := with(gc.Policy{Repositories: []string{"**"}, UntaggedOlderThan: 30 * day, KeepPulledWithin: 10 * day})
		opts.Pulls = gc.NewPulls(0)
		return opts
	}
	for name, collect := range map[string]func(t *testing.T, w *world, opts *gc.Options){
		"Once": func(t *testing.T, w *world, opts *gc.Options) { w.once(t, opts) },
		"Run": func(t *testing.T, w *world, opts *gc.Options) {
			stop := running(t, w.index(), w.objects, opts)
			time.Sleep(2 * time.Minute)
			stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const pulled = 1500 // more than a batch
				w, opts := newWorld(), opts()
				var all []digest.Digest
				for i := range pulled {
					all = append(all, w.put(t, manifest{text: text(i)}))
				}
				gone := w.put(t, manifest{text: "nobody pulls it"})
				time.Sleep(40 * day)
				for _, d := range all {
					opts.Pulls.Record(repository, d, "")
				}
				collect(t, w, opts)
				_, err := w.meta.Manifest(t.Context(), repository, store.ManifestRef{Digest: gone})
				require.ErrorIs(t, err, store.ErrManifestUnknown)
				for _, d := range all {
					_, err := w.meta.Manifest(t.Context(), repository, store.ManifestRef{Digest: d})
					require.NoError(t, err)
				}
			})
		})
	}
}
