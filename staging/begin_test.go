package staging_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestKeyWhoseBeginningWasLostIsCondemnedAndNeverUsedAgain(t *testing.T) {
	t.Parallel()
	for name, finish := range map[string]bool{"PATCH": false, "PUT": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ctx := newWorld(kinds["big parts"]), t.Context()
			lost := false
			s := w.replica(staging.Options{}, storetest.Hook{After: func(_ context.Context, method string, err error) error {
				if method == "Begin" && err == nil && !lost {
					lost = true
					return errFault
				}
				return err
			}}, storetest.Hook{})
			data := noise(3*partSize, 8)
			id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
			var err error
			if finish {
				_, err = s.Finish(ctx, repository, id, chunk(data, 0, true), d)
			} else {
				_, err = s.Append(ctx, repository, id, chunk(data, 0, true))
			}
			require.ErrorIs(t, err, errFault)
			garbage, err := w.meta.Garbage(ctx, 0, 10)
			require.NoError(t, err)
			require.Len(t, garbage, 1, "the key is condemned")
			require.True(t, garbage[0].Unfinished)
			begun, err := w.objects.Begun(ctx, garbage[0].Key)
			require.NoError(t, err)
			require.Len(t, begun, 1, "the upload that nobody knows is found by its key")
			status, err := s.Status(ctx, repository, id)
			require.NoError(t, err)
			_, err = s.Finish(ctx, repository, id, chunk(data[status.Offset:], status.Offset, true), d)
			require.NoError(t, err)
			content, err := w.meta.Content(ctx, repository, d)
			require.NoError(t, err)
			require.NotEqual(t, garbage[0].Key, content.Key, "the key is never used again")
			w.requireContent(t, d, data)
			w.requireSound(t)
		})
	}
}

func TestEachRequestToTheObjectsIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 4 * time.Second
	for method, size := range map[string]int{"Begin": 3 * partSize, "PutPart": 3 * partSize, "Complete": 3 * partSize, "Put": 3000} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(kinds["big parts"])
			s := w.replica(staging.Options{WriteTimeout: limit}, storetest.Hook{Before: func(ctx context.Context, called string) error {
				if called != method {
					return nil
				}
				<-ctx.Done()
				return store.ErrUnavailable
			}}, storetest.Hook{})
			data := noise(size, 9)
			id := w.start(t, s, "")
			began := time.Now()
			_, err := s.Finish(t.Context(), repository, id, staging.Chunk{Body: bytes.NewReader(data), Size: int64(size)}, w.expect(digest.SHA256, data))
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.Equal(t, limit, time.Since(began), "%s takes no longer than it may", method)
		})
	}
}
