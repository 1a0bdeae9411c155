package upstream_test

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestReplicasFetchOnceEachAndOneKeeps(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	var replicas []*mirror
	for range 3 {
		replicas = append(replicas, newReplica(t, o.URL, meta, objects))
	}
	layer := content("layer", 2<<20)
	d := o.push(t, "v1", layer).layerDigest()
	g := newGate(1 << 20)
	o.answers(g.hold(layer))
	var done sync.WaitGroup
	for i := range 48 {
		done.Go(func() {
			data, err := replicas[i%3].pull(t, d)
			assert.NoError(t, err)
			assert.Equal(t, d, digest.FromBytes(data))
		})
	}
	eventually(t, "each replica asks", func() bool { return o.asked("GET", d.Encoded()) == 3 })
	close(g.opened)
	done.Wait()
	kept := 0
	for _, m := range replicas {
		require.NoError(t, m.Close())
		kept += m.outcomes()["blob fetched"]
	}
	require.Equal(t, 1, kept, "one of them keeps it")
	require.Equal(t, 3, o.asked("GET", d.Encoded()))
	garbage, err := meta.Garbage(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Empty(t, garbage, "nothing was kept twice")
}

func TestReplicaKeepsWhatTheOneThatClaimedItDidNot(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	d := o.push(t, "v1", content("layer", 1<<20)).layerDigest()
	claimed, err := m.meta.ClaimFetch(t.Context(), d, "another replica", time.Minute)
	require.NoError(t, err)
	require.True(t, claimed)
	m.mustPull(t, d)
	require.False(t, m.isKept(t, d))
	m.mustPull(t, d)
	require.Equal(t, 1, o.asked("GET", d.Encoded()), "it stays in the spool until the other one has kept it")
	require.NoError(t, m.meta.ReleaseFetch(t.Context(), d, "another replica")) // which has failed
	eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
}

func TestLayerOfTwoRepositoriesIsFetchedOnceAtATime(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	layer := content("layer", 2<<20)
	d := o.push(t, "v1", layer).layerDigest()
	_, err := o.registry.Mount(t.Context(), d, repository, "library/other")
	require.NoError(t, err)
	g := newGate(1 << 20)
	o.answers(g.hold(layer))
	first, err := m.Blob(t.Context(), repository, d)
	require.NoError(t, err)
	<-g.held
	o.answers(nil)
	second, err := m.Blob(t.Context(), "library/other", d)
	require.NoError(t, err)
	_, err = m.Blob(t.Context(), "library/third", d)
	require.ErrorIs(t, err, registry.ErrBlobUnknown, "what the upstream does not have there is not there, though it is on its way")
	close(g.opened)
	for _, blob := range []registry.Blob{first, second} {
		data, err := readAll(t, blob)
		require.NoError(t, err)
		require.Equal(t, d, digest.FromBytes(data))
	}
	require.Equal(t, 1, o.asked("GET", d.Encoded()))
}

func TestLayerOfAnotherRepositoryIsNotFetchedAgain(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	d := o.push(t, "v1", content("layer", 1<<20)).layerDigest()
	_, err := o.registry.Mount(t.Context(), d, repository, "library/other")
	require.NoError(t, err)
	m.mustPull(t, d)
	eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
	other, err := m.Blob(t.Context(), "library/other", d)
	require.NoError(t, err)
	data, err := readAll(t, other)
	require.NoError(t, err)
	require.Equal(t, d, digest.FromBytes(data))
	require.Equal(t, 1, o.asked("GET", d.Encoded()))
	_, err = m.Blob(t.Context(), "library/third", d)
	require.ErrorIs(t, err, registry.ErrBlobUnknown, "what the upstream does not have there is not there")
}

func TestBlobThatTheObjectsHaveLostComesFromTheUpstream(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	var lost atomic.Bool
	objects := storetest.HookObjects(memory.NewObjects(nil), storetest.Hook{Before: func(_ context.Context, method string) error {
		if method == "Open" && lost.Load() {
			return store.ErrObjectUnknown
		}
		return nil
	}})
	m := newReplica(t, o.URL, memory.NewMetadata(nil), objects)
	d := o.push(t, "v1", content("layer", 100_000)).layerDigest()
	m.mustPull(t, d)
	eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
	lost.Store(true)
	m.mustPull(t, d)
	require.Equal(t, 1, m.outcomes()["blob unkept"])
	o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = w.Write(make([]byte, 100_000))
		return true
	})
	_, err := m.pull(t, d)
	require.Error(t, err, "and is checked, too")
}

