package gc_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

func TestThousandObjectsAreOneDelete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 1000 {
			w.push(t, repository, text(i))
		}
		time.Sleep(24 * time.Hour)
		require.Equal(t, 1000, w.once(t, nil).Contents)
		clear(w.calls)
		time.Sleep(time.Hour)
		require.Equal(t, 1000, w.once(t, nil).Objects)
		require.Equal(t, map[string]int{"Due": 2, "TakeGarbage": 1, "Delete": 1, "ForgetGarbage": 1}, w.calls,
			"finished content needs no look for multipart uploads, and goes at once")
		require.Empty(t, w.stored(t))
	})
}

func TestUnfinishedKeysOutliveAnyWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		id := store.NewID()
		require.NoError(t, w.meta.CreateSession(ctx, id, repository, ""))
		_, err := w.meta.ClaimSession(ctx, store.Claim{
			SessionRef: store.SessionRef{ID: id, Repository: repository}, Reserve: store.Reservation{Blob: store.NewBlobKey()},
		})
		require.NoError(t, err)
		_, err = w.meta.DropSession(ctx, store.SessionRef{ID: id, Repository: repository})
		require.NoError(t, err)
		opts := &gc.Options{Delay: time.Second, WriteTimeout: 10 * time.Minute}
		time.Sleep(11*time.Minute - time.Second)
		require.Zero(t, w.once(t, opts).Objects, "a late write may still come")
		time.Sleep(time.Second)
		require.Equal(t, 1, w.once(t, opts).Objects)
	})
}

// stubborn is objects whose multipart uploads survive some aborts: parts were on their way.
type stubborn struct {
	store.Objects
	mu   sync.Mutex
	left int
}

func (o *stubborn) Abort(ctx context.Context, m store.Multipart) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left > 0 {
		o.left--
		return nil
	}
	return o.Objects.Abort(ctx, m)
}

func TestKeyIsForgottenOnlyOnceItsMultipartUploadsAreGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		key := store.NewBlobKey()
		_, err := w.objects.Begin(ctx, key)
		require.NoError(t, err)
		require.NoError(t, w.objects.Put(ctx, key, strings.NewReader("x"), 1))
		condemned, err := w.meta.CondemnKeys(ctx, []store.Key{key})
		require.NoError(t, err)
		require.Len(t, condemned, 1)
		time.Sleep(time.Hour)

		objects := &stubborn{Objects: w.hookedObjects(), left: 4}
		stats, err := gc.Once(ctx, w.index(), objects, nil)
		require.ErrorContains(t, err, "survives")
		require.Equal(t, 1, stats.Failed)
		require.True(t, w.hasObject(t, key), "the object goes after its multipart uploads")
		require.Len(t, w.garbage(t), 1, "what is not gone is not forgotten")
		require.Zero(t, w.count("Delete"))

		stats, err = gc.Once(ctx, w.index(), objects, nil)
		require.NoError(t, err)
		require.Zero(t, stats.Objects, "it is put off")
		time.Sleep(10 * time.Minute)
		stats, err = gc.Once(ctx, w.index(), objects, nil)
		require.NoError(t, err)
		require.Equal(t, 1, stats.Objects)
		require.False(t, w.hasObject(t, key))
		require.Empty(t, w.garbage(t))
	})
}

// partial is objects that cannot delete some keys.
type partial struct {
	store.Objects
	locked map[store.Key]bool
}

func (o *partial) Delete(ctx context.Context, keys []store.Key) error {
	failed := map[store.Key]error{}
	var rest []store.Key
	for _, key := range keys {
		if o.locked[key] {
			failed[key] = errors.New("locked")
		} else {
			rest = append(rest, key)
		}
	}
	if err := o.Objects.Delete(ctx, rest); err != nil {
		return err
	}
	if len(failed) > 0 {
		return &store.DeleteError{Failed: failed}
	}
	return nil
}

func TestOnlyWhatWasDeletedIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		a, b := w.push(t, repository, "a"), w.push(t, repository, "b")
		time.Sleep(24 * time.Hour)
		w.once(t, nil)
		time.Sleep(time.Hour)
		stats, err := gc.Once(t.Context(), w.index(), &partial{w.objects, map[store.Key]bool{a.Key: true}}, nil)
		require.ErrorContains(t, err, "locked")
		require.Equal(t, 1, stats.Objects)
		require.Equal(t, 1, stats.Failed)
		require.False(t, w.hasObject(t, b.Key))
		left := w.garbage(t)
		require.Len(t, left, 1)
		require.Equal(t, a.Key, left[0].Key)
	})
}

func TestOnceDeletesWhatIsBehindLockedObjects(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]*gc.Options{
		"in batches of one":     {Batch: 1},
		"in batches of few":     {Batch: 3},
		"all at once":           nil,
		"due again immediately": {Batch: 4, Again: time.Nanosecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				locked := map[store.Key]bool{}
				for i := range 30 {
					content := w.push(t, repository, text(i))
					if i < 7 {
						locked[content.Key] = true
					}
					time.Sleep(time.Minute)
				}
				for range 30 { // they are condemned in their order
					time.Sleep(time.Minute)
					w.once(t, &gc.Options{Grace: time.Hour, Delay: 1000 * time.Hour})
				}
				time.Sleep(24 * time.Hour)
				w.once(t, &gc.Options{Grace: time.Hour, Delay: 1000 * time.Hour})
				time.Sleep(time.Hour)
				stats, err := gc.Once(t.Context(), w.index(), &partial{w.objects, locked}, opts)
				require.ErrorContains(t, err, "locked")
				if opts != nil && opts.Again > 0 {
					require.Less(t, stats.Failed, 20_000, "it ends")
					return
				}
				require.Equal(t, 7, stats.Failed)
				require.Equal(t, 23, stats.Objects)
				require.Len(t, w.stored(t), 7)
			})
		})
	}
}
