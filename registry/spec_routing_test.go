package registry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"

	"github.com/ocikit/ocikit/registry"
)

// The numbers in these tests' names are those of the rows in the project's table of what the API owes its clients.

func TestSpec01TheBaseIsThere(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	for _, path := range []string{"/v2/", "/v2"} {
		got := s.send(t, "GET", path, nil).wants(t, http.StatusOK)
		assert.Equal(t, "{}", got.body)
		assert.Equal(t, "application/json", got.header.Get("Content-Type"))
		assert.Equal(t, "registry/2.0", got.header.Get("Docker-Distribution-Api-Version"))
		head := s.send(t, "HEAD", path, nil).wants(t, http.StatusOK)
		assert.EqualValues(t, 2, head.length)
	}
	s.send(t, "POST", "/v2/", nil).wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
}

func TestSpec02NamesAndTagsHaveAGrammar(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	m := index(t, nil)
	for _, name := range []string{"a", "0", "a-b", "a--b", "a_b", "a__b", "a.b", "a/b/c", strings.Repeat("a", 255)} {
		s.pushManifest(t, name, "t", m)
	}
	for _, name := range []string{"A", "a-", "-a", "a___b", "a..b", "a._b", "a%20b", strings.Repeat("a", 256), "a/B"} {
		s.send(t, "PUT", "/v2/"+name+"/manifests/t", m.body).wants(t, http.StatusBadRequest, "NAME_INVALID")
		s.send(t, "POST", "/v2/"+name+"/blobs/uploads/", nil).wants(t, http.StatusBadRequest, "NAME_INVALID")
	}
	for _, tag := range []string{"_", "0", "A.b-c_D", strings.Repeat("t", 128)} {
		s.pushManifest(t, "a", tag, m)
	}
	for _, tag := range []string{"-t", ".t", "t%21", strings.Repeat("t", 129)} {
		s.send(t, "PUT", "/v2/a/manifests/"+tag, m.body, "Content-Type: "+m.mediaType).wants(t, http.StatusBadRequest, "TAG_INVALID")
		s.send(t, "GET", "/v2/a/manifests/"+tag, nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	}
}

func TestSpec03AReferenceWithAColonIsADigest(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	d := digest.FromString("x").String()
	for _, bad := range []string{"a:b", "sha256:00", d[:70], d + "0", "sha256:" + strings.ToUpper(d[7:]), "md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:" + d[7:]} {
		for _, path := range []string{"/v2/a/manifests/" + bad, "/v2/a/blobs/" + bad} {
			s.send(t, "GET", path, nil).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
			s.send(t, "HEAD", path, nil).wants(t, http.StatusBadRequest)
		}
		s.send(t, "PUT", "/v2/a/manifests/"+bad, "{}").wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	}
}

func TestSpec04NamesContainTheWordsOfPaths(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	for _, name := range []string{"a/manifests/b", "r/blobs/uploads", "tags/list", "blobs", "x/referrers/y", "v2"} {
		m := s.image(t, name, name)
		s.pushManifest(t, name, "t", m)
		assert.Equal(t, m.body, s.send(t, "GET", "/v2/"+name+"/manifests/t", nil).wants(t, http.StatusOK).body, name)
		assert.Equal(t, []string{"t"}, list(t, s.send(t, "GET", "/v2/"+name+"/tags/list", nil), "tags"), name)
		s.send(t, "GET", "/v2/"+name+"/referrers/"+m.digest().String(), nil).wants(t, http.StatusOK)
	}
}

func TestSpec05PathsAreNeverCleaned(t *testing.T) {
	t.Parallel()
	h := registry.NewHandler(newLocal(nil), nil)
	for _, path := range []string{"/v2/a%2Fb/tags/list", "/v2/a//b/tags/list", "/v2//", "/v2/a/../b/tags/list", "/v2/./a/tags/list", "/v2/a/%2e%2e/tags/list", "//v2/", "/v2/a/tags/list/."} {
		assert.Equal(t, http.StatusNotFound, record(t, h, "GET", path, nil).Code, path)
	}
	s := serveLocal(t)
	d := s.pushBlob(t, "a", "x")
	s.send(t, "GET", "/v2/a/blobs/sha256%3A"+d.Encoded(), nil).wants(t, http.StatusOK)
}

func TestSpec06ErrorsAreJSON(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	d := digest.FromString("x").String()
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/a/blobs/" + d, 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/a/manifests/t", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/a/manifests/" + d, 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/a/tags/list", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/a/blobs/uploads/x", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"PATCH", "/v2/a/blobs/uploads/x", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"PUT", "/v2/a/blobs/uploads/x?digest=" + d, 404, "BLOB_UPLOAD_UNKNOWN"},
		{"PUT", "/v2/a/manifests/t", 400, "MANIFEST_INVALID"},
		{"PUT", "/v2/a/blobs/" + d, 405, "UNSUPPORTED"},
		{"OPTIONS", "/v2/a/tags/list", 405, "UNSUPPORTED"},
		{"GET", "/nowhere", 404, "NOT_FOUND"},
	} {
		got := s.send(t, test.method, test.path, nil).wants(t, test.status, test.code)
		assert.Equal(t, "registry/2.0", got.header.Get("Docker-Distribution-Api-Version"))
		assert.Equal(t, test.status == 405, got.header.Get("Allow") != "", "Allow of %s %s", test.method, test.path)
	}
}

