package upstream_test

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
)

func TestPrefetchedImagesCanBePulledWithoutTheUpstream(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	amd, arm := o.push(t, "", content("amd64", 1<<20)), o.push(t, "", content("arm64", 1<<20))
	describe := func(i image, architecture string) ocispec.Descriptor {
		return ocispec.Descriptor{
			MediaType: i.MediaType, Digest: i.digest, Size: int64(len(i.Bytes)), Platform: &ocispec.Platform{OS: "linux", Architecture: architecture},
		}
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{describe(amd, "amd64"), describe(arm, "arm64")},
	})
	require.NoError(t, err)
	_, err = o.registry.PutManifest(t.Context(), repository, registry.ManifestPut{Bytes: index, Tags: []string{"v1"}})
	require.NoError(t, err)

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
	require.Equal(t, digest.FromBytes(index), got.Digest)
	m.mustPull(t, amd.layerDigest())
	m.mustPull(t, digest.FromBytes(amd.config))
	require.False(t, m.isKept(t, arm.layerDigest()), "another platform's")

	o.answers(nil)
	require.NoError(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, nil))
	require.True(t, m.isKept(t, arm.layerDigest()))
	require.ErrorIs(t, m.Prefetch(t.Context(), repository, registry.Reference{Tag: "none"}, nil), registry.ErrManifestUnknown)
}
