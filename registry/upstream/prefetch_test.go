package upstream_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store/memory"
)

func TestPrefetchedImagesCanBePulledWithoutTheUpstream(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	amd, arm := o.push(t, "", content("amd64", 1<<20)), o.push(t, "", content("arm64", 1<<20))
	index := o.index(t, "v1", describe(amd, "amd64"), describe(arm, "arm64"))

	var mu sync.Mutex
	var last upstream.Progress
	require.NoError(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, &upstream.PrefetchOptions{
		Platforms: []string{"linux/amd64"}, Progress: func(p upstream.Progress) {
			mu.Lock()
			defer mu.Unlock()
			last = upstream.Progress{
				Blobs: max(last.Blobs, p.Blobs), AllBlobs: p.AllBlobs, Bytes: max(last.Bytes, p.Bytes), AllBytes: p.AllBytes,
			}
		},
	}))
	all := int64(len(amd.layer) + len(amd.config))
	require.Equal(t, upstream.Progress{Blobs: 2, AllBlobs: 2, Bytes: all, AllBytes: all}, last)
	o.says(http.StatusInternalServerError)
	got, err := m.tag(t, "v1")
	require.NoError(t, err)
	require.Equal(t, index, got.Digest)
	m.mustPull(t, amd.layerDigest())
	m.mustPull(t, digest.FromBytes(amd.config))
	require.False(t, m.isKept(t, arm.layerDigest()), "another platform's")

	o.answers(nil)
	require.NoError(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, nil))
	require.True(t, m.isKept(t, arm.layerDigest()))
	require.ErrorIs(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "none"}, nil), registry.ErrManifestUnknown)
}

// describe describes an image for a Linux of some architecture, with a variant after a slash.
func describe(i image, architecture string) ocispec.Descriptor {
	architecture, variant, _ := strings.Cut(architecture, "/")
	return ocispec.Descriptor{
		MediaType: i.MediaType, Digest: i.digest, Size: int64(len(i.Bytes)),
		Platform: &ocispec.Platform{OS: "linux", Architecture: architecture, Variant: variant},
	}
}

// index pushes an index, whose manifests need not be there.
func (o *origin) index(t testing.TB, tag string, manifests ...ocispec.Descriptor) digest.Digest {
	t.Helper()
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
	})
	require.NoError(t, err)
	receipt, err := o.registry.PutManifest(t.Context(), repository, registry.ManifestPut{Bytes: index, Tags: []string{tag}})
	require.NoError(t, err)
	return receipt.Digest
}

func TestPrefetchOfAPlatformThatIsNotThereSaysWhichAre(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	amd, arm := o.push(t, "", content("amd64", 1000)), o.push(t, "single", content("arm64", 1000))
	o.index(t, "v1", describe(amd, "amd64"), describe(arm, "arm64/v8"))
	for name, test := range map[string]struct {
		platforms []string
		want      string
		kept      []image
	}{
		"wrong":        {[]string{"linux/amd65"}, `platform "linux/amd65": want one of ["linux/amd64" "linux/arm64/v8"]`, nil},
		"one of two":   {[]string{"linux/amd64", "linux/arm"}, `platform "linux/arm"`, nil},
		"another one":  {[]string{"linux/arm64/v7"}, `platform "linux/arm64/v7"`, nil},
		"right":        {[]string{"linux/amd64"}, "", []image{amd}},
		"any variant":  {[]string{"linux/arm64"}, "", []image{arm}},
		"with variant": {[]string{"linux/arm64/v8", "linux/amd64"}, "", []image{amd, arm}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, o.URL)
			err := m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, &upstream.PrefetchOptions{Platforms: test.platforms})
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				require.NotErrorIs(t, err, registry.ErrManifestUnknown)
			} else {
				require.NoError(t, err)
			}
			for _, i := range []image{amd, arm} {
				require.Equal(t, slices.ContainsFunc(test.kept, func(k image) bool { return k.digest == i.digest }), m.isKept(t, i.layerDigest()))
			}
			require.NoError(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "single"}, &upstream.PrefetchOptions{Platforms: test.platforms}),
				"what is one image has no platforms")
		})
	}
}

