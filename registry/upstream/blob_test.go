package upstream_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
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

func TestBlobIsFetchedOnceAndThenKept(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"empty": 0, "inline": 100, "object": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			m := newMirror(t, o.URL)
			d := o.push(t, "v1", content(name, size)).layerDigest()
			m.mustPull(t, d)
			eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
			o.says(http.StatusInternalServerError)
			m.mustPull(t, d)
			found, err := m.StatBlob(t.Context(), repository, d)
			require.NoError(t, err)
			require.EqualValues(t, size, found.Size)
			require.Equal(t, 1, o.asked("GET", d.Encoded()))
		})
	}
}

// gate holds the body of an answer after some bytes, until it is opened.
type gate struct {
	after  int
	opened chan struct{}
	held   chan struct{} // closed when it is held
}

func newGate(after int) *gate {
	return &gate{after: after, opened: make(chan struct{}), held: make(chan struct{})}
}

// hold answers requests for a blob with its bytes, and holds the first of them.
func (g *gate) hold(data []byte) func(http.ResponseWriter, *http.Request) bool {
	var once sync.Once
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, digest.FromBytes(data).Encoded()) || r.Method != http.MethodGet || r.Header.Get("Range") != "" {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:g.after])
		_ = http.NewResponseController(w).Flush()
		once.Do(func() { close(g.held) })
		select {
		case <-g.opened:
		case <-r.Context().Done():
			return true
		}
		_, _ = w.Write(data[g.after:])
		return true
	}
}

func TestManyClientsFollowOneFetchFromItsFirstByteOn(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	layer := content("layer", 2<<20)
	d := o.push(t, "v1", layer).layerDigest()
	g := newGate(1 << 20)
	o.answers(g.hold(layer))
	const clients = 50
	var first, done sync.WaitGroup
	first.Add(clients)
	for range clients {
		done.Go(func() {
			blob, err := m.Blob(t.Context(), repository, d)
			if !assert.NoError(t, err) {
				return
			}
			body, err := blob.Open(t.Context(), 0, -1)
			if !assert.NoError(t, err) {
				return
			}
			defer body.Close()
			var begin [1]byte
			_, err = io.ReadFull(body, begin[:])
			assert.NoError(t, err)
			first.Done()
			rest, err := io.ReadAll(body)
			assert.NoError(t, err)
			assert.Equal(t, d, digest.FromBytes(append(begin[:], rest...)))
		})
	}
	first.Wait() // all have a byte, while the upstream is still sending
	close(g.opened)
	done.Wait()
	eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
	assert.Equal(t, 1, o.asked(d.Encoded()))
	assert.Equal(t, clients-1, m.outcomes()["blob followed"])
}

func TestFetchGoesOnWhenTheFirstClientLeavesAndOthersWait(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	layer := content("layer", 2<<20)
	d := o.push(t, "v1", layer).layerDigest()
	g := newGate(1 << 20)
	o.answers(g.hold(layer))
	ctx, leave := context.WithCancel(t.Context())
	first, err := m.Blob(ctx, repository, d)
	require.NoError(t, err)
	body, err := first.Open(ctx, 0, -1)
	require.NoError(t, err)
	second, err := m.Blob(t.Context(), repository, d)
	require.NoError(t, err)
	leave()
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, body.Close())
	close(g.opened)
	data, err := readAll(t, second)
	require.NoError(t, err)
	require.Equal(t, d, digest.FromBytes(data))
	require.Equal(t, 1, o.asked(d.Encoded()))
}

func TestFetchThatNobodyFollowsEndsAndTheNextTryWorks(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	layer := content("layer", 2<<20)
	d := o.push(t, "v1", layer).layerDigest()
	ended := make(chan struct{})
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, d.Encoded()) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(layer)))
		_, _ = w.Write(layer[:1<<20])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(ended)
		return true
	})
	ctx, leave := context.WithCancel(t.Context())
	_, err := m.Blob(ctx, repository, d)
	require.NoError(t, err)
	leave()
	<-ended
	o.answers(nil)
	m.mustPull(t, d)
}

func TestRangeAheadOfTheFetchIsAskedForByItself(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	layer := content("layer", 8<<20)
	d := o.push(t, "v1", layer).layerDigest()
	g := newGate(1 << 20)
	o.answers(g.hold(layer))
	blob, err := m.Blob(t.Context(), repository, d)
	require.NoError(t, err)
	<-g.held
	for _, part := range [][2]int64{{7 << 20, 100}, {0, 1000}, {8<<20 - 1, 1}} {
		body, err := blob.Open(t.Context(), part[0], part[1])
		require.NoError(t, err)
		data, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		require.Equal(t, layer[part[0]:part[0]+part[1]], data)
	}
	require.Equal(t, 3, o.asked("GET", d.Encoded()), "the fetch, and two parts far ahead of it")
	close(g.opened)
	data, err := readAll(t, blob)
	require.NoError(t, err)
	require.Equal(t, d, digest.FromBytes(data))
}

func TestTransferThatBreaksOffGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	layer := content("layer", 4<<20)
	d := o.push(t, "v1", layer).layerDigest()
	var cuts atomic.Int32
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, d.Encoded()) || cuts.Add(1) > 3 {
			return false
		}
		begin := 0
		if r.Header.Get("Range") != "" {
			_, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &begin)
			assert.NoError(t, err)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", begin, len(layer)-1, len(layer)))
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(layer)-begin))
		if begin > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(layer[begin : begin+1<<19])
		panic(http.ErrAbortHandler)
	})
	m.mustPull(t, d)
	require.EqualValues(t, 4, cuts.Load())
	eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
}

func TestWhatIsFullInTheSpoolIsPassedOnAndKept(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, func(options *upstream.Options) {
		var err error
		options.Spool, err = upstream.NewSpool(t.TempDir(), 1<<20)
		require.NoError(t, err)
	})
	layer := content("layer", 3<<20)
	d := o.push(t, "v1", layer).layerDigest()
	g := newGate(1 << 20)
	o.answers(g.hold(layer))
	first, err := m.Blob(t.Context(), repository, d)
	require.NoError(t, err)
	late := make(chan error, 1)
	go func() {
		_, err := m.pull(t, d)
		late <- err
	}()
	close(g.opened)
	data, err := readAll(t, first)
	require.NoError(t, err)
	require.Equal(t, d, digest.FromBytes(data))
	require.NoError(t, <-late, "who comes late waits until it is kept")
	require.True(t, m.isKept(t, d))
	require.Equal(t, 1, o.asked("GET", d.Encoded()))
}

func TestWhoComesLateIsServedWhenTheFirstNeverReads(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, func(options *upstream.Options) {
		var err error
		options.Spool, err = upstream.NewSpool(t.TempDir(), 1)
		require.NoError(t, err)
	})
	layer := content("layer", 3<<20)
	d := o.push(t, "v1", layer).layerDigest()
	ctx, leave := context.WithCancel(t.Context())
	_, err := m.Blob(ctx, repository, d)
	require.NoError(t, err)
	late := make(chan error, 1)
	go func() {
		_, err := m.pull(t, d)
		late <- err
	}()
	leave()
	require.NoError(t, <-late)
}

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

func TestFirstClientThatLeavesEarlyHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, func(options *upstream.Options) {
		var err error
		options.Spool, err = upstream.NewSpool(t.TempDir(), 1)
		require.NoError(t, err)
	})
	d := o.push(t, "v1", content("layer", 3<<20)).layerDigest()
	opened := make(chan struct{})
	o.answers(func(http.ResponseWriter, *http.Request) bool {
		<-opened
		return false
	})
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := m.Blob(ctx, repository, d)
		first <- err
	}()
	eventually(t, "it is asked for", func() bool { return o.asked(d.Encoded()) == 1 })
	late := make(chan error, 1)
	go func() {
		_, err := m.pull(t, d)
		late <- err
	}()
	leave() // before the answer has begun
	require.ErrorIs(t, <-first, context.Canceled)
	close(opened)
	require.NoError(t, <-late)
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

func TestSizeIsFoundWhereHEADIsRefused(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	d := o.push(t, "v1", content("layer", 12345)).layerDigest()
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
		}
		return r.Method == http.MethodHead
	})
	found, err := m.StatBlob(t.Context(), repository, d)
	require.NoError(t, err)
	require.EqualValues(t, 12345, found.Size)
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
	close(opened)
	eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
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

func TestBlobsAreBlobsOfTheirRepository(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, func(options *upstream.Options) {
		options.Names = upstream.Names{Allow: patterns(t, "library/*")}
	})
	under := m.Under("hub")
	d := o.push(t, "v1", content("layer", 100)).layerDigest()
	_, err := under.StatBlob(t.Context(), "hub/"+repository, d)
	require.NoError(t, err)
	for _, name := range []string{repository, "hub/other/app", "hubble/library/app", "hub"} {
		_, err := under.Blob(t.Context(), name, d)
		require.ErrorIs(t, err, registry.ErrBlobUnknown, name)
		_, err = under.StatBlob(t.Context(), name, d)
		require.ErrorIs(t, err, registry.ErrBlobUnknown, name)
		_, err = under.Manifest(t.Context(), name, registry.Reference{Tag: "v1"})
		require.ErrorIs(t, err, registry.ErrManifestUnknown, name)
		_, err = under.Tags(t.Context(), name, "", 10)
		require.ErrorIs(t, err, registry.ErrNameUnknown, name)
	}
	require.Equal(t, 1, o.asked("/"), "the upstream is not asked for what may not be pulled through")
}

func patterns(t testing.TB, texts ...string) []registry.Pattern {
	t.Helper()
	var all []registry.Pattern
	for _, text := range texts {
		p, err := registry.ParsePattern(text)
		require.NoError(t, err)
		all = append(all, p)
	}
	return all
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
