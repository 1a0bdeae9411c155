package staging_test

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestLastOfTwoWritersWins(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["big parts"])
	first, second := w.stage(), w.stage()
	id := w.start(t, first, "")
	slow, body := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := first.Append(t.Context(), repository, id, staging.Chunk{Body: slow, At: 0, Size: -1})
		ended <- err
	}()
	_, err := body.Write(noise(100, 1)) // it has claimed
	require.NoError(t, err)

	data := noise(3000, 8)
	upload, err := second.Append(t.Context(), repository, id, chunk(data[:2000], 0, true))
	require.NoError(t, err, "the last writer wins at once")
	require.Equal(t, int64(2000), upload.Offset)
	require.NoError(t, body.Close())
	var offset *staging.OffsetError
	require.ErrorAs(t, <-ended, &offset, "the first writer is fenced off")
	require.Equal(t, int64(2000), offset.Upload.Offset, "and told where the upload stands")
	require.Equal(t, id, offset.Upload.ID)

	d := w.expect(digest.SHA256, data)
	_, err = first.Finish(t.Context(), repository, id, chunk(data[2000:], 2000, true), d)
	require.NoError(t, err)
	w.requireContent(t, d, data)
	w.requireSound(t)
}

func TestChunkThatDoesNotContinueTheUploadChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(kinds["any parts"])
	s := w.stage()
	id := w.start(t, s, "")
	data := noise(500, 9)
	_, err := s.Append(t.Context(), repository, id, chunk(data[:300], 0, true))
	require.NoError(t, err)
	before, err := w.session(id)
	require.NoError(t, err)
	for _, at := range []int64{0, 299, 301, 1 << 40} {
		var offset *staging.OffsetError
		_, err := s.Append(t.Context(), repository, id, chunk(data[300:], at, true))
		require.ErrorAs(t, err, &offset, "append at %d", at)
		require.Equal(t, int64(300), offset.Upload.Offset)
		_, err = s.Finish(t.Context(), repository, id, chunk(data[300:], at, true), digest.FromBytes(data))
		require.ErrorAs(t, err, &offset, "finish at %d", at)
	}
	after, err := w.session(id)
	require.NoError(t, err)
	assert.Equal(t, before, after, "the session should be untouched")
}

// TestRetryIsNotFencedByTheRequestThatItReplaces: the client has given the first request up, whose connection is only found
// broken when the second one is well under way.
func TestRetryIsNotFencedByTheRequestThatItReplaces(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 3000, 2 * partSize} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(kinds["big parts"])
			here, there := w.stage(), w.stage()
			data := noise(size, 1)
			id, d := w.start(t, here, ""), w.expect(digest.SHA256, data)
			given, again := newClient(), newClient()
			first := appending(t.Context(), here, id, 0, given)
			given.send(t, data[:50])
			time.Sleep(time.Second)
			second := appending(t.Context(), there, id, 0, again)
			again.send(t, data[:70])
			synctest.Wait()
			require.NoError(t, given.feed.CloseWithError(errCut))
			require.Error(t, <-first)
			again.send(t, data[70:])
			require.NoError(t, again.feed.Close())
			require.NoError(t, <-second, "the last writer wins, with %d bytes", size)
			_, err := there.Finish(t.Context(), repository, id, staging.Chunk{At: int64(size)}, d)
			require.NoError(t, err)
			w.requireContent(t, d, data)
			w.requireSound(t)
		})
	}
}

