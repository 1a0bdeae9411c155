package staging_test

import (
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestCancelledUploadIsGoneAndItsBytesAreGarbage(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		w := newWorld(limits)
		s, ctx := w.stage(), t.Context()
		data := noise(2*partSize+minPart-1, 1)
		id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
		_, err := s.Append(ctx, repository, id, chunk(data, 0, true))
		require.NoError(t, err)
		session, err := w.session(id)
		require.NoError(t, err)
		require.NotEmpty(t, session.Keys(), kind)

		require.ErrorIs(t, s.Cancel(ctx, "team/other", id), store.ErrSessionUnknown)
		require.NoError(t, s.Cancel(ctx, repository, id))
		for _, key := range session.Keys() {
			assert.True(t, w.condemned()[key], "%s: key %s of the upload should be garbage", kind, key)
		}
		begun, err := w.objects.Begun(ctx, session.Multipart.Key)
		require.NoError(t, err)
		assert.Empty(t, begun, "%s: the multipart upload should be aborted", kind)

		_, err = s.Status(ctx, repository, id)
		assert.ErrorIs(t, err, store.ErrSessionUnknown)
		_, err = s.Append(ctx, repository, id, chunk(data, int64(len(data)), true))
		assert.ErrorIs(t, err, store.ErrSessionUnknown)
		_, err = s.Finish(ctx, repository, id, staging.Chunk{At: -1}, d)
		assert.ErrorIs(t, err, store.ErrSessionUnknown)
		assert.ErrorIs(t, s.Cancel(ctx, repository, id), store.ErrSessionUnknown)
		w.requireAbsent(t, d)
		w.requireSound(t)
	}
}

func TestFinishedUploadAnswersTheSamePUTAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["big parts"])
	here, there, ctx := w.stage(), w.stage(), t.Context()
	data := noise(3*partSize, 2)
	id, d := w.start(t, here, ""), w.expect(digest.SHA256, data)
	_, err := here.Finish(ctx, repository, id, chunk(data, 0, true), d)
	require.NoError(t, err)

	for _, again := range []staging.Chunk{{At: -1}, chunk(data, 0, true), {At: int64(len(data))}} {
		size, err := there.Finish(ctx, repository, id, again, d)
		require.NoError(t, err)
		require.Equal(t, int64(len(data)), size)
	}
	_, err = there.Finish(ctx, repository, id, staging.Chunk{At: -1}, digest.FromString("other"))
	assert.ErrorIs(t, err, store.ErrSessionUnknown, "another digest")
	_, err = there.Finish(ctx, "team/other", id, staging.Chunk{At: -1}, d)
	assert.ErrorIs(t, err, store.ErrSessionUnknown, "another repository")
	_, err = there.Status(ctx, repository, id)
	assert.ErrorIs(t, err, store.ErrSessionUnknown, "status")
	_, err = there.Append(ctx, repository, id, chunk(data, -1, true))
	assert.ErrorIs(t, err, store.ErrSessionUnknown, "append")
	assert.ErrorIs(t, there.Cancel(ctx, repository, id), store.ErrSessionUnknown, "cancel")

	require.NoError(t, w.meta.DeleteContent(ctx, repository, d))
	_, err = there.Finish(ctx, repository, id, staging.Chunk{At: -1}, d)
	assert.ErrorIs(t, err, store.ErrSessionUnknown, "content that was deleted since")
}

