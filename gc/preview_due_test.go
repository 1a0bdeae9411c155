package gc_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

// upload begins an upload, and claims it.
func (w *world) upload(t *testing.T) store.Session {
	t.Helper()
	id := store.NewID()
	require.NoError(t, w.meta.CreateSession(t.Context(), id, repository, ""))
	return w.claim(t, id)
}

// claim makes an upload busy.
func (w *world) claim(t *testing.T, id string) store.Session {
	t.Helper()
	session, err := w.meta.ClaimSession(t.Context(), store.Claim{
		SessionRef: store.SessionRef{ID: id, Repository: repository}, Offset: -1, Reserve: store.Reservation{Blob: store.NewBlobKey()},
	})
	require.NoError(t, err)
	return session
}

func (w *world) drop(t *testing.T, session store.Session) {
	t.Helper()
	_, err := w.meta.DropSession(t.Context(), store.SessionRef{ID: session.ID, Repository: repository})
	require.NoError(t, err)
}

func TestPreviewTellsOfUploadsAndObjectsThatAreDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		opts := &gc.Options{
			Grace: time.Minute, Delay: time.Hour, Life: store.Life{Idle: 2 * time.Hour, Total: 5 * time.Hour, Tombstone: 3 * time.Hour},
		}
		began := time.Now()
		failed := w.push(t, repository, "cannot be deleted at first")
		time.Sleep(time.Minute)
		require.Equal(t, 1, w.once(t, opts).Contents)
		time.Sleep(time.Hour)
		tried, err := gc.Once(ctx, w.index(), &partial{w.objects, map[store.Key]bool{failed.Key: true}}, opts)
		require.Error(t, err)
		require.Equal(t, 1, tried.Failed)
		require.Zero(t, tried.ObjectBytes, "what is not deleted does not count")
		reviewed := w.push(t, repository, "reviewed")
		busy := w.upload(t)
		time.Sleep(time.Minute)
		require.Equal(t, 1, w.once(t, opts).Contents)

		dropped, idle := w.upload(t), w.upload(t)
		w.drop(t, dropped)
		require.NoError(t, w.meta.SaveSession(ctx, store.Save{
			ID: idle.ID, Version: idle.Version, Progress: store.Progress{Offset: 9, Inline: []byte("nine byte")},
		}))
		then := began.Add(time.Hour + 2*time.Minute)
		for range 4 { // the claims before the last leave keys, which are due in the end but for the last one
			time.Sleep(time.Hour)
			w.claim(t, busy.ID)
		}
		time.Sleep(59 * time.Minute)
		w.upload(t)

		due := w.garbage(t)
		for _, batch := range []int{1, 2, 1000} {
			opts.Batch = batch
			found, stats := w.preview(t, opts)
			require.Equal(t, []gc.Finding{
				{Kind: gc.FindUpload, Repository: repository, ID: busy.ID, Reason: "it has been under way since " + began.Add(time.Hour+time.Minute).UTC().Format(time.RFC3339)},
				{Kind: gc.FindUpload, Repository: repository, ID: idle.ID, Size: 9, Reason: "nobody has written to it since " + then.UTC().Format(time.RFC3339)},
			}, found[:2], "uploads are told of in the order of their beginning")
			assert.Equal(t, gc.Finding{
				Kind: gc.FindObject, Key: failed.Key, Size: failed.Size, Reason: "no row names it; tries to delete it so far: 1",
			}, found[2], "objects are told of in the order in which they are taken")
			since := "no row has named it since " + then.UTC().Format(time.RFC3339)
			assert.Contains(t, found, gc.Finding{Kind: gc.FindObject, Key: reviewed.Key, Size: reviewed.Size, Reason: since})
			assert.Contains(t, found, gc.Finding{Kind: gc.FindObject, Key: dropped.Reserved.Blob, Reason: since})
			assert.Len(t, found, 2+stats.Objects, "each is told of once")
			assert.Equal(t, 2, stats.Sessions)
			assert.Equal(t, 2, stats.Tombstones, "tombstones are counted, and not told of")
			assert.Equal(t, failed.Size+reviewed.Size, stats.ObjectBytes, "of the rest nobody knows the size")
		}
		require.Equal(t, due, w.garbage(t), "a preview leaves garbage as it is")

		_, previewed := w.preview(t, opts)
		done := w.once(t, opts)
		for what, counts := range map[string][2]int64{
			"uploads":    {int64(done.Sessions), int64(previewed.Sessions)},
			"tombstones": {int64(done.Tombstones), int64(previewed.Tombstones)},
			"objects":    {int64(done.Objects), int64(previewed.Objects)},
			"bytes":      {done.ObjectBytes, previewed.ObjectBytes},
		} {
			assert.Equal(t, counts[0], counts[1], "a preview counts what then goes: %s", what)
		}
		found, _ := w.preview(t, opts)
		require.Empty(t, found, "what has gone is not told of")
	})
}

func TestPreviewTellsOfObjectsOnceNoWriteMayReachThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.drop(t, w.upload(t))
		opts := &gc.Options{Delay: time.Second, WriteTimeout: 10 * time.Minute}
		time.Sleep(11*time.Minute - time.Second)
		found, stats := w.preview(t, opts)
		require.Empty(t, found, "a late write may still come")
		require.Zero(t, stats)
		time.Sleep(time.Second)
		_, stats = w.preview(t, opts)
		require.Equal(t, 1, stats.Objects)
		require.Equal(t, 1, w.once(t, opts).Objects)
	})
}

func TestPreviewOfWhatIsDueEndsWithTheCallersOrTheIndexsError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.drop(t, w.upload(t))
		w.upload(t)
		time.Sleep(24 * time.Hour)
		for _, kind := range []gc.FindingKind{gc.FindUpload, gc.FindObject} {
			_, err := gc.Preview(t.Context(), w.index(), nil, func(f gc.Finding) error {
				if f.Kind == kind {
					return assert.AnError
				}
				return nil
			})
			require.ErrorIs(t, err, assert.AnError)
		}
		for method, what := range map[string]string{"PreviewSessions": "preview sessions", "PreviewGarbage": "preview garbage"} {
			w.failOn(func(called string) error {
				if called == method {
					return store.ErrUnavailable
				}
				return nil
			})
			_, err := gc.Preview(t.Context(), w.index(), nil, nil)
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.ErrorContains(t, err, what)
		}
	})
}
