package gc_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestPoliciesAreRunByOneOfManyCollectors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		untagged := func(age time.Duration) *gc.Options {
			return with(gc.Policy{Repositories: []string{"**"}, UntaggedOlderThan: age})
		}
		var mu sync.Mutex
		runs := map[string]int{}
		replica := func(name string, opts *gc.Options) (stop func()) {
			return running(t, hooked(w.meta, storetest.Hook{Before: func(_ context.Context, method string) error {
				mu.Lock()
				defer mu.Unlock()
				if method == "ManifestRecords" {
					runs[name]++
				}
				return nil
			}}), w.objects, opts)
		}
		total := func() (n int) {
			mu.Lock()
			defer mu.Unlock()
			for name, times := range runs {
				if name != "other" {
					n += times
				}
			}
			return n
		}
		w.put(t, manifest{text: "kept", tags: []string{"v1"}})
		w.put(t, manifest{text: "old"})
		time.Sleep(2 * day)
		stops := map[string]func(){}
		for i := range 4 {
			name := fmt.Sprint("replica ", i)
			stops[name] = replica(name, untagged(day))
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		require.False(t, w.hasManifest(t, repository, "old"))
		require.Greater(t, total(), 14, "policies are run about once in an hour")
		require.Less(t, total(), 32, "policies are run by one for all")

		w.put(t, manifest{text: "new"})
		time.Sleep(36 * time.Hour)
		synctest.Wait()
		mu.Lock()
		var last string
		for name := range runs {
			if last == "" || runs[name] > runs[last] {
				last = name
			}
		}
		mu.Unlock()
		stops[last]()
		delete(stops, last)
		before := total()
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		require.Greater(t, total(), before, "when it has ended, others do it")

		stopOther := replica("other", untagged(3*day))
		time.Sleep(25 * time.Hour)
		stopOther()
		mu.Lock()
		other := runs["other"]
		mu.Unlock()
		require.Greater(t, other, 18, "who has other policies runs them")
		for _, stop := range stops {
			stop()
		}
	})
}

func TestPoliciesAreRunAtOnceByHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		opts := with(gc.Policy{Repositories: []string{"**"}, Tags: []gc.TagRule{{Match: []string{"pr-*"}, Everything: true}}})
		w.put(t, manifest{text: "kept", tags: []string{"pr-1", "v1"}})
		stop := running(t, w.index(), w.objects, opts)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"v1"}, w.tags(t, repository))
		w.put(t, manifest{text: "kept", tags: []string{"pr-2"}})
		time.Sleep(time.Minute)
		require.Equal(t, 1, w.once(t, opts).Tags, "that a server has just run them is no reason to wait")
		stop()
	})
}