func TestUploadExpires(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	life := store.Life{Idle: 24 * hour, Total: 60 * hour, Tombstone: 10 * hour}
	ctx := t.Context()
	begin := func() (*world, *staging.Stage, string) {
		w := newWorld(kinds["any parts"])
		s := w.replica(staging.Options{Life: life}, storetest.Hook{}, storetest.Hook{})
		return w, s, w.start(t, s, "")
	}
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		w, s, id := begin()
		w.clock.Advance(23 * hour)
		_, err := s.Append(ctx, repository, id, chunk([]byte("a"), 0, true))
		require.NoError(t, err)
		w.clock.Advance(23 * hour)
		_, err = s.Status(ctx, repository, id)
		require.NoError(t, err, "an append keeps it alive")
		w.clock.Advance(hour)
		_, err = s.Status(ctx, repository, id)
		require.ErrorIs(t, err, store.ErrSessionUnknown)
		_, err = s.Append(ctx, repository, id, chunk([]byte("a"), 1, true))
		require.ErrorIs(t, err, store.ErrSessionUnknown)
		_, err = s.Finish(ctx, repository, id, staging.Chunk{At: -1}, digest.FromString("a"))
		require.ErrorIs(t, err, store.ErrSessionUnknown)
	})
	t.Run("total", func(t *testing.T) {
		t.Parallel()
		w, s, id := begin()
		for at := range 3 {
			_, err := s.Append(ctx, repository, id, chunk([]byte("a"), int64(at), true))
			require.NoError(t, err)
			w.clock.Advance(20 * hour)
		}
		_, err := s.Append(ctx, repository, id, chunk([]byte("a"), 3, true))
		require.ErrorIs(t, err, store.ErrSessionUnknown)
	})
	t.Run("tombstone", func(t *testing.T) {
		t.Parallel()
		w, s, id := begin()
		d := digest.FromString("a")
		_, err := s.Finish(ctx, repository, id, chunk([]byte("a"), 0, true), d)
		require.NoError(t, err)
		w.clock.Advance(9 * hour)
		_, err = s.Finish(ctx, repository, id, staging.Chunk{At: -1}, d)
		require.NoError(t, err)
		w.clock.Advance(hour)
		_, err = s.Finish(ctx, repository, id, staging.Chunk{At: -1}, d)
		require.ErrorIs(t, err, store.ErrSessionUnknown)
	})
}

func TestUploadIsKnownInItsRepositoryOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["any parts"])
	s, ctx := w.stage(), t.Context()
	id := w.start(t, s, "")
	_, err := s.Status(ctx, "team/other", id)
	assert.ErrorIs(t, err, store.ErrSessionUnknown)
	_, err = s.Append(ctx, "team/other", id, chunk([]byte("a"), 0, true))
	assert.ErrorIs(t, err, store.ErrSessionUnknown)
	_, err = s.Finish(ctx, "team/other", id, chunk([]byte("a"), 0, true), digest.FromString("a"))
	assert.ErrorIs(t, err, store.ErrSessionUnknown)
	status, err := s.Status(ctx, repository, id)
	require.NoError(t, err)
	assert.Zero(t, status.Offset)
}

func TestWrongDigestLeavesAnUploadThatCanBeFinished(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, size := range []int{0, 10, inlineLimit + 1, partSize, 3*partSize + 9} {
			for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
				w := newWorld(limits)
				s, ctx := w.stage(), t.Context()
				data, wrong := noise(size, 3), a.FromString("wrong")
				id, d := w.start(t, s, ""), w.expect(a, data)
				w.expect(a, []byte("wrong"))
				_, err := s.Append(ctx, repository, id, chunk(data, 0, true))
				require.NoError(t, err)
				for range 2 {
					var mismatch *cas.MismatchError
					_, err = s.Finish(ctx, repository, id, staging.Chunk{At: int64(size)}, wrong)
					require.ErrorAs(t, err, &mismatch, "%s, %d bytes", kind, size)
					assert.Equal(t, mismatch.Want, wrong)
					if mismatch.Got != "" {
						assert.Equal(t, d, mismatch.Got)
					}
					w.requireAbsent(t, wrong)
					w.requireAbsent(t, d)
					w.requireSound(t)
				}
				_, err = s.Finish(ctx, repository, id, staging.Chunk{At: int64(size)}, d)
				require.NoError(t, err, "%s, %d bytes by %s", kind, size, a)
				w.requireContent(t, d, data)
				w.requireSound(t)
			}
		}
	}
}

func TestChunkOfAPUTWithAWrongDigestIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["any parts"])
	s, ctx := w.stage(), t.Context()
	data := noise(5000, 4)
	id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
	_, err := s.Append(ctx, repository, id, chunk(data[:2000], 0, true))
	require.NoError(t, err)
	var mismatch *cas.MismatchError
	_, err = s.Finish(ctx, repository, id, chunk(noise(3000, 5), 2000, true), d)
	require.ErrorAs(t, err, &mismatch)
	status, err := s.Status(ctx, repository, id)
	require.NoError(t, err)
	require.Equal(t, int64(2000), status.Offset)
	_, err = s.Finish(ctx, repository, id, chunk(data[2000:], 2000, true), d)
	require.NoError(t, err)
	w.requireContent(t, d, data)
}

