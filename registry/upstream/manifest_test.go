package upstream_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

// always has tags confirmed whenever they are asked for.
func always(options *upstream.Options) { options.TagAge = -1 }

func TestManifestsByDigestAreAskedForOnce(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	i := o.push(t, "v1", []byte("layer"))
	for range 3 {
		got, err := m.Manifest(t.Context(), repository, registry.Reference{Digest: i.digest})
		require.NoError(t, err)
		require.Equal(t, i.Bytes, got.Bytes)
		require.Equal(t, i.MediaType, got.MediaType)
	}
	require.Equal(t, 1, o.asked("manifests"))
	require.Equal(t, map[string]int{"manifest fetched": 1, "manifest kept": 2}, m.outcomes())
}

func TestFreshTagsAreNotAskedForAndOldOnesAreConfirmedByHEAD(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	meta := memory.NewMetadata(nil)
	fresh, old := newReplica(t, o.URL, meta, memory.NewObjects(nil)), newReplica(t, o.URL, meta, memory.NewObjects(nil), always)
	i := o.push(t, "v1", []byte("one"))
	_, err := fresh.tag(t, "v1")
	require.NoError(t, err)
	_, err = fresh.tag(t, "v1")
	require.NoError(t, err)
	require.Equal(t, 1, o.asked("manifests"))

	got, err := old.tag(t, "v1")
	require.NoError(t, err)
	require.Equal(t, i.digest, got.Digest)
	require.Equal(t, 1, o.asked("GET", "manifests"))
	require.Equal(t, 1, o.asked("HEAD", "manifests"), "an old tag costs a HEAD")

	moved := o.push(t, "v1", []byte("two"))
	got, err = old.tag(t, "v1")
	require.NoError(t, err)
	require.Equal(t, moved.digest, got.Digest)
	got, err = fresh.tag(t, "v1")
	require.NoError(t, err)
	require.Equal(t, moved.digest, got.Digest, "what one replica has seen, the others see")

	_, err = o.registry.PutManifest(t.Context(), repository, i.ManifestPut) // back
	require.NoError(t, err)
	o.forget()
	got, err = old.tag(t, "v1")
	require.NoError(t, err)
	require.Equal(t, i.digest, got.Digest)
	require.Zero(t, o.asked("GET"), "what is kept is not fetched again")
}

func TestLastKnownTagIsServedWithAWarningWhileTheUpstreamFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(o *origin){
		"down":    func(o *origin) { o.Close() },
		"error":   func(o *origin) { o.says(http.StatusInternalServerError) },
		"limited": func(o *origin) { o.says(http.StatusTooManyRequests, "Retry-After: 60") },
		"garbage": func(o *origin) { o.says(http.StatusTeapot) },
		"slow": func(o *origin) {
			o.answers(func(_ http.ResponseWriter, r *http.Request) bool {
				<-r.Context().Done()
				return true
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
			i := o.push(t, "v1", []byte("layer"))
			m := newReplica(t, o.URL, meta, objects, always, func(options *upstream.Options) { options.ConfirmTimeout = 200 * time.Millisecond })
			_, err := m.tag(t, "v1")
			require.NoError(t, err)
			fail(o)
			for range 2 {
				got, err := m.tag(t, "v1")
				require.NoError(t, err)
				require.Equal(t, i.Bytes, got.Bytes)
				require.Contains(t, got.Warning, "does not answer")
			}
			require.Equal(t, 2, m.outcomes()["manifest stale"])

			strict := newReplica(t, o.URL, meta, objects, always, func(options *upstream.Options) {
				options.StaleAge, options.ConfirmTimeout = -1, 200*time.Millisecond
			})
			_, err = strict.tag(t, "v1")
			require.Error(t, err, "unless that is not wanted")
		})
	}
}

func TestUpstreamThatRefusesHasAnswered(t *testing.T) {
	t.Parallel()
	for _, answer := range [][]string{{"403"}, {"401", `Www-Authenticate: Basic realm="x"`}} {
		o := newOrigin(t)
		m := newMirror(t, o.URL, always)
		o.push(t, "v1", []byte("layer"))
		_, err := m.tag(t, "v1")
		require.NoError(t, err)
		status, err := strconv.Atoi(answer[0])
		require.NoError(t, err)
		o.says(status, answer[1:]...)
		_, err = m.tag(t, "v1")
		require.ErrorIs(t, err, registry.ErrDenied, "what may not be pulled any more is not served as it was")
		o.forget()
		for range 3 {
			_, err = m.Manifest(t.Context(), repository, registry.Reference{Tag: "v2"})
			require.ErrorIs(t, err, registry.ErrDenied)
		}
		require.Equal(t, 1, o.asked("manifests"), "a refusal is remembered for a while")
	}
}

