package unittest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/examples/unittest"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/memory"
)

// newReleases returns releases in a registry of the test's own. It has no files and no port that another test could have: so
// tests run in parallel.
func newReleases(t *testing.T, r registry.Registry) *unittest.Releases {
	t.Helper()
	server := httptest.NewServer(registry.NewHandler(r, nil))
	t.Cleanup(server.Close)
	return &unittest.Releases{Client: server.Client(), URL: server.URL, Repository: "example/releases"}
}

func newLocal(opts *registry.LocalOptions) *registry.Local {
	return registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), opts)
}

func TestFetchReturnsWhatWasPublishedLast(t *testing.T) {
	t.Parallel()
	releases := newReleases(t, newLocal(nil))
	large := bytes.Repeat([]byte("x"), 1<<20)
	for _, content := range [][]byte{[]byte("first"), []byte("second"), large, {}} {
		require.NoError(t, releases.Publish(t.Context(), "stable", content))
		got, err := releases.Fetch(t.Context(), "stable")
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got), "%d bytes are fetched as they were published", len(content))
	}
}

func TestFetchOfWhatWasNeverPublished(t *testing.T) {
	t.Parallel()
	releases := newReleases(t, newLocal(nil))
	_, err := releases.Fetch(t.Context(), "v1")
	require.ErrorIs(t, err, unittest.ErrNoRelease)
}

// A test can look at, and into, the registry without HTTP.
func TestPublishMakesATaggedArtifactOfOurType(t *testing.T) {
	t.Parallel()
	local := newLocal(nil)
	require.NoError(t, newReleases(t, local).Publish(t.Context(), "v1", []byte("content")))
	tags, err := local.Tags(t.Context(), "example/releases", "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"v1"}, tags)
	stored, err := local.Manifest(t.Context(), "example/releases", registry.Reference{Tag: "v1"})
	require.NoError(t, err)
	var manifest ocispec.Manifest
	require.NoError(t, json.Unmarshal(stored.Bytes, &manifest))
	require.Equal(t, unittest.ArtifactType, manifest.ArtifactType)
}

// A registry can be set up to refuse.
func TestPublishedVersionsAreNotReplacedWhereTagsAreImmutable(t *testing.T) {
	t.Parallel()
	immutable, err := registry.ParseTagPatterns("v*")
	require.NoError(t, err)
	releases := newReleases(t, newLocal(&registry.LocalOptions{Immutable: immutable}))
	require.NoError(t, releases.Publish(t.Context(), "v1", []byte("first")))
	require.ErrorContains(t, releases.Publish(t.Context(), "v1", []byte("second")), "403 Forbidden")
	got, err := releases.Fetch(t.Context(), "v1")
	require.NoError(t, err)
	require.Equal(t, "first", string(got))
}

// losing is a registry that has lost its blobs. It is all that it takes to make one misbehave.
type losing struct {
	registry.Registry
}

func (losing) Blob(context.Context, string, digest.Digest) (registry.Blob, error) {
	return registry.Blob{}, registry.ErrBlobUnknown
}

func TestFetchFailsWhenTheContentIsGone(t *testing.T) {
	t.Parallel()
	releases := newReleases(t, losing{newLocal(nil)})
	require.NoError(t, releases.Publish(t.Context(), "v1", []byte("content")))
	_, err := releases.Fetch(t.Context(), "v1")
	require.ErrorIs(t, err, unittest.ErrNoRelease)
}