func TestUploadEndsWhereContentWouldBeTooLarge(t *testing.T) {
	t.Parallel()
	const limit = partSize + 1000
	for kind, limits := range kinds {
		for _, told := range []bool{false, true} {
			w := newWorld(limits)
			s := w.replica(staging.Options{MaxSize: limit}, storetest.Hook{}, storetest.Hook{})
			ctx, data := t.Context(), noise(limit+1, 6)
			id, d := w.start(t, s, ""), w.expect(digest.SHA256, data[:limit])
			tooLarge := w.expect(digest.SHA256, data)
			_, err := s.Append(ctx, repository, id, chunk(data[:100], 0, told))
			require.NoError(t, err)
			var size *staging.SizeError
			_, err = s.Append(ctx, repository, id, chunk(data[100:], 100, told))
			require.ErrorAs(t, err, &size, "%s, told=%t", kind, told)
			require.Equal(t, int64(limit), size.Limit)
			status, err := s.Status(ctx, repository, id)
			require.NoError(t, err)
			require.LessOrEqual(t, status.Offset, int64(limit), "%s, told=%t: bytes that are kept", kind, told)

			_, err = s.Finish(ctx, repository, id, chunk(data[status.Offset:], status.Offset, told), tooLarge)
			require.ErrorAs(t, err, &size)
			w.requireAbsent(t, tooLarge)
			status, err = s.Status(ctx, repository, id)
			require.NoError(t, err)
			_, err = s.Finish(ctx, repository, id, chunk(data[status.Offset:limit], status.Offset, told), d)
			require.NoError(t, err, "content of exactly the limit")
			w.requireContent(t, d, data[:limit])
			w.requireSound(t)
		}
	}
}

func TestBodyShorterThanToldKeepsWhatCame(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 10, 3000, 2*partSize + 5} {
		for _, finish := range []bool{false, true} {
			w := newWorld(kinds["big parts"])
			s, ctx, data := w.stage(), t.Context(), noise(size+1, 7)
			id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
			short := chunk(data[:size], 0, true)
			short.Size++
			var err error
			if finish {
				_, err = s.Finish(ctx, repository, id, short, d)
			} else {
				_, err = s.Append(ctx, repository, id, short)
			}
			var body *staging.BodyError
			require.ErrorAs(t, err, &body)
			status, err := s.Status(ctx, repository, id)
			require.NoError(t, err)
			require.Equal(t, int64(size), status.Offset)
			_, err = s.Finish(ctx, repository, id, chunk(data[size:], int64(size), true), d)
			require.NoError(t, err)
			w.requireContent(t, d, data)
		}
	}
}

func TestBodyLongerThanToldIsReadNoFurther(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["any parts"])
	s := w.stage()
	id := w.start(t, s, "")
	body := strings.NewReader("hello world")
	upload, err := s.Append(t.Context(), repository, id, staging.Chunk{Body: body, Size: 5})
	require.NoError(t, err)
	assert.Equal(t, int64(5), upload.Offset)
	assert.Equal(t, 6, body.Len())
}

func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["any parts"])
	s, ctx := w.stage(), t.Context()
	for _, a := range []digest.Algorithm{"md5", "sha384", "sha256+b64"} {
		_, err := s.Start(ctx, repository, a)
		assert.ErrorIs(t, err, cas.ErrDigest, "start for %s", a)
	}
	id := w.start(t, s, "")
	for _, d := range []digest.Digest{"", "sha256", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", digest.SHA384.FromString("a")} {
		_, err := s.Finish(ctx, repository, id, chunk([]byte("a"), 0, true), d)
		assert.ErrorIs(t, err, cas.ErrDigest, "finish as %q", d)
	}
	status, err := s.Status(ctx, repository, id)
	require.NoError(t, err)
	assert.Zero(t, status.Offset, "nothing should have been read")
}
