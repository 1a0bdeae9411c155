package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

const acceptedTypes = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, " +
	"application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"

// registry reads a registry with nothing but net/http: what the clients pushed
// is judged by somebody who shares no code with them.
type registry struct {
	url            string
	user, password string
}

// get returns the content at a path below /v2/ and its media type.
func (r *registry) get(t *testing.T, path string) (content []byte, mediaType string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/v2/"+path, nil)
	require.NoError(t, err)
	req.Header.Set("Accept", acceptedTypes)
	if r.user != "" {
		req.SetBasicAuth(r.user, r.password)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	content, err = io.ReadAll(resp.Body)
	require.NoError(t, err, "GET %s", path)
	require.Equal(t, http.StatusOK, resp.StatusCode, "GET %s: %s", path, content)
	return content, resp.Header.Get("Content-Type")
}

// references is what manifests and indexes refer to, in one shape.
type references struct {
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

// requireWhole reads an image or index with all that it refers to, compares
// every digest and size, and returns it as a tree.
func (r *registry) requireWhole(t *testing.T, repository, reference string) *imagetest.Tree {
	t.Helper()
	content, mediaType := r.get(t, repository+"/manifests/"+reference)
	tree := &imagetest.Tree{
		Root: ocispec.Descriptor{
			MediaType: mediaType,
			Digest:    digest.FromBytes(content),
			Size:      int64(len(content)),
		},
		Content: map[imagetest.Digest][]byte{},
	}
	r.walk(t, repository, tree, tree.Root)
	return tree
}

func (r *registry) walk(t *testing.T, repository string, tree *imagetest.Tree, manifest ocispec.Descriptor) {
	t.Helper()
	content, mediaType := r.get(t, repository+"/manifests/"+manifest.Digest.String())
	requireContent(t, manifest, content)
	require.Equal(t, manifest.MediaType, mediaType, "the media type of %s", manifest.Digest)
	tree.Content[manifest.Digest] = content
	var children references
	require.NoError(t, json.Unmarshal(content, &children), "manifest %s: %s", manifest.Digest, content)
	blobs := children.Layers
	if children.Config != nil {
		blobs = append(blobs, *children.Config)
	}
	for _, blob := range blobs {
		content, _ := r.get(t, repository+"/blobs/"+blob.Digest.String())
		requireContent(t, blob, content)
		tree.Content[blob.Digest] = content
	}
	for _, child := range children.Manifests {
		r.walk(t, repository, tree, child)
	}
}

func requireContent(t *testing.T, want ocispec.Descriptor, content []byte) {
	t.Helper()
	require.Equal(t, want.Size, int64(len(content)), "the size of %s", want.Digest)
	require.Equal(t, want.Digest, want.Digest.Algorithm().FromBytes(content), "the digest of what the registry keeps under this one")
}

// requireTree requires that the registry has exactly the given tree.
func (r *registry) requireTree(t *testing.T, repository, reference string, want *imagetest.Tree) {
	t.Helper()
	requireSameTree(t, want, r.requireWhole(t, repository, reference))
}

// requireLayout requires that an OCI layout, which a client wrote, has exactly
// the given tree as its one image, or under the tag v1.
func requireLayout(t *testing.T, folder string, want *imagetest.Tree) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, ocispec.ImageIndexFile))
	require.NoError(t, err)
	var index ocispec.Index
	require.NoError(t, json.Unmarshal(content, &index))
	roots := index.Manifests
	if len(roots) > 1 { // oras lists the children of an index too, without a tag
		roots = slices.DeleteFunc(roots, func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationRefName] != "v1" })
	}
	require.Len(t, roots, 1, "the images of the layout that have the tag: %s", content)
	got := &imagetest.Tree{Root: roots[0], Content: map[imagetest.Digest][]byte{}}
	for name := range want.Content {
		path := filepath.Join(folder, ocispec.ImageBlobsDir, name.Algorithm().String(), name.Encoded())
		got.Content[name], err = os.ReadFile(path)
		require.NoError(t, err)
	}
	requireSameTree(t, want, got)
}

func requireSameTree(t *testing.T, want, got *imagetest.Tree) {
	t.Helper()
	require.Equal(t, want.Root.Digest, got.Root.Digest, "the digest of the root")
	require.Equal(t, want.Root.Size, got.Root.Size, "the size of the root")
	require.Equal(t, want.Root.MediaType, got.Root.MediaType, "the media type of the root")
	var differences []string
	for name, content := range want.Content {
		if other, ok := got.Content[name]; !ok {
			differences = append(differences, fmt.Sprintf("%s is missing", name))
		} else if !bytes.Equal(content, other) {
			differences = append(differences, fmt.Sprintf("%s has other bytes", name))
		}
	}
	require.Empty(t, differences, strings.Join(differences, "\n"))
	require.Len(t, got.Content, len(want.Content), "the number of manifests, configurations and layers")
}
