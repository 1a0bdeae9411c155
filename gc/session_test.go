package gc_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

func TestAbandonedUploadsAreEndedAndLeaveNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		id, key := store.NewID(), store.NewBlobKey()
		ref := store.SessionRef{ID: id, Repository: repository}
		require.NoError(t, w.meta.CreateSession(ctx, id, repository, ""))
		session, err := w.meta.ClaimSession(ctx, store.Claim{SessionRef: ref, Reserve: store.Reservation{Blob: key, Tail: store.NewUploadKey(id)}})
		require.NoError(t, err)
		lost, err := w.objects.Begin(ctx, key) // its answer was lost
		require.NoError(t, err)
		begun, err := w.objects.Begin(ctx, key)
		require.NoError(t, err)
		progress := session.Progress
		progress.Multipart = begun
		require.NoError(t, w.objects.Put(ctx, session.Reserved.Tail, strings.NewReader("tail"), 4))
		require.NoError(t, w.meta.SaveSession(ctx, store.Save{
			ID: id, Version: session.Version, Progress: progress, Tail: &store.Tail{Key: session.Reserved.Tail, Size: 4},
		}))
		time.Sleep(24*time.Hour - time.Second)
		w.once(t, nil)
		_, err = w.meta.Session(ctx, ref)
		require.NoError(t, err, "an upload lives for a day without a byte")

		time.Sleep(time.Second)
		stats := w.once(t, nil)
		require.Equal(t, 1, stats.Sessions)
		require.Equal(t, 1, stats.Multiparts, "the multipart upload that is known is aborted at once")
		_, err = w.meta.Session(ctx, ref)
		require.ErrorIs(t, err, store.ErrSessionUnknown)
		left, err := w.objects.Begun(ctx, key)
		require.NoError(t, err)
		require.Equal(t, []store.Multipart{lost}, left)

		time.Sleep(time.Hour)
		stats = w.once(t, nil)
		require.Equal(t, 1, stats.Multiparts, "one that only the store knows is found by its key")
		left, err = w.objects.Begun(ctx, key)
		require.NoError(t, err)
		require.Empty(t, left)
		require.Empty(t, w.stored(t))
		require.Empty(t, w.garbage(t))
		require.Zero(t, w.count("List"))
	})
}

func TestAbortThatFailsIsCountedAndMadeUpFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		id, key := store.NewID(), store.NewBlobKey()
		require.NoError(t, w.meta.CreateSession(ctx, id, repository, ""))
		session, err := w.meta.ClaimSession(ctx, store.Claim{
			SessionRef: store.SessionRef{ID: id, Repository: repository}, Reserve: store.Reservation{Blob: key},
		})
		require.NoError(t, err)
		progress := session.Progress
		progress.Multipart, err = w.objects.Begin(ctx, key)
		require.NoError(t, err)
		require.NoError(t, w.meta.SaveSession(ctx, store.Save{ID: id, Version: session.Version, Progress: progress}))
		time.Sleep(24 * time.Hour)
		w.failOn(func(method string) error {
			if method == "Abort" {
				return store.ErrUnavailable
			}
			return nil
		})
		stats := w.once(t, nil)
		require.Equal(t, 1, stats.Sessions)
		require.Zero(t, stats.Multiparts)
		require.Equal(t, 1, stats.NotAborted, "somebody can see that it was not aborted")
		w.failOn(nil)
		time.Sleep(time.Hour)
		stats = w.once(t, nil)
		require.Equal(t, 1, stats.Multiparts)
		require.Zero(t, stats.NotAborted)
		require.Empty(t, w.garbage(t))
	})
}

// Uploads of very many parts end one at a time, so that no transaction is large; nobody rests in between.
func TestLargeUploadsAreEndedOneByOneWithoutARest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		const uploads = 5
		for range uploads {
			id := store.NewID()
			require.NoError(t, w.meta.CreateSession(t.Context(), id, repository, ""))
			_, err := w.meta.ClaimSession(t.Context(), store.Claim{SessionRef: store.SessionRef{ID: id, Repository: repository}, PartCount: 10_000})
			require.NoError(t, err)
		}
		time.Sleep(24 * time.Hour)
		stop := running(t, w.index(), w.hookedObjects(), &gc.Options{Pause: time.Hour})
		time.Sleep(time.Minute)
		sessions, err := w.meta.PreviewSessions(t.Context(), store.Life{Idle: time.Hour, Total: time.Hour, Tombstone: time.Hour}, store.Outlived{}, uploads)
		require.NoError(t, err)
		require.Empty(t, sessions)
		require.GreaterOrEqual(t, w.count("EndSessions"), uploads, "one call for each upload")
		stop()
	})
}