func TestSpec09And14ContentIsSentAsItIs(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	blob := strings.Repeat("compressible ", 10_000)
	d := s.pushBlob(t, "a", blob)
	m := index(t, nil)
	s.pushManifest(t, "a", "t", m)
	for path, want := range map[string]string{"/v2/a/blobs/" + d.String(): blob, "/v2/a/manifests/t": m.body} {
		for _, accept := range []string{"*/*", "text/html", "application/vnd.docker.distribution.manifest.v2+json", ""} {
			got := s.send(t, "GET", path, nil, "Accept-Encoding: zstd, gzip", "Accept: "+accept).wants(t, http.StatusOK)
			assert.Equal(t, want, got.body)
			assert.EqualValues(t, len(want), got.length)
			assert.Empty(t, got.header.Get("Content-Encoding"))
		}
	}
}

func TestSpec11LocationsArePathAbsolute(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	location := s.startUpload(t, "a/b")
	assert.Regexp(t, `^/v2/a/b/blobs/uploads/[0-9a-f-]{36}$`, location)
	d := digest.FromString("x").String()
	got := s.send(t, "PUT", location+"?digest="+d, "x").wants(t, http.StatusCreated)
	assert.Equal(t, "/v2/a/b/blobs/"+d, got.header.Get("Location"))
	m := index(t, nil)
	got = s.send(t, "PUT", "/v2/a/b/manifests/t", m.body, "Content-Type: "+m.mediaType).wants(t, http.StatusCreated)
	assert.Equal(t, m.body, s.send(t, "GET", got.header.Get("Location"), nil).wants(t, http.StatusOK).body)
}

func TestSpec12BodiesOfUnknownLengthAreTaken(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	const content = "no length was announced"
	d := digest.FromString(content).String()
	s.send(t, "PATCH", s.startUpload(t, "a"), strings.NewReader("")).wants(t, http.StatusAccepted)
	s.send(t, "PUT", s.startUpload(t, "a")+"?digest="+d, streamOf(content)).wants(t, http.StatusCreated)
	s.send(t, "POST", "/v2/b/blobs/uploads/?digest="+d, streamOf(content)).wants(t, http.StatusCreated)
	m := index(t, nil)
	s.send(t, "PUT", "/v2/a/manifests/t", streamOf(m.body), "Content-Type: "+m.mediaType).wants(t, http.StatusCreated)
	for _, repository := range []string{"a", "b"} {
		assert.Equal(t, content, s.send(t, "GET", "/v2/"+repository+"/blobs/"+d, nil).body)
	}
}

// streamOf returns a reader whose length net/http does not know.
func streamOf(s string) any { return struct{ *strings.Reader }{strings.NewReader(s)} }

func TestSpec12HTTP2IsServedToo(t *testing.T) {
	t.Parallel()
	ts := httptest.NewUnstartedServer(registry.NewHandler(newLocal(nil), nil))
	ts.EnableHTTP2 = true
	ts.StartTLS()
	defer ts.Close()
	s := &server{ts.URL, ts.Client()}
	blob := strings.Repeat("0123456789abcdef", 50_000)
	d := digest.FromString(blob).String()
	s.send(t, "PUT", s.startUpload(t, "a")+"?digest="+d, streamOf(blob)).wants(t, http.StatusCreated)
	assert.Equal(t, blob, s.send(t, "GET", "/v2/a/blobs/"+d, nil).wants(t, http.StatusOK).body)
	s.send(t, "GET", "/v2/a/blobs/"+d, nil, "Range: bytes=1-2").wants(t, http.StatusPartialContent)
}
