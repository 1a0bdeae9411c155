package imagetest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newSmallImage(t *testing.T) *imagetest.Image {
	t.Helper()
	image, err := imagetest.NewImage(imagetest.Options{LargeSize: 1 << 10})
	require.NoError(t, err)
	return image
}

func TestImagesOfTheSameOptionsHaveTheSameDigest(t *testing.T) {
	t.Parallel()
	first, second := newSmallImage(t), newSmallImage(t)
	assert.Equal(t, first.Root.Digest, second.Root.Digest)
}

func TestLargeLayerIsBeyond20MBAsItIsPushed(t *testing.T) {
	t.Parallel()
	image, err := imagetest.NewImage(imagetest.Options{})
	require.NoError(t, err)
	largest := 0
	for _, content := range image.Content {
		largest = max(largest, len(content))
	}
	assert.Greater(t, largest, 20_000_000, "the compressed size of the largest layer, in bytes")
}

func TestDescriptorsTellTheContentThatTheyName(t *testing.T) {
	t.Parallel()
	image := newSmallImage(t)
	var manifest ocispec.Manifest
	require.NoError(t, json.Unmarshal(image.Content[image.Root.Digest], &manifest))
	var config ocispec.Image
	require.NoError(t, json.Unmarshal(image.Content[manifest.Config.Digest], &config))
	require.Len(t, manifest.Layers, len(image.Files), "a layer for each file")
	require.Len(t, config.RootFS.DiffIDs, len(manifest.Layers), "a digest for each layer's archive")
	for i, layer := range manifest.Layers {
		content := image.Content[layer.Digest]
		require.Equal(t, layer.Size, int64(len(content)))
		require.Equal(t, layer.Digest, digest.FromBytes(content))
		z, err := gzip.NewReader(bytes.NewReader(content))
		require.NoError(t, err)
		archive, err := io.ReadAll(z)
		require.NoError(t, err)
		require.Equal(t, config.RootFS.DiffIDs[i], digest.FromBytes(archive), "the digest of layer %d before compression", i)
		file, err := tar.NewReader(bytes.NewReader(archive)).Next()
		require.NoError(t, err)
		require.Equal(t, image.Files[i].Path, file.Name)
	}
}

func TestIndexHoldsTheImagesWithTheirPlatforms(t *testing.T) {
	t.Parallel()
	image := newSmallImage(t)
	tree, err := imagetest.NewIndex(image)
	require.NoError(t, err)
	var index ocispec.Index
	require.NoError(t, json.Unmarshal(tree.Content[tree.Root.Digest], &index))
	require.Equal(t, []ocispec.Descriptor{image.Root}, index.Manifests)
	require.Len(t, tree.Content, len(image.Content)+1, "the image's content, and the index")
}

func TestLayoutAndArchiveHoldTheWholeTree(t *testing.T) {
	t.Parallel()
	image := newSmallImage(t)
	folder := t.TempDir()
	require.NoError(t, image.WriteLayout(filepath.Join(folder, "layout"), "v1"))
	for name, content := range image.Content {
		got, err := os.ReadFile(filepath.Join(folder, "layout", "blobs", "sha256", name.Encoded()))
		require.NoError(t, err)
		require.Equal(t, content, got)
	}

	archive := filepath.Join(folder, "archive.tar")
	require.NoError(t, image.WriteArchive(archive, "v1", "registry.example.com/team/app:v1"))
	f, err := os.Open(archive)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	files := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		files[header.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	require.Len(t, files, len(image.Content)+2, "the content, the index and the layout's version")
	require.Contains(t, string(files["index.json"]), "registry.example.com/team/app:v1")
}
