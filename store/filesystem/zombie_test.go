package filesystem

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// stalled are the files of a process that gets no lock until it is told to go on.
type stalled struct {
	osFiles
	goOn *atomic.Bool
}

func (s stalled) tryLock(f file) (bool, error) {
	if !s.goOn.Load() {
		return false, nil
	}
	return s.osFiles.tryLock(f)
}

func TestWriterThatWaitedForTheLock(t *testing.T) {
	t.Parallel()
	const key store.Key = "blobs/zombie"
	live, late := pattern(1, 5000), pattern(9, 5000)
	for name, test := range map[string]struct {
		meanwhile func(t *testing.T, o *Objects, m store.Multipart)
		want      error
		object    []byte // after all is completed; nil is none
	}{
		"IsFencedByALaterClaim": {
			meanwhile: func(t *testing.T, o *Objects, m store.Multipart) {
				_, err := o.PutPart(t.Context(), m, 2, store.Part{Number: 2, Size: 5000}, bytes.NewReader(live))
				require.NoError(t, err)
			},
			want: store.ErrFenced,
		},
		"IsFencedByALaterClaimWhoseWriteFailed": {
			meanwhile: func(t *testing.T, o *Objects, m store.Multipart) {
				_, err := o.PutPart(t.Context(), m, 2, store.Part{Number: 2, Size: 5000}, bytes.NewReader(live[:100]))
				require.Error(t, err)
			},
			want: store.ErrFenced,
		},
		"FindsTheUploadCompleted": {
			meanwhile: func(t *testing.T, o *Objects, m store.Multipart) {
				part, err := o.PutPart(t.Context(), m, 1, store.Part{Number: 2, Size: 5000}, bytes.NewReader(live))
				require.NoError(t, err)
				require.NoError(t, o.Complete(t.Context(), m, []store.Part{part}))
			},
			want:   store.ErrMultipartUnknown,
			object: live,
		},
		"FindsTheUploadAborted": {
			meanwhile: func(t *testing.T, o *Objects, m store.Multipart) {
				require.NoError(t, o.Abort(t.Context(), m))
			},
			want: store.ErrMultipartUnknown,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				o, err := New(dir, nil)
				require.NoError(t, err)
				zombie, err := New(dir, nil)
				require.NoError(t, err)
				goOn := &atomic.Bool{}
				zombie.files = stalled{goOn: goOn}

				m, err := o.Begin(t.Context(), key)
				require.NoError(t, err)
				written := make(chan error, 1)
				go func() {
					_, err := zombie.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: 5000}, bytes.NewReader(late))
					written <- err
				}()
				synctest.Wait() // it has opened the table, and waits
				test.meanwhile(t, o, m)
				goOn.Store(true)
				require.ErrorIs(t, <-written, test.want, "a writer looks again once it has the lock")

				got, err := readAll(t.Context(), o, key)
				if test.object == nil {
					require.ErrorIs(t, err, store.ErrObjectUnknown)
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.object, got, "a writer that comes too late does not reach the object")
			})
		})
	}
}

func TestWaitingForTheLockEndsWithTheContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, err := New(dir, nil)
		require.NoError(t, err)
		m, err := o.Begin(t.Context(), "blobs/stalled")
		require.NoError(t, err)
		_, parts, ok := o.upload(m)
		require.True(t, ok)
		lock, err := o.lock(t.Context(), parts)
		require.NoError(t, err)

		for name, call := range map[string]func(ctx context.Context) error{
			"PutPart": func(ctx context.Context) error {
				_, err := o.PutPart(ctx, m, 1, store.Part{Number: 1, Size: 1}, strings.NewReader("x"))
				return err
			},
			"Complete": func(ctx context.Context) error {
				return o.Complete(ctx, m, []store.Part{{Number: 1, Size: 1, Tag: newTag()}})
			},
			"Abort": func(ctx context.Context) error { return o.Abort(ctx, m) },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() { failed <- call(ctx) }()
			synctest.Wait()
			require.Empty(t, failed, "%s waits while somebody else, of this process, has the lock", name)
			cancel()
			require.ErrorIs(t, <-failed, ctx.Err(), "%s stops waiting when its context ends", name)
		}
		require.NoError(t, lock.Close())
		require.NoError(t, o.Abort(t.Context(), m), "what is locked is free when it is closed")
	})
}
