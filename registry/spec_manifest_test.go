package registry_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"

	"github.com/ocikit/ocikit/registry"
)

func putManifest(t testing.TB, s *server, reference string, m manifest) reply {
	t.Helper()
	return s.send(t, "PUT", "/v2/a/manifests/"+reference, m.body, "Content-Type: "+m.mediaType)
}

func TestSpec38AManifestIsPushedByTagAndByDigest(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	m := s.image(t, "a", "x")
	sha512 := digest.SHA512.FromString(m.body).String()
	for reference, d := range map[string]string{"t": m.digest().String(), m.digest().String(): m.digest().String(), sha512: sha512} {
		got := putManifest(t, s, reference, m).wants(t, http.StatusCreated)
		assert.Equal(t, d, got.header.Get("Docker-Content-Digest"))
		assert.Zero(t, got.length)
		assert.Empty(t, got.header.Get("Oci-Tag"))
		assert.Empty(t, got.header.Get("Oci-Subject"))
		assert.Equal(t, m.body, s.send(t, "GET", got.header.Get("Location"), nil).wants(t, http.StatusOK).body)
	}
}

func TestSpec39ManifestsUpTo4MiBAreTaken(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	sized := func(size int) manifest {
		empty := index(t, func(x *ocispec.Index) { x.Annotations = map[string]string{"pad": ""} })
		return index(t, func(x *ocispec.Index) {
			x.Annotations = map[string]string{"pad": strings.Repeat("x", size-len(empty.body))}
		})
	}
	putManifest(t, s, "t", sized(4<<20)).wants(t, http.StatusCreated)
	large := sized(4<<20 + 1)
	putManifest(t, s, "t", large).wants(t, http.StatusRequestEntityTooLarge, "TOO_LARGE")
	s.send(t, "PUT", "/v2/a/manifests/t", streamOf(large.body), "Content-Type: "+large.mediaType).wants(t, http.StatusRequestEntityTooLarge, "TOO_LARGE")

	small := serve(t, newLocal(nil), &registry.HandlerOptions{MaxManifest: 100})
	putManifest(t, small, "t", sized(200)).wants(t, http.StatusRequestEntityTooLarge, "TOO_LARGE")
}

func TestSpec40TheMediaTypeIsTheHeadersOrTheBodys(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	image := s.image(t, "a", "x")
	s.send(t, "PUT", "/v2/a/manifests/t", image.body, "Content-Type: ").wants(t, http.StatusCreated)
	assert.Equal(t, typeManifest, s.send(t, "HEAD", "/v2/a/manifests/t", nil).header.Get("Content-Type"))
	s.send(t, "PUT", "/v2/a/manifests/t", image.body, "Content-Type: "+typeIndex).wants(t, http.StatusBadRequest, "MANIFEST_INVALID")
	shape := `{"schemaVersion":2,"manifests":[]}`
	s.send(t, "PUT", "/v2/a/manifests/shape", shape).wants(t, http.StatusCreated)
	assert.Equal(t, typeIndex, s.send(t, "HEAD", "/v2/a/manifests/shape", nil).header.Get("Content-Type"))
}

