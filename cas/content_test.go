package cas_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

const repository = "team/app"

// world is the stores under the contents, and a count of what is asked of them.
type world struct {
	clock    *storetest.Clock
	meta     *memory.Metadata
	objects  *memory.Objects
	contents *cas.Store
	calls    map[string]int
}

func newWorld(opts *cas.Options) *world {
	w := &world{clock: storetest.NewClock(), calls: map[string]int{}}
	w.meta = memory.NewMetadata(&memory.MetadataOptions{Now: w.clock.Now})
	w.objects = memory.NewObjects(nil)
	count := storetest.Hook{Before: func(_ context.Context, method string) error { w.calls[method]++; return nil }}
	w.contents = cas.New(storetest.HookMetadata(w.meta, count), storetest.HookObjects(w.objects, count), opts)
	return w
}

// upload makes content of an object, as a finished upload does, and returns its digest and key.
func (w *world) upload(t *testing.T, data []byte) (digest.Digest, store.Key) {
	t.Helper()
	ctx, d, key, id := t.Context(), digest.FromBytes(data), store.NewBlobKey(), store.NewID()
	require.NoError(t, w.meta.CreateSession(ctx, id, repository, digest.SHA256))
	claim, err := w.meta.ClaimSession(ctx, store.Claim{
		SessionRef: store.SessionRef{ID: id, Repository: repository}, Finish: true, Reserve: store.Reservation{Blob: key},
	})
	require.NoError(t, err)
	require.NoError(t, w.objects.Put(ctx, key, bytes.NewReader(data), int64(len(data))))
	require.NoError(t, w.meta.FinishSession(ctx, store.Finish{
		ID: id, Version: claim.Version, Content: store.Content{Digest: d, Size: int64(len(data)), Key: key},
	}))
	return d, key
}

func (w *world) find(t *testing.T, d digest.Digest) cas.Content {
	t.Helper()
	found, err := w.contents.Find(t.Context(), repository, d)
	require.NoError(t, err)
	return found
}

func TestPutContentIsFoundInItsRepositoryOnly(t *testing.T) {
	t.Parallel()
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		for _, data := range []string{"", "{}", strings.Repeat("x", 64<<10)} {
			w := newWorld(nil)
			d := a.FromString(data)
			for range 2 { // again changes nothing
				require.NoError(t, w.contents.Put(t.Context(), repository, d, []byte(data)))
			}
			found := w.find(t, d)
			assert.Equal(t, d, found.Digest)
			assert.Equal(t, int64(len(data)), found.Size)
			assert.True(t, found.IsInline())
			r, err := found.Open(t.Context(), 0, -1)
			require.NoError(t, err)
			got, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, r.Close())
			assert.Equal(t, data, string(got))
			require.NoError(t, found.Verify(t.Context()))

			_, err = w.contents.Find(t.Context(), "team/other", d)
			assert.ErrorIs(t, err, store.ErrContentUnknown)
			_, err = w.contents.Stat(t.Context(), "team/other", d)
			assert.ErrorIs(t, err, store.ErrContentUnknown)
			assert.Equal(t, map[string]int{"PutContent": 2, "Content": 2, "RenewContent": 1}, w.calls, "inline content costs no object request")
		}
	}
}

func TestPutDoesNotChangeWithTheCallersBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	data := []byte("content")
	d := digest.FromBytes(data)
	require.NoError(t, w.contents.Put(t.Context(), repository, d, data))
	data[0] = 'C'
	require.NoError(t, w.find(t, d).Verify(t.Context()))
}

func TestPutKeepsNothingThatHasAnotherDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	want, got := digest.FromString("want"), digest.FromString("got")
	var mismatch *cas.MismatchError
	err := w.contents.Put(t.Context(), repository, want, []byte("got"))
	require.ErrorAs(t, err, &mismatch)
	assert.Equal(t, cas.MismatchError{Want: want, Got: got}, *mismatch)
	assert.ErrorContains(t, err, "content has digest "+got.String()+", not "+want.String())
	for _, d := range []digest.Digest{"", "sha256", "sha256:0", "md5:d41d8cd98f00b204e9800998ecf8427e", digest.SHA384.FromString("got")} {
		assert.ErrorIs(t, w.contents.Put(t.Context(), repository, d, []byte("got")), cas.ErrDigest, "put as %q", d)
	}
	assert.Empty(t, w.calls, "the index should not have been asked")
}

func TestPutTakesContentUpToTheLimit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		opts *cas.Options
		most int
	}{{nil, 64 << 10}, {&cas.Options{}, 64 << 10}, {&cas.Options{InlineLimit: 10}, 10}, {&cas.Options{InlineLimit: -1}, 0}} {
		w := newWorld(test.opts)
		for size, fits := range map[int]bool{0: true, test.most: true, test.most + 1: false} {
			data := make([]byte, size)
			assert.Equal(t, fits, w.contents.Fits(int64(size)), "Fits(%d) with %+v", size, test.opts)
			err := w.contents.Put(t.Context(), repository, digest.FromBytes(data), data)
			assert.Equal(t, fits, err == nil, "Put of %d bytes with %+v: %v", size, test.opts, err)
		}
	}
}

