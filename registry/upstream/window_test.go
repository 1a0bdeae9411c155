package upstream_test

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry/upstream"
)

// noise returns so many bytes that do not repeat: what is read from a wrong place is seen.
func noise(name string, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(data) // never fails
	return data
}

// spoolOf gives a mirror a spool of so many bytes.
func spoolOf(t testing.TB, budget int64) (*upstream.Spool, func(*upstream.Options)) {
	t.Helper()
	spool, err := upstream.NewSpool(t.TempDir(), budget)
	require.NoError(t, err)
	return spool, func(options *upstream.Options) { options.Spool = spool }
}

func TestClientThatStallsHoldsNobodyUpForLong(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	_, small := spoolOf(t, 20<<20)
	m := newMirror(t, o.URL, small)
	layer := noise("layer", 48<<20)
	d := o.push(t, "v1", layer).layerDigest()
	blob, err := m.Blob(t.Context(), repository, d)
	require.NoError(t, err)
	stalled, err := blob.Open(t.Context(), 0, -1)
	require.NoError(t, err)
	defer stalled.Close()
	sum := sha256.New()
	_, err = io.CopyN(sum, stalled, 1)
	require.NoError(t, err)
	other, err := blob.Open(t.Context(), 0, -1)
	require.NoError(t, err)
	data, err := io.ReadAll(other)
	require.NoError(t, err)
	require.NoError(t, other.Close())
	require.Equal(t, d, digest.FromBytes(data))
	eventually(t, "it is kept", func() bool { return m.isKept(t, d) })
	require.Equal(t, 1, o.asked("GET", d.Encoded()))
	_, err = io.Copy(sum, stalled)
	require.NoError(t, err, "it goes on where it was, with what is kept")
	require.Equal(t, d, digest.NewDigest(digest.SHA256, sum))
	require.Equal(t, 1, o.asked("GET", d.Encoded()))
}

// Whoever was left behind has read the beginning of what turned out wrong: no good end makes that right.
func TestClientThatStallsGetsNothingWrongToItsEnd(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	_, small := spoolOf(t, 20<<20)
	m := newMirror(t, o.URL, small)
	layer := noise("layer", 48<<20)
	d := o.push(t, "v1", layer).layerDigest()
	wrong := slices.Clone(layer)
	wrong[1<<20]++
	var gets atomic.Int64
	rest := make(chan struct{})
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, d.String()) || gets.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(wrong)))
		_, _ = w.Write(wrong[:47<<20])
		_ = http.NewResponseController(w).Flush()
		<-rest
		_, _ = w.Write(wrong[47<<20:])
		return true
	})
	blob, err := m.Blob(t.Context(), repository, d)
	require.NoError(t, err)
	stalled, err := blob.Open(t.Context(), 0, -1)
	require.NoError(t, err)
	defer stalled.Close()
	_, err = io.CopyN(io.Discard, stalled, 1)
	require.NoError(t, err)
	other, err := blob.Open(t.Context(), 0, -1)
	require.NoError(t, err)
	defer other.Close()
	_, err = io.CopyN(io.Discard, other, 46<<20)
	require.NoError(t, err, "it is not held up")
	left := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, stalled)
		left <- err
	}()
	close(rest)
	_, err = io.Copy(io.Discard, other)
	require.Error(t, err)
	require.Error(t, <-left)
	require.False(t, m.isKept(t, d))
}

func TestPartsThatAreNotSpooledAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		budget int64
		asked  int
	}{
		"in a window": {20 << 20, 2}, // for what the window has lost
		"not at all":  {1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			_, small := spoolOf(t, test.budget)
			m := newMirror(t, o.URL, small)
			layer := noise("layer", 36<<20)
			d := o.push(t, "v1", layer).layerDigest()
			g := newGate(20 << 20)
			o.answers(g.hold(layer))
			blob, err := m.Blob(t.Context(), repository, d)
			require.NoError(t, err)
			first, err := blob.Open(t.Context(), 0, -1)
			require.NoError(t, err)
			defer first.Close()
			_, err = io.CopyN(io.Discard, first, 19<<20)
			require.NoError(t, err)
			late, err := m.Blob(t.Context(), repository, d)
			require.NoError(t, err)
			for _, offset := range []int64{1000, 18 << 20} {
				body, err := late.Open(t.Context(), offset, 1000)
				require.NoError(t, err)
				data, err := io.ReadAll(body)
				require.NoError(t, err)
				require.NoError(t, body.Close())
				require.Equal(t, layer[offset:offset+1000], data)
			}
			require.Equal(t, test.asked, o.asked("GET", d.Encoded()))
			close(g.opened)
			_, err = io.Copy(io.Discard, first)
			require.NoError(t, err)
			require.NoError(t, first.Close())
			data, err := readAll(t, late)
			require.NoError(t, err)
			require.Equal(t, d, digest.FromBytes(data))
			require.Equal(t, test.asked, o.asked("GET", d.Encoded()), "who wants all waits until it is kept")
		})
	}
}

func TestWindowGrowsWhenThereIsRoomAgain(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	spool, small := spoolOf(t, 40<<20)
	m := newMirror(t, o.URL, small)
	layers := [][]byte{noise("large", 24<<20), noise("layer", 80<<20)}
	gates := []*gate{newGate(20 << 20), newGate(21 << 20)}
	var digests []digest.Digest
	for _, layer := range layers {
		digests = append(digests, o.push(t, "", layer).layerDigest())
	}
	hold := []func(http.ResponseWriter, *http.Request) bool{gates[0].hold(layers[0]), gates[1].hold(layers[1])}
	o.answers(func(w http.ResponseWriter, r *http.Request) bool { return hold[0](w, r) || hold[1](w, r) })
	open := func(ctx context.Context, d digest.Digest) io.ReadCloser {
		t.Helper()
		blob, err := m.Blob(ctx, repository, d)
		require.NoError(t, err)
		body, err := blob.Open(ctx, 0, -1)
		require.NoError(t, err)
		return body
	}
	ctx, leave := context.WithCancel(t.Context())
	large := open(ctx, digests[0])
	_, err := io.CopyN(io.Discard, large, 19<<20)
	require.NoError(t, err)
	body := open(t.Context(), digests[1])
	sum := sha256.New()
	_, err = io.CopyN(sum, body, 20<<20)
	require.NoError(t, err)
	require.EqualValues(t, 40<<20, spool.Used())

	close(gates[0].opened)
	_, err = io.Copy(io.Discard, large)
	require.NoError(t, err)
	require.NoError(t, large.Close())
	leave()
	eventually(t, "its room is free", func() bool { return spool.Used() == 16<<20 })
	close(gates[1].opened)
	_, err = io.CopyN(sum, body, 50<<20)
	require.NoError(t, err)
	require.EqualValues(t, 32<<20, spool.Used(), "as far as its steps fit")
	_, err = io.Copy(sum, body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, digests[1], digest.NewDigest(digest.SHA256, sum))
	require.Equal(t, 1, o.asked("GET", digests[1].Encoded()))
}
