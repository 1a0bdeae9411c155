package upstream_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
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

func TestFirstBytesAreSentWhileTheUpstreamStalls(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	layer := content("layer", 1<<20)
	d := o.push(t, "v1", layer).layerDigest()
	g := newGate(10) // fewer than any buffer holds
	o.answers(g.hold(layer))
	resp, err := http.Get(newMirror(t, o.URL).serve(t) + "/v2/" + repository + "/blobs/" + d.String())
	require.NoError(t, err)
	defer resp.Body.Close()
	var begin [10]byte
	_, err = io.ReadFull(resp.Body, begin[:])
	require.NoError(t, err)
	require.Equal(t, layer[:10], begin[:])
	close(g.opened)
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, d, digest.FromBytes(append(begin[:], rest...)))
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
	body, err := blob.Open(t.Context(), 6<<20, 1<<20)
	require.NoError(t, err)
	_, err = io.ReadFull(body, make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, body.Close())
	var came []int64
	m.mu.Lock()
	for _, e := range m.events {
		if e.Outcome == upstream.Passed {
			came = append(came, e.Bytes)
		}
	}
	m.mu.Unlock()
	require.Equal(t, []int64{100, 1, 1000}, came, "bytes are counted that have come")
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

func TestRoomInTheSpoolIsTakenForWhatComes(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	var spool *upstream.Spool
	m := newMirror(t, o.URL, func(options *upstream.Options) { spool = options.Spool })
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", strconv.Itoa(4<<30)) // as much as there is room for
		_, _ = w.Write([]byte("x"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	_, err := m.Blob(ctx, repository, digest.FromString("tiny"))
	require.NoError(t, err)
	require.Positive(t, spool.Used())
	require.LessOrEqual(t, spool.Used(), int64(16<<20))
}

func TestWhatOutgrowsTheSpoolGoesOnInTheRoomThatItHas(t *testing.T) {
	t.Parallel()
	const budget = 20 << 20
	o := newOrigin(t)
	var spool *upstream.Spool
	m := newMirror(t, o.URL, func(options *upstream.Options) {
		var err error
		spool, err = upstream.NewSpool(t.TempDir(), budget)
		require.NoError(t, err)
		options.Spool = spool
	})
	layer := noise("layer", 36<<20)
	d := o.push(t, "v1", layer).layerDigest()
	g := newGate(1 << 20)
	o.answers(g.hold(layer))
	var blobs [4]registry.Blob
	for i := range blobs {
		var err error
		blobs[i], err = m.Blob(t.Context(), repository, d)
		require.NoError(t, err)
	}
	<-g.held
	fast, err := blobs[0].Open(t.Context(), 0, -1)
	require.NoError(t, err)
	slow, err := blobs[1].Open(t.Context(), 0, -1)
	require.NoError(t, err)
	leaves, err := blobs[2].Open(t.Context(), 0, -1)
	require.NoError(t, err)
	close(g.opened)

	read := func(body io.Reader, sum hash.Hash, n int64) {
		t.Helper()
		_, err := io.CopyN(sum, body, n)
		require.NoError(t, err)
		require.LessOrEqual(t, spool.Used(), int64(budget))
	}
	fastSum, slowSum := sha256.New(), sha256.New()
	read(fast, fastSum, 10<<20)
	read(slow, slowSum, 9<<20)
	require.NoError(t, leaves.Close()) // whoever leaves holds nobody up
	read(fast, fastSum, 14<<20)        // what the slow one has read is written over
	late := make(chan error, 2)
	go func() {
		_, err := readAll(t, blobs[3]) // who opens it late
		late <- err
	}()
	go func() {
		_, err := m.pull(t, d) // or comes late
		late <- err
	}()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(fastSum, fast)
		done <- errors.Join(err, fast.Close())
	}()
	_, err = io.Copy(slowSum, slow)
	require.NoError(t, err)
	require.NoError(t, slow.Close())
	require.NoError(t, <-done)
	for _, sum := range []hash.Hash{fastSum, slowSum} {
		require.Equal(t, d, digest.NewDigest(digest.SHA256, sum))
	}
	for range cap(late) {
		require.NoError(t, <-late, "they wait until it is kept")
	}
	require.Equal(t, 1, o.asked("GET", d.Encoded()))
	m.mustPull(t, d)
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
	require.Equal(t, map[string]int{"blob passed": 1}, m.outcomes(), "it is counted")
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