func TestOpenReadsRangesOfInlineContentAndOfObjects(t *testing.T) {
	t.Parallel()
	data := []byte("0123456789")
	tests := []struct {
		offset, length int64
		want           string
		requests       int // for an object
		err            error
	}{
		{offset: 0, length: -1, want: "0123456789", requests: 1},
		{offset: 0, length: 10, want: "0123456789", requests: 1},
		{offset: 3, length: 4, want: "3456", requests: 1},
		{offset: 9, length: -1, want: "9", requests: 1},
		{offset: 8, length: 100, want: "89", requests: 1},
		{offset: 1, length: 1<<63 - 1, want: "123456789", requests: 1},
		{offset: 4, length: 0},
		{offset: 10, length: -1},
		{offset: 10, length: 5},
		{offset: 11, length: -1, err: store.ErrOutOfRange},
		{offset: 11, length: 0, err: store.ErrOutOfRange},
		{offset: -1, length: 1, err: store.ErrOutOfRange},
		{offset: 0, length: -2, err: store.ErrOutOfRange},
	}
	for _, inline := range []bool{true, false} {
		w := newWorld(nil)
		d := digest.FromBytes(data)
		if inline {
			require.NoError(t, w.contents.Put(t.Context(), repository, d, data))
		} else {
			w.upload(t, data)
		}
		found := w.find(t, d)
		require.Equal(t, inline, found.IsInline())
		for _, test := range tests {
			what := fmt.Sprintf("inline=%t, %d bytes at %d", inline, test.length, test.offset)
			w.calls = map[string]int{}
			r, err := found.Open(t.Context(), test.offset, test.length)
			if test.err != nil {
				require.ErrorIs(t, err, test.err, what)
				continue
			}
			require.NoError(t, err, what)
			got, err := io.ReadAll(r)
			require.NoError(t, err, what)
			require.NoError(t, r.Close(), what)
			assert.Equal(t, test.want, string(got), what)
			want := test.requests
			if inline {
				want = 0
			}
			assert.Equal(t, want, w.calls["Open"], "%s: object requests", what)
			assert.Len(t, w.calls, min(want, 1), "%s: other calls", what)
		}
	}
}

func TestStatKeepsContentFromTheCollector(t *testing.T) {
	t.Parallel()
	w := newWorld(&cas.Options{Grace: 10 * time.Hour})
	d, _ := w.upload(t, []byte("content"))
	idle := func() time.Duration {
		candidates, err := w.meta.Candidates(t.Context(), 0, 10)
		require.NoError(t, err)
		require.Len(t, candidates, 1)
		return w.clock.Now().Sub(candidates[0].Touched)
	}
	stat := func() {
		size, err := w.contents.Stat(t.Context(), repository, d)
		require.NoError(t, err)
		require.Equal(t, int64(7), size)
	}
	w.clock.Advance(4 * time.Hour)
	stat()
	assert.Equal(t, 4*time.Hour, idle(), "more than half of the grace is left: nothing is written")
	w.clock.Advance(2 * time.Hour)
	_ = w.find(t, d)
	assert.Equal(t, 6*time.Hour, idle(), "a pull promises nothing")
	stat()
	assert.Zero(t, idle(), "less than half is left: it is renewed")

	require.NoError(t, w.meta.DeleteContent(t.Context(), repository, d))
	_, err := w.contents.Stat(t.Context(), repository, d)
	assert.ErrorIs(t, err, store.ErrContentUnknown)
}

func TestVerifyFindsContentThatHasRotted(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	d, key := w.upload(t, []byte("content"))
	found := w.find(t, d)
	require.NoError(t, found.Verify(t.Context()))

	for _, rotten := range []string{"Content", "conten", "content and more"} {
		require.NoError(t, w.objects.Put(t.Context(), key, strings.NewReader(rotten), int64(len(rotten))))
		err := found.Verify(t.Context())
		if strings.HasPrefix(rotten, "content") {
			require.NoError(t, err, "what follows the content is not read")
			continue
		}
		var mismatch *cas.MismatchError
		require.ErrorAs(t, err, &mismatch, "verify %q", rotten)
		assert.Equal(t, cas.MismatchError{Want: d, Got: digest.FromString(rotten)}, *mismatch)
	}
	require.NoError(t, w.objects.Delete(t.Context(), []store.Key{key}))
	require.ErrorIs(t, found.Verify(t.Context()), store.ErrObjectUnknown)
}

func TestReadingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	d, _ := w.upload(t, []byte("content"))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := w.find(t, d).Open(ctx, 0, -1)
	require.NoError(t, err)
	defer r.Close()
	cancel()
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, w.find(t, d).Verify(ctx), context.Canceled)
}

func TestNewestVerifiedContentWins(t *testing.T) {
	t.Parallel()
	w := newWorld(nil)
	data := []byte("content")
	d, old := w.upload(t, data)
	_, key := w.upload(t, data)
	assert.Equal(t, key, w.find(t, d).Key)
	require.NoError(t, w.contents.Put(t.Context(), repository, d, data))
	assert.True(t, w.find(t, d).IsInline())
	garbage, err := w.meta.Garbage(t.Context(), 0, 10)
	require.NoError(t, err)
	var keys []store.Key
	for _, g := range garbage {
		keys = append(keys, g.Key)
	}
	assert.ElementsMatch(t, []store.Key{old, key}, keys, "what is replaced goes into the garbage")
}