func TestSpec41ManifestsThatAreNotOne(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	image := s.image(t, "a", "x").body
	for name, m := range map[string]manifest{
		"NotJSON":       {typeManifest, "x"},
		"Empty":         {typeManifest, ""},
		"Array":         {typeManifest, "[]"},
		"Trailing":      {typeManifest, image + "{}"},
		"SchemaVersion": {typeManifest, strings.Replace(image, `"schemaVersion":2`, `"schemaVersion":1`, 1)},
		"Manifests":     {typeManifest, strings.Replace(image, `"schemaVersion":2`, `"schemaVersion":2,"manifests":[]`, 1)},
		"CaseVariant":   {typeManifest, strings.Replace(image, `"schemaVersion":2`, `"schemaVersion":2,"Layers":[]`, 1)},
		"Schema1":       {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1}`},
		"OtherType":     {"application/vnd.example.thing+json", `{"schemaVersion":2,"mediaType":"application/vnd.example.thing+json"}`},
	} {
		putManifest(t, s, "t", m).wants(t, http.StatusBadRequest, "MANIFEST_INVALID")
		s.send(t, "HEAD", "/v2/a/manifests/t", nil).wants(t, http.StatusNotFound)
		_ = name
	}
}

func TestSpec42TheDigestInTheURLIsTheBodys(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	m := s.image(t, "a", "x")
	wrong := digest.FromString("other").String()
	putManifest(t, s, wrong, m).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	putManifest(t, s, "t?digest="+wrong, m).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	putManifest(t, s, "t?digest=x", m).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	s.send(t, "HEAD", "/v2/a/manifests/"+m.digest().String(), nil).wants(t, http.StatusNotFound)
	putManifest(t, s, "t?digest="+m.digest().String(), m).wants(t, http.StatusCreated) // 47
}

func TestSpec43MissingReferencesAreNamedEach(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	missing := func(m *ocispec.Manifest) {
		m.Layers = append(m.Layers, descriptor(ocispec.MediaTypeImageLayer, "missing 1"), descriptor(ocispec.MediaTypeImageLayer, "missing 2"))
	}
	got := putManifest(t, s, "t", s.image(t, "a", "x", missing)).wants(t, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	assert.Len(t, got.codes(t), 2)
	for _, content := range []string{"missing 1", "missing 2"} {
		assert.Contains(t, got.body, digest.FromString(content).String())
	}
	foreign := func(m *ocispec.Manifest) {
		layer := descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "elsewhere")
		layer.URLs = []string{"https://elsewhere.example.com/layer"}
		m.Layers = append(m.Layers, layer)
	}
	putManifest(t, s, "foreign", s.image(t, "a", "y", foreign)).wants(t, http.StatusCreated)
	absent := refersTo(descriptor(typeManifest, "absent"), "text/plain")
	putManifest(t, s, "subject", s.image(t, "a", "z", absent)).wants(t, http.StatusCreated)

	sparse := serve(t, newLocal(&registry.LocalOptions{AllowMissing: true}), nil)
	putManifest(t, sparse, "t", sparse.image(t, "a", "x", missing)).wants(t, http.StatusCreated)
}

func TestSpec44And45ShapesOfManifestsAndIndexes(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	image := s.image(t, "a", "x")
	putManifest(t, s, image.digest().String(), image).wants(t, http.StatusCreated)
	s.pushBlob(t, "a", "cached layer")
	nested := index(t, nil, image.descriptor())
	for name, m := range map[string]manifest{
		"NoLayers":      s.image(t, "a", "y", func(m *ocispec.Manifest) { m.Layers = []ocispec.Descriptor{} }),
		"UnknownFields": {typeManifest, strings.Replace(image.body, `"schemaVersion":2`, `"schemaVersion":2,"x-field":{"a":[1]}`, 1)},
		"Empty":         index(t, nil),
		"Nested1":       nested,
		"OfBlobs":       index(t, nil, descriptor(ocispec.MediaTypeImageLayerGzip, "cached layer")),
		"ArtifactType":  index(t, func(x *ocispec.Index) { x.ArtifactType = "text/plain" }, image.descriptor()),
		"Docker": {
			"application/vnd.docker.distribution.manifest.list.v2+json",
			strings.Replace(nested.body, typeIndex, "application/vnd.docker.distribution.manifest.list.v2+json", 1),
		},
	} {
		putManifest(t, s, name, m).wants(t, http.StatusCreated)
		assert.Equal(t, m.body, s.send(t, "GET", "/v2/a/manifests/"+name, nil).wants(t, http.StatusOK).body, name)
	}
	putManifest(t, s, "nested2", index(t, nil, nested.descriptor())).wants(t, http.StatusCreated)
}

func TestSpec46TheSubjectIsConfirmed(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	subject := descriptor(typeManifest, "subject")
	for _, m := range []manifest{
		s.image(t, "a", "x", refersTo(subject, "text/plain")),
		index(t, func(x *ocispec.Index) { x.Subject = &subject }),
	} {
		got := putManifest(t, s, "t", m).wants(t, http.StatusCreated)
		assert.Equal(t, subject.Digest.String(), got.header.Get("Oci-Subject"))
	}
}

func TestSpec47APushByDigestSetsTags(t *testing.T) {
	t.Parallel()
	s := serve(t, newLocal(nil), &registry.HandlerOptions{MaxTags: 12})
	m := s.image(t, "a", "x")
	sha512 := digest.SHA512.FromString(m.body).String()
	tags := url.Values{}
	for i := range 12 {
		tags.Add("tag", "t"+itoa(i))
	}
	got := putManifest(t, s, sha512+"?"+tags.Encode(), m).wants(t, http.StatusCreated)
	assert.ElementsMatch(t, tags["tag"], got.header.Values("Oci-Tag"))
	for _, tag := range tags["tag"] {
		head := s.send(t, "HEAD", "/v2/a/manifests/"+tag, nil).wants(t, http.StatusOK)
		assert.Equal(t, sha512, head.header.Get("Docker-Content-Digest"))
	}
	got = putManifest(t, s, sha512+"?tag=same&tag=same", m).wants(t, http.StatusCreated)
	assert.Equal(t, []string{"same"}, got.header.Values("Oci-Tag"))
	putManifest(t, s, sha512+"?tag=-bad", m).wants(t, http.StatusBadRequest, "TAG_INVALID")
	tags.Add("tag", "one-too-many")
	putManifest(t, s, sha512+"?"+tags.Encode(), m).wants(t, http.StatusRequestURITooLong, "URI_TOO_LONG")
	s.send(t, "HEAD", "/v2/a/manifests/one-too-many", nil).wants(t, http.StatusNotFound)
}

func TestImmutableTagsAreDenied(t *testing.T) {
	t.Parallel()
	s := serve(t, newLocal(&registry.LocalOptions{Immutable: func(_, tag string) bool { return strings.HasPrefix(tag, "v") }}), nil)
	one, two := s.image(t, "a", "one"), s.image(t, "a", "two")
	putManifest(t, s, "v1", one).wants(t, http.StatusCreated)
	putManifest(t, s, "v1", one).wants(t, http.StatusCreated)
	putManifest(t, s, "v1", two).wants(t, http.StatusForbidden, "DENIED")
	s.send(t, "DELETE", "/v2/a/manifests/v1", nil).wants(t, http.StatusForbidden, "DENIED")
	s.send(t, "DELETE", "/v2/a/manifests/"+one.digest().String(), nil).wants(t, http.StatusForbidden, "DENIED")
	assert.Equal(t, one.body, s.send(t, "GET", "/v2/a/manifests/v1", nil).body)
}