// TestLastToClaimWinsAmongWritersThatReadTheSameRow: a request that is sent twice must not lose both times.
func TestLastToClaimWinsAmongWritersThatReadTheSameRow(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, size := range []int{partSize / 2, partSize, 3*partSize + 5} {
			w := newWorld(limits)
			write := "Put"
			if size > partSize {
				write = "PutPart"
			}
			claims, writes := newGate("ClaimSession", 1, false), newGate(write, 1, false)
			late := w.replica(staging.Options{}, storetest.Hook{}, claims.hook())
			early := w.replica(staging.Options{}, writes.hook(), storetest.Hook{})
			data := noise(size, 5)
			id, d := w.start(t, early, ""), w.expect(digest.SHA256, data)
			finish := func(s *staging.Stage) <-chan error {
				ended := make(chan error, 1)
				go func() {
					_, err := s.Finish(t.Context(), repository, id, chunk(data, 0, true), d)
					ended <- err
				}()
				return ended
			}
			lateEnded := finish(late)
			<-claims.arrived // late has read the row, and early has not claimed it
			earlyEnded := finish(early)
			<-writes.arrived
			close(claims.open)
			require.NoError(t, <-lateEnded, "%s, %d bytes: the last to claim finishes", kind, size)
			close(writes.open)
			require.NoError(t, <-earlyEnded, "%s, %d bytes: the same closing request finds it finished", kind, size)
			w.requireContent(t, d, data)
			w.requireSound(t)
		}
	}
}

// TestWriterThatOutrunsItsPartNumbersReservesMore: what a zombie stores late has a number of its own, although a bucket
// takes it from anybody.
func TestWriterThatOutrunsItsPartNumbersReservesMore(t *testing.T) {
	t.Parallel()
	const size = 10
	for nth := int64(60); nth < 150; nth += 7 { // one claim reserves 66
		w := newWorld(store.Limits{MinPart: 2, PartSize: size, MaxParts: 10_000})
		g := newGate("PutPart", nth, false)
		slow := w.replica(staging.Options{InlineLimit: -1}, g.hook(), storetest.Hook{})
		s := w.replica(staging.Options{InlineLimit: -1}, storetest.Hook{}, storetest.Hook{})
		data, other := noise(200*size, 1), noise(200*size, 2)
		id := w.start(t, s, "")
		_, err := s.Append(t.Context(), repository, id, chunk(other[:2*size], 0, true)) // both know the multipart upload
		require.NoError(t, err)
		ended := appending(t.Context(), slow, id, 2*size, bytes.NewReader(other[2*size:]))
		<-g.arrived
		status, err := s.Status(t.Context(), repository, id)
		require.NoError(t, err)
		copy(data, other[:status.Offset])
		status, err = s.Append(t.Context(), repository, id, chunk(data[status.Offset:], status.Offset, true))
		require.NoError(t, err)
		close(g.open)
		var offset *staging.OffsetError
		require.ErrorAs(t, <-ended, &offset)
		require.NoError(t, <-g.effect, "the zombie's part should have been stored")
		d := w.expect(digest.SHA256, data)
		_, err = s.Finish(t.Context(), repository, id, staging.Chunk{At: status.Offset}, d)
		require.NoError(t, err, "a zombie at part %d", nth)
		w.requireContent(t, d, data)
		w.requireSound(t)
	}
}

// TestReplicasThatDisagreeOnPartSizeContinueEachOther: the upload keeps the one that it began with.
func TestReplicasThatDisagreeOnPartSizeContinueEachOther(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, size := range []int{700, 3000, 7000, partSize, 20_000} {
			w := newWorld(limits)
			replicas := []*staging.Stage{
				w.replica(staging.Options{PartSize: 2 * minPart}, storetest.Hook{}, storetest.Hook{}),
				w.replica(staging.Options{PartSize: partSize}, storetest.Hook{}, storetest.Hook{}),
				w.replica(staging.Options{PartSize: minPart}, storetest.Hook{}, storetest.Hook{}),
			}
			data := noise(10*size, 3)
			id, d := w.start(t, replicas[0], ""), w.expect(digest.SHA256, data)
			for i := range 10 {
				at := i * size
				_, err := replicas[i%3].Append(t.Context(), repository, id, chunk(data[at:at+size], int64(at), i%2 == 0))
				require.NoError(t, err)
			}
			_, err := replicas[0].Finish(t.Context(), repository, id, staging.Chunk{At: -1}, d)
			require.NoError(t, err, "%s, chunks of %d bytes", kind, size)
			w.requireContent(t, d, data)
			w.requireSound(t)
		}
	}
}