func TestUpstreamCannotMakeVisibleWhatItDoesNotHave(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	m := newReplica(t, o.URL, meta, objects)
	secret := content("secret", 100_000)
	d := digest.FromBytes(secret)
	_, err := registry.NewLocal(meta, objects, nil).PushBlob(t.Context(), "team/secret", d, bytes.NewReader(secret), int64(len(secret)))
	require.NoError(t, err)
	o.answers(func(w http.ResponseWriter, r *http.Request) bool { // says yes to everything, and has nothing
		w.Header().Set("Content-Length", strconv.Itoa(len(secret)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(make([]byte, len(secret)))
		}
		return true
	})
	_, err = m.pull(t, d)
	require.Error(t, err)
	require.False(t, m.isKept(t, d))
}

func TestSlowIndexKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	opened := make(chan struct{})
	hung := storetest.Hook{Before: func(ctx context.Context, method string) error {
		if method != "ClaimFetch" {
			return nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	o := newOrigin(t)
	m := newReplica(t, o.URL, storetest.HookMetadata(memory.NewMetadata(nil), hung), memory.NewObjects(nil))
	d := o.push(t, "v1", content("layer", 1<<20)).layerDigest()
	m.mustPull(t, d) // all of it, before it is known who keeps it

	small := newReplica(t, o.URL, storetest.HookMetadata(memory.NewMetadata(nil), hung), memory.NewObjects(nil), func(options *upstream.Options) {
		var err error
		options.Spool, err = upstream.NewSpool(t.TempDir(), 17<<20)
		require.NoError(t, err)
	})
	large := o.push(t, "v2", content("large", 20<<20)).layerDigest()
	small.mustPull(t, large) // though there is no room to wait for it

	close(opened)
	eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
	eventually(t, "it is not kept, and said", func() bool { return small.outcomes()["blob unkept"] == 1 })
	require.False(t, small.isKept(t, large))
}

func TestStoresThatFailDoNotFailAPull(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"index", "objects"} {
		t.Run(failing, func(t *testing.T) {
			t.Parallel()
			fails := storetest.Hook{Before: func(context.Context, string) error { return store.ErrUnavailable }}
			meta, objects := store.Metadata(memory.NewMetadata(nil)), store.Objects(memory.NewObjects(nil))
			if failing == "index" {
				meta = storetest.HookMetadata(meta, fails)
			} else {
				objects = storetest.HookObjects(objects, fails)
			}
			o := newOrigin(t)
			m := newReplica(t, o.URL, meta, objects)
			i := o.push(t, "v1", content("layer", 20<<20))
			for range 2 {
				manifest, err := m.tag(t, "v1")
				require.NoError(t, err)
				require.Equal(t, i.Bytes, manifest.Bytes)
				m.mustPull(t, i.layerDigest())
			}
			eventually(t, "it is counted", func() bool { return m.outcomes()["blob unkept"] >= 1 })
			require.Zero(t, m.outcomes()["blob fetched"])
		})
	}
}

func TestLinkMakesABlobLocal(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	d := o.push(t, "v1", content("layer", 1<<20)).layerDigest()
	require.NoError(t, m.Link(t.Context(), repository, d, "team/app"))
	found, err := m.meta.Content(t.Context(), "team/app", d)
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, found.Size)
	require.ErrorIs(t, m.Link(t.Context(), repository, digest.FromString("none"), "team/app"), registry.ErrBlobUnknown)
}