func TestPrefetchGoesOnWithoutWhatASparseIndexLists(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	here := o.push(t, "", content("here", 1000))
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: here.layerDigest(), Size: 1000}
	gone, goneLayer, attestation := describe(here, "arm64"), layer, describe(here, "unknown")
	gone.Digest, goneLayer.Digest, attestation.Digest = digest.FromString("gone"), digest.FromString("gone, too"), digest.FromString("attestation")
	attestation.Platform.OS = "unknown"
	local := registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), &registry.LocalOptions{AllowMissing: true})
	handler := registry.NewHandler(local, nil)
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/v1") || strings.HasSuffix(r.URL.Path, "/manifests/none") {
			handler.ServeHTTP(w, r)
			return true
		}
		return false
	})
	sparse := &origin{registry: local}
	sparse.index(t, "v1", describe(here, "amd64"), layer, gone, goneLayer, attestation)
	sparse.index(t, "none", gone, goneLayer)

	var log strings.Builder
	m := newMirror(t, o.URL, func(options *upstream.Options) { options.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	var missing atomic.Int64
	opts := &upstream.PrefetchOptions{Progress: func(p upstream.Progress) { missing.Store(max(missing.Load(), int64(p.Missing))) }}
	require.NoError(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, opts))
	require.True(t, m.isKept(t, here.layerDigest()))
	require.EqualValues(t, 3, missing.Load())
	require.Contains(t, log.String(), gone.Digest)
	require.Contains(t, log.String(), goneLayer.Digest)

	require.ErrorIs(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "none"}, nil), registry.ErrManifestUnknown, "nothing came at all")
	opts.Platforms = []string{"linux/amd64"}
	require.NoError(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, opts), "what is for no platform may be missing")
	opts.Platforms = []string{"linux/arm64"}
	require.ErrorIs(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, opts), registry.ErrManifestUnknown, "it was asked for")
}

// odd are manifests of types that nobody knows, with references that are none.
var odd = map[string]string{
	"no digest":          `{"manifests":[{"digest":"nonsense"}],"layers":[{"digest":"nonsense"}],"config":{"digest":"nonsense"}}`,
	"a path":             `{"manifests":[{"digest":"sha256:../../../other/manifests/latest"}]}`,
	"another algorithm":  `{"manifests":[{"digest":"sha384:` + strings.Repeat("0", 96) + `"}],"layers":[{"digest":"md5:0"}]}`,
	"other forms":        `{"manifests":{"digest":1},"layers":"x","config":[]}`,
	"entries of others":  `{"manifests":[1,null,"x",[]],"layers":[{"digest":{}}],"config":null}`,
	"no document":        `{"manifests":[{"dig`,
	"millions of layers": `{"layers":[` + strings.Repeat(`{},`, 1_000_000) + `{}]}`,
}

// Not parallel: it counts what is allocated.
func TestPrefetchFollowsNothingThatIsNoReference(t *testing.T) {
	for name, manifest := range odd {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", "application/vnd.example.manifest.v1+json")
				_, _ = io.WriteString(w, manifest)
				return true
			})
			m := newMirror(t, o.URL)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, nil)
			runtime.ReadMemStats(&after)
			if name == "millions of layers" {
				require.ErrorContains(t, err, "more manifests or blobs")
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, 1, o.asked("/"))
			require.Less(t, (after.TotalAlloc-before.TotalAlloc)>>20, uint64(150), "MiB allocated")
		})
	}
}

func TestWhatNothingCanBeCalledIsNotAskedFor(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = io.WriteString(w, "x")
		return true
	})
	m := newMirror(t, o.URL)
	for _, d := range []digest.Digest{"", "nonsense", "sha256:", "sha256:../../other", "md5:00", "sha384:" + digest.Digest(strings.Repeat("0", 96))} {
		_, err := m.Blob(t.Context(), repository, d)
		require.ErrorIs(t, err, registry.ErrBlobUnknown)
		_, err = m.StatBlob(t.Context(), repository, d)
		require.ErrorIs(t, err, registry.ErrBlobUnknown)
		require.ErrorIs(t, m.Link(t.Context(), repository, d, "team/app"), registry.ErrBlobUnknown)
		_, err = m.Manifest(t.Context(), repository, registry.Reference{Digest: d})
		require.ErrorIs(t, err, registry.ErrManifestUnknown)
		found, err := m.Referrers(t.Context(), repository, d, registry.ReferrersPage{Limit: 1})
		require.NoError(t, err)
		require.Empty(t, found)
	}
	for _, tag := range []string{"../../other/manifests/latest", "a b", "-", "x?y"} {
		require.ErrorIs(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: tag}, nil), registry.ErrManifestUnknown)
	}
	require.Zero(t, o.asked("/"))
}