func TestTokenServerThatLimitsIsLeftAlone(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]error{http.StatusTooManyRequests: registry.ErrTooManyRequests, http.StatusUnauthorized: registry.ErrDenied} {
		o := newOrigin(t)
		m := newMirror(t, o.URL)
		o.answers(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				w.WriteHeader(status)
				return true
			}
			w.Header().Set("Www-Authenticate", `Bearer realm="`+o.URL+`/token",service="origin"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		})
		for range 3 {
			_, err := m.tag(t, "v1")
			require.ErrorIs(t, err, want)
		}
		require.Equal(t, 1, o.asked("/token"))
	}
}

func TestUpstreamThatLimitsIsLeftAlone(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, always)
	i := o.push(t, "v1", []byte("layer"))
	_, err := m.tag(t, "v1")
	require.NoError(t, err)
	o.says(http.StatusTooManyRequests, "Retry-After: 77")
	o.forget()
	for range 3 {
		_, err = m.tag(t, "v1")
		require.NoError(t, err)
		_, err = m.Manifest(t.Context(), repository, registry.Reference{Tag: "v2"})
		var retry *registry.RetryError
		require.ErrorAs(t, err, &retry)
		require.ErrorIs(t, err, registry.ErrTooManyRequests)
		require.Greater(t, retry.After, 70*time.Second, "clients are told for how long")
		_, err = m.Blob(t.Context(), repository, i.layerDigest())
		require.ErrorIs(t, err, registry.ErrTooManyRequests)
	}
	require.Equal(t, 1, o.asked("/"), "one answer is enough")
}

func TestMissingIsRememberedForAWhile(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	m := newReplica(t, o.URL, meta, objects)
	eager := newReplica(t, o.URL, meta, objects, func(options *upstream.Options) { options.MissingAge = -1 })
	d := digest.FromString("none")
	for _, r := range []*mirror{m, eager} {
		o.forget()
		for range 3 {
			_, err := r.tag(t, "none")
			require.ErrorIs(t, err, registry.ErrManifestUnknown)
			_, err = r.Manifest(t.Context(), repository, registry.Reference{Digest: d})
			require.ErrorIs(t, err, registry.ErrManifestUnknown)
			_, err = r.Blob(t.Context(), repository, d)
			require.ErrorIs(t, err, registry.ErrBlobUnknown)
			_, err = r.StatBlob(t.Context(), repository, d)
			require.ErrorIs(t, err, registry.ErrBlobUnknown)
		}
		if r == m {
			require.Equal(t, 3, o.asked("/"), "a tag, a manifest and a blob, once each")
		} else {
			require.Equal(t, 12, o.asked("/"))
		}
	}
}

func TestTagThatIsGoneUpstreamIsGoneHere(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, always)
	i := o.push(t, "v1", []byte("layer"))
	_, err := m.tag(t, "v1")
	require.NoError(t, err)
	require.NoError(t, o.registry.DeleteTag(t.Context(), repository, "v1"))
	_, err = m.tag(t, "v1")
	require.ErrorIs(t, err, registry.ErrManifestUnknown)
	o.says(http.StatusInternalServerError)
	_, err = m.tag(t, "v1")
	require.Error(t, err, "it is not served when the upstream fails afterwards")
	_, err = m.Manifest(t.Context(), repository, registry.Reference{Digest: i.digest})
	require.NoError(t, err, "by its digest it can be pulled as long as it is kept")
}

func TestManyWhoAskForATagAtOnceCostOneRequest(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	i := o.push(t, "v1", []byte("layer"))
	opened := make(chan struct{})
	o.answers(func(http.ResponseWriter, *http.Request) bool {
		<-opened
		return false
	})
	var done sync.WaitGroup
	for range 50 {
		done.Go(func() {
			got, err := m.tag(t, "v1")
			assert.NoError(t, err)
			assert.Equal(t, i.digest, got.Digest)
		})
	}
	eventually(t, "it is asked", func() bool { return o.asked("manifests") == 1 })
	close(opened)
	done.Wait()
	require.Equal(t, 1, o.asked("manifests"))
}

func TestTypesComeAsTheUpstreamSaysOrTheManifestDoes(t *testing.T) {
	t.Parallel()
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{}})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		sent string
		body []byte
		want string
	}{
		"as it is":   {ocispec.MediaTypeImageIndex, index, ocispec.MediaTypeImageIndex},
		"parameters": {ocispec.MediaTypeImageIndex + "; charset=utf-8", index, ocispec.MediaTypeImageIndex},
		"none":       {"", index, ocispec.MediaTypeImageIndex},
		"wrong":      {"application/octet-stream", index, ocispec.MediaTypeImageIndex},
		"too long":   {"application/" + strings.Repeat("x", 300) + "index", index, ocispec.MediaTypeImageIndex},
		"unknown":    {"application/vnd.example.manifest.v9+json", []byte("anything"), "application/vnd.example.manifest.v9+json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			m := newMirror(t, o.URL)
			o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header()["Content-Type"] = []string{test.sent}
				_, _ = w.Write(test.body)
				return true
			})
			got, err := m.tag(t, "v1")
			require.NoError(t, err)
			require.Equal(t, test.want, got.MediaType)
			require.Equal(t, digest.FromBytes(test.body), got.Digest)
			require.Equal(t, test.body, got.Bytes)
		})
	}
}

func TestWhatManifestsReferToIsKeptForThem(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	i := o.push(t, "v1", content("layer", 1<<20))
	_, err := m.tag(t, "v1")
	require.NoError(t, err)
	require.NoError(t, m.Link(t.Context(), repository, i.layerDigest(), "team/app")) // waits until it is kept
	require.NoError(t, m.meta.DeleteContent(t.Context(), "team/app", i.layerDigest()))
	reviewed, err := m.meta.ReviewCandidates(t.Context(), store.Review{Limit: 100})
	require.NoError(t, err)
	require.Zero(t, reviewed.Contents, "a collector leaves what a kept manifest refers to, though it came later")
	require.True(t, m.isKept(t, i.layerDigest()))
	require.True(t, bytes.Equal(i.layer, content("layer", 1<<20)))
}
