package registry_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

// pages follows links from a path on, and returns what each page lists.
func pages(t testing.TB, s *server, path, field string) [][]string {
	t.Helper()
	var all [][]string
	for path != "" {
		require.Less(t, len(all), 100, "links without an end")
		got := s.send(t, "GET", path, nil).wants(t, http.StatusOK)
		all = append(all, list(t, got, field))
		path = nextPage(t, got)
	}
	return all
}

func TestSpec48To50TagsAreListedByPage(t *testing.T) {
	t.Parallel()
	s := serve(t, newLocal(nil), &registry.HandlerOptions{PageLimit: 4})
	s.send(t, "GET", "/v2/a/tags/list", nil).wants(t, http.StatusNotFound, "NAME_UNKNOWN")
	s.pushBlob(t, "untagged", "x")
	assert.Equal(t, [][]string{{}}, pages(t, s, "/v2/untagged/tags/list", "tags"))
	m := index(t, nil)
	for _, tag := range []string{"b", "a", "B", "_", "1", "a.b"} {
		s.pushManifest(t, "a", tag, m)
	}
	got := s.send(t, "GET", "/v2/a/tags/list?n=1", nil)
	assert.JSONEq(t, `{"name":"a","tags":["1"]}`, got.body)
	assert.Equal(t, "application/json", got.header.Get("Content-Type"))
	for query, want := range map[string][][]string{
		"":                           {{"1", "B", "_", "a"}, {"a.b", "b"}},
		"?n=1000":                    {{"1", "B", "_", "a"}, {"a.b", "b"}},
		"?n=2":                       {{"1", "B"}, {"_", "a"}, {"a.b", "b"}},
		"?n=3":                       {{"1", "B", "_"}, {"a", "a.b", "b"}},
		"?n=0":                       {{}},
		"?n=0&last=a":                {{}},
		"?last=_":                    {{"a", "a.b", "b"}},
		"?last=absent":               {{"b"}},
		"?last=b":                    {{}},
		"?last=a%20%3B":              {{"a.b", "b"}},
		"?last=%C3%BC":               {{}},
		"?n=1&last=a":                {{"a.b"}, {"b"}},
		"?n=99999999999999999999999": {{"1", "B", "_", "a"}, {"a.b", "b"}},
	} {
		assert.Equal(t, want, pages(t, s, "/v2/a/tags/list"+query, "tags"), query)
	}
	for _, query := range []string{"?n=-1", "?n=x", "?n=", "?n=1.5", "?n=+1", "?last=%00", "?last=%ff"} {
		s.send(t, "GET", "/v2/a/tags/list"+query, nil).wants(t, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	}
	s.send(t, "GET", "/v2/absent/tags/list?n=0", nil).wants(t, http.StatusNotFound, "NAME_UNKNOWN")
}

func TestSpec51To54ReferrersAreAnIndex(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	subject := s.image(t, "a", "subject")
	refer := func(repository string) ocispec.Index {
		t.Helper()
		got := s.send(t, "GET", "/v2/"+repository, nil).wants(t, http.StatusOK)
		assert.Equal(t, indexType, got.header.Get("Content-Type"))
		assert.Contains(t, got.body, `"manifests":[`)
		assert.EqualValues(t, len(got.body), got.length)
		var x ocispec.Index
		require.NoError(t, json.Unmarshal([]byte(got.body), &x), got.body)
		assert.Equal(t, 2, x.SchemaVersion)
		assert.Equal(t, indexType, x.MediaType)
		return x
	}
	path := "a/referrers/" + subject.digest().String()
	assert.Empty(t, refer(path).Manifests, "an unknown subject")
	assert.Empty(t, refer("absent/referrers/"+subject.digest().String()).Manifests, "an unknown repository")
	s.send(t, "GET", "/v2/a/referrers/sha256:0", nil).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	s.send(t, "GET", "/v2/a/referrers/t", nil).wants(t, http.StatusBadRequest, "DIGEST_INVALID")

	var want []ocispec.Descriptor
	add := func(m manifest, artifactType string, annotations map[string]string) {
		s.pushManifest(t, "a", "", m)
		d := m.descriptor()
		d.ArtifactType, d.Annotations = artifactType, annotations
		want = append(want, d)
	}
	notes := map[string]string{"note": "<&>", "other": "ü"}
	add(s.image(t, "a", "1", refersTo(subject.descriptor(), "text/a+b"), func(m *ocispec.Manifest) { m.Annotations = notes }), "text/a+b", notes)
	add(s.image(t, "a", "2", refersTo(subject.descriptor(), "")), ocispec.MediaTypeImageConfig, nil)
	of := subject.descriptor()
	add(index(t, func(x *ocispec.Index) { x.Subject = &of }), "", nil)
	add(index(t, func(x *ocispec.Index) { x.Subject, x.ArtifactType = &of, "text/c" }), "text/c", nil)
	assert.ElementsMatch(t, want, refer(path).Manifests)

	for query, chosen := range map[string][]ocispec.Descriptor{
		"?artifactType=text/a%2Bb":                      want[:1],
		"?artifactType=text/a+b":                        want[:1], // a decoded space
		"?artifactType=text/c":                          want[3:],
		"?artifactType=text/a%2Bb&artifactType=text/c":  {want[0], want[3]},
		"?artifactType=absent":                          nil,
		"?artifactType=" + ocispec.MediaTypeImageConfig: nil, // its + is a space too
		"?artifactType=&n=10":                           want,
	} {
		got := s.send(t, "GET", "/v2/"+path+query, nil)
		applied := "artifactType"
		if query == "?artifactType=&n=10" {
			applied = ""
		}
		assert.Equal(t, applied, got.header.Get("Oci-Filters-Applied"), query)
		if query == "?artifactType="+ocispec.MediaTypeImageConfig {
			chosen = want[1:2]
		}
		assert.ElementsMatch(t, chosen, refer(path+query).Manifests, query)
	}

	var paged []ocispec.Descriptor
	for next := "/v2/" + path + "?n=1"; next != ""; {
		x := refer(next[len("/v2/"):])
		require.Len(t, x.Manifests, 1)
		paged = append(paged, x.Manifests...)
		next = nextPage(t, s.send(t, "GET", next, nil))
	}
	assert.ElementsMatch(t, want, paged)
	assert.Empty(t, refer(path+"?n=0").Manifests)
}

func TestSpec55AnIndexUnderTheFallbackTagIsOrdinary(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	subject := s.image(t, "a", "subject")
	referrer := s.image(t, "a", "sbom", refersTo(subject.descriptor(), "text/plain"))
	s.pushManifest(t, "a", "", referrer)
	fallback := index(t, nil, referrer.descriptor())
	tag := "sha256-" + subject.digest().Encoded()
	s.pushManifest(t, "a", tag, fallback)
	assert.Equal(t, fallback.body, s.send(t, "GET", "/v2/a/manifests/"+tag, nil).wants(t, http.StatusOK).body)
	got := s.send(t, "GET", "/v2/a/referrers/"+subject.digest().String(), nil)
	assert.Contains(t, got.body, referrer.digest().String())
}

func TestSpec56TheCatalogIsListedByPage(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	assert.Equal(t, [][]string{{}}, pages(t, s, "/v2/_catalog", "repositories"))
	for _, name := range []string{"b", "a/b", "a", "a-b", "c"} {
		s.pushBlob(t, name, name)
	}
	for query, want := range map[string][][]string{
		"":            {{"a", "a-b", "a/b", "b", "c"}},
		"?n=2":        {{"a", "a-b"}, {"a/b", "b"}, {"c"}},
		"?n=5":        {{"a", "a-b", "a/b", "b", "c"}},
		"?n=0":        {{}},
		"?last=a/b":   {{"b", "c"}},
		"?last=a%2Fb": {{"b", "c"}},
	} {
		assert.Equal(t, want, pages(t, s, "/v2/_catalog"+query, "repositories"), query)
	}
	s.send(t, "GET", "/v2/_catalog?n=x", nil).wants(t, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	s.send(t, "GET", "/v2/_catalog?n=1&artifactType="+digest.FromString("x").String(), nil).wants(t, http.StatusOK)
}
