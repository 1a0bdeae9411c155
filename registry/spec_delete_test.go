package registry_test

import (
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"

	"github.com/ocikit/ocikit/registry"
)

func TestSpec57ATagIsDeletedAndItsManifestStays(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	m := s.image(t, "a", "x")
	s.pushManifest(t, "a", "t", m)
	s.pushManifest(t, "a", "other", m)
	s.send(t, "DELETE", "/v2/a/manifests/t", nil).wants(t, http.StatusAccepted)
	s.send(t, "HEAD", "/v2/a/manifests/t", nil).wants(t, http.StatusNotFound)
	s.send(t, "DELETE", "/v2/a/manifests/t", nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.send(t, "HEAD", "/v2/a/manifests/other", nil).wants(t, http.StatusOK)
	s.send(t, "HEAD", "/v2/a/manifests/"+m.digest().String(), nil).wants(t, http.StatusOK)
}

func TestSpec58AManifestIsDeletedWithItsTagsAndReferrerEntry(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	subject := s.image(t, "a", "subject")
	m := s.image(t, "a", "x", refersTo(subject.descriptor(), "text/plain"))
	s.pushManifest(t, "a", "one", m)
	s.pushManifest(t, "a", "two", m)
	path := "/v2/a/manifests/" + m.digest().String()
	s.send(t, "DELETE", path, nil).wants(t, http.StatusAccepted)
	for _, gone := range []string{path, "/v2/a/manifests/one", "/v2/a/manifests/two"} {
		s.send(t, "HEAD", gone, nil).wants(t, http.StatusNotFound)
	}
	assert.NotContains(t, s.send(t, "GET", "/v2/a/referrers/"+subject.digest().String(), nil).body, m.digest().String())
	s.send(t, "DELETE", path, nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.send(t, "DELETE", "/v2/absent/manifests/"+m.digest().String(), nil).wants(t, http.StatusNotFound)

	child := s.image(t, "a", "child")
	s.pushManifest(t, "a", "", child)
	parent := index(t, nil, child.descriptor())
	s.pushManifest(t, "a", "parent", parent)
	got := s.send(t, "DELETE", "/v2/a/manifests/"+child.digest().String(), nil).wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	assert.Contains(t, got.body, parent.digest().String(), "the index that needs it")
	s.send(t, "DELETE", "/v2/a/manifests/"+parent.digest().String(), nil).wants(t, http.StatusAccepted)
	s.send(t, "DELETE", "/v2/a/manifests/"+child.digest().String(), nil).wants(t, http.StatusAccepted)
}

func TestSpec59And60ABlobIsDeletedFromItsRepository(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	d := s.pushBlob(t, "a", "x").String()
	s.pushBlob(t, "b", "x")
	s.send(t, "DELETE", "/v2/a/blobs/"+d, nil).wants(t, http.StatusAccepted)
	s.send(t, "HEAD", "/v2/a/blobs/"+d, nil).wants(t, http.StatusNotFound)
	s.send(t, "GET", "/v2/a/blobs/"+d, nil).wants(t, http.StatusNotFound, "BLOB_UNKNOWN")
	s.send(t, "DELETE", "/v2/a/blobs/"+d, nil).wants(t, http.StatusNotFound, "BLOB_UNKNOWN")
	s.send(t, "GET", "/v2/b/blobs/"+d, nil).wants(t, http.StatusOK)

	m := s.image(t, "a", "y")
	s.pushManifest(t, "a", "t", m)
	got := s.send(t, "DELETE", blobPath("layer of y"), nil).wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	assert.Contains(t, got.body, m.digest().String(), "the manifest that needs it")
	s.send(t, "DELETE", "/v2/a/manifests/"+m.digest().String(), nil).wants(t, http.StatusAccepted)
	s.send(t, "DELETE", blobPath("layer of y"), nil).wants(t, http.StatusAccepted)
}

func TestSpec57To59DeletingCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	s := serve(t, newLocal(&registry.LocalOptions{NoDelete: true}), nil)
	m := s.image(t, "a", "x", func(m *ocispec.Manifest) { m.Layers = nil })
	s.pushManifest(t, "a", "t", m)
	d := s.pushBlob(t, "a", "alone").String()
	for _, path := range []string{"manifests/t", "manifests/" + m.digest().String(), "blobs/" + d, "blobs/" + digest.FromString("absent").String()} {
		s.send(t, "DELETE", "/v2/a/"+path, nil).wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	}
	location := s.startUpload(t, "a")
	s.send(t, "DELETE", location, nil).wants(t, http.StatusNoContent) // an upload is not content
}

func TestSpec61ANamespaceIsIgnored(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	m := index(t, nil)
	s.pushManifest(t, "a", "t", m)
	s.send(t, "GET", "/v2/a/manifests/t?ns=docker.io", nil).wants(t, http.StatusOK)
}
