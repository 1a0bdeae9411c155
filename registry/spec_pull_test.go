package registry_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
)

func TestSpec13ManifestsComeBackAsTheyWerePushed(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	m := s.image(t, "a", "x")
	s.send(t, "PUT", "/v2/a/manifests/t", m.body, "Content-Type: "+m.mediaType+"; charset=utf-8").wants(t, http.StatusCreated)
	sha512 := digest.SHA512.FromString(m.body)
	s.send(t, "PUT", "/v2/a/manifests/"+sha512.String(), m.body, "Content-Type: "+m.mediaType).wants(t, http.StatusCreated)
	for reference, d := range map[string]digest.Digest{"t": m.digest(), m.digest().String(): m.digest(), sha512.String(): sha512} {
		get := s.send(t, "GET", "/v2/a/manifests/"+reference, nil).wants(t, http.StatusOK)
		assert.Equal(t, m.body, get.body)
		head := s.send(t, "HEAD", "/v2/a/manifests/"+reference, nil).wants(t, http.StatusOK)
		assert.Empty(t, head.body)
		for _, r := range []reply{get, head} {
			assert.Equal(t, m.mediaType, r.header.Get("Content-Type"))
			assert.EqualValues(t, len(m.body), r.length)
			assert.Equal(t, d.String(), r.header.Get("Docker-Content-Digest"))
		}
	}
}

func TestSpec16BlobsAreOctets(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	for _, blob := range []string{"", "{}", strings.Repeat("x", 1<<20)} { // inline and not
		d := s.pushBlob(t, "a", blob)
		get := s.send(t, "GET", "/v2/a/blobs/"+d.String(), nil).wants(t, http.StatusOK)
		assert.Equal(t, blob, get.body)
		head := s.send(t, "HEAD", "/v2/a/blobs/"+d.String(), nil).wants(t, http.StatusOK)
		assert.Empty(t, head.body)
		for _, r := range []reply{get, head} {
			assert.Equal(t, "application/octet-stream", r.header.Get("Content-Type"))
			assert.Equal(t, "bytes", r.header.Get("Accept-Ranges"))
			assert.EqualValues(t, len(blob), r.length)
			assert.Equal(t, d.String(), r.header.Get("Docker-Content-Digest"))
			assert.Equal(t, `"`+d.String()+`"`, r.header.Get("Etag"))
		}
	}
}

func TestSpec17RangesOfABlob(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	for _, unit := range []int{1, 100} { // inline, and read from the objects
		blob := strings.Repeat(strings.Repeat("0123456789abcdef", 128), unit)
		size := len(blob)
		path := "/v2/a/blobs/" + s.pushBlob(t, "a", blob).String()
		for header, want := range map[string][2]int{
			"500-1499": {500, 1499}, "500-": {500, size - 1}, "-500": {size - 500, size - 1}, "2000-500000": {2000, size - 1}, "0-" + itoa(size): {0, size - 1},
		} {
			got := s.send(t, "GET", path, nil, "Range: bytes="+header).wants(t, http.StatusPartialContent)
			assert.Equal(t, blob[want[0]:want[1]+1], got.body, header)
			assert.EqualValues(t, want[1]-want[0]+1, got.length)
			assert.Equal(t, "bytes "+itoa(want[0])+"-"+itoa(want[1])+"/"+itoa(size), got.header.Get("Content-Range"))
			assert.NotEmpty(t, got.header.Get("Docker-Content-Digest"))
		}
		for _, header := range []string{"500-0", "500000-1000000"} {
			got := s.send(t, "GET", path, nil, "Range: bytes="+header).wants(t, http.StatusRequestedRangeNotSatisfiable)
			assert.Equal(t, "bytes */"+itoa(size), got.header.Get("Content-Range"))
		}
		head := s.send(t, "HEAD", path, nil, "Range: bytes=0-1").wants(t, http.StatusOK)
		assert.EqualValues(t, size, head.length)
	}
}

func TestSpec18TagsAreComparedAndSwapped(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	one, two := s.image(t, "a", "one"), s.image(t, "a", "two")
	put := func(m manifest, conditions ...string) reply {
		t.Helper()
		return s.send(t, "PUT", "/v2/a/manifests/t", m.body, append(conditions, "Content-Type: "+m.mediaType)...)
	}
	is := func(m manifest) string { return `"` + m.digest().String() + `"` }
	put(one, "If-Match: "+is(one)).wants(t, http.StatusPreconditionFailed, "PRECONDITION_FAILED") // there is no tag yet
	put(one, "If-None-Match: *").wants(t, http.StatusCreated)
	put(two, "If-None-Match: *").wants(t, http.StatusPreconditionFailed, "PRECONDITION_FAILED")
	put(two, "If-Match: "+is(two)).wants(t, http.StatusPreconditionFailed)
	put(two, "If-Match: "+`"nonsense"`).wants(t, http.StatusPreconditionFailed)
	put(two, "If-Match: W/"+is(one)).wants(t, http.StatusPreconditionFailed)
	assert.Equal(t, one.body, s.send(t, "GET", "/v2/a/manifests/t", nil).body)
	put(two, `If-Match: "x", `+is(one)).wants(t, http.StatusCreated)
	assert.Equal(t, two.body, s.send(t, "GET", "/v2/a/manifests/t", nil).body)
	for _, condition := range []string{"If-Match: *", "If-None-Match: " + is(two)} {
		put(one, condition).wants(t, http.StatusPreconditionFailed) // not understood, so not done
	}
}

func TestSpec19BlobsAreSeenOnlyWhereTheyWerePushed(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	d := s.pushBlob(t, "a", "secret").String()
	for _, method := range []string{"GET", "HEAD"} {
		s.send(t, method, "/v2/a/blobs/"+d, nil).wants(t, http.StatusOK)
		s.send(t, method, "/v2/b/blobs/"+d, nil).wants(t, http.StatusNotFound)
		s.send(t, method, "/v2/a/b/blobs/"+d, nil).wants(t, http.StatusNotFound)
	}
	s.send(t, "POST", "/v2/b/blobs/uploads/?mount="+d+"&from=a", nil).wants(t, http.StatusCreated)
	s.send(t, "GET", "/v2/b/blobs/"+d, nil).wants(t, http.StatusOK)
}
