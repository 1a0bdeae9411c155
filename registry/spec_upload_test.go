package registry_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
)

// blobPath is where content is in the repository a.
func blobPath(content string) string {
	return "/v2/a/blobs/" + digest.FromString(content).String()
}

// wantsUpload fails unless an answer tells where an upload continues, and that it has come to the given offset.
func (r reply) wantsUpload(t testing.TB, location string, offset int) {
	t.Helper()
	assert.Equal(t, location, r.header.Get("Location"))
	assert.Equal(t, location[strings.LastIndexByte(location, '/')+1:], r.header.Get("Docker-Upload-Uuid"))
	assert.Equal(t, "0-"+itoa(max(0, offset-1)), r.header.Get("Range"))
}

func TestSpec20AnUploadIsOpened(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	for _, path := range []string{"/v2/a/blobs/uploads/", "/v2/a/blobs/uploads"} {
		got := s.send(t, "POST", path, nil, "Content-Type: application/json").wants(t, http.StatusAccepted)
		got.wantsUpload(t, got.header.Get("Location"), 0)
		assert.Zero(t, got.length)
		other := strings.Replace(got.header.Get("Location"), "/a/", "/b/", 1)
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			s.send(t, method, other, nil).wants(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
		}
		s.send(t, "GET", got.header.Get("Location"), nil).wants(t, http.StatusNoContent)
	}
}

func TestSpec22TheDigestsAlgorithmMayBeAnnounced(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	content := strings.Repeat("x", 100_000)
	d := digest.SHA512.FromString(content).String()
	for _, query := range []string{"", "?digest-algorithm=sha512", "?digest-algorithm=sha256"} {
		location := s.send(t, "POST", "/v2/a/blobs/uploads/"+query, nil).wants(t, http.StatusAccepted).header.Get("Location")
		s.send(t, "PATCH", location, content).wants(t, http.StatusAccepted)
		s.send(t, "PUT", location+"?digest="+d, nil).wants(t, http.StatusCreated)
		assert.Equal(t, content, s.send(t, "GET", "/v2/a/blobs/"+d, nil).wants(t, http.StatusOK).body, query)
		s.send(t, "DELETE", "/v2/a/blobs/"+d, nil).wants(t, http.StatusAccepted)
	}
	s.send(t, "POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", nil).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
}

func TestSpec23ABlobIsPushedInOneRequest(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	for _, content := range []any{"", "{}", strings.Repeat("x", 1<<20), streamOf(""), streamOf("streamed"), nil} {
		text := ""
		switch c := content.(type) {
		case string:
			text = c
		case struct{ *strings.Reader }:
			text = strings.Repeat("streamed", min(1, c.Len()))
		}
		d := digest.FromString(text).String()
		got := s.send(t, "POST", "/v2/a/blobs/uploads/?digest="+d, content).wants(t, http.StatusCreated)
		assert.Equal(t, "/v2/a/blobs/"+d, got.header.Get("Location"))
		assert.Equal(t, d, got.header.Get("Docker-Content-Digest"))
		assert.Equal(t, text, s.send(t, "GET", "/v2/a/blobs/"+d, nil).wants(t, http.StatusOK).body)
		s.send(t, "DELETE", "/v2/a/blobs/"+d, nil).wants(t, http.StatusAccepted)
	}
	d := digest.FromString("to come").String()
	for _, none := range []any{nil, streamOf("")} {
		location := s.send(t, "POST", "/v2/a/blobs/uploads/?digest="+d, none).wants(t, http.StatusAccepted).header.Get("Location")
		s.send(t, "PUT", location+"?digest="+d, "to come").wants(t, http.StatusCreated)
	}
	s.send(t, "POST", "/v2/a/blobs/uploads/?digest="+digest.FromString("x").String(), "y").wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	s.send(t, "HEAD", blobPath("y"), nil).wants(t, http.StatusNotFound)
	s.send(t, "POST", "/v2/a/blobs/uploads/?digest=sha256:0", "y").wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	s.send(t, "POST", "/v2/a/blobs/uploads/?origin=x&ns=y", nil, "Content-Type: application/json").wants(t, http.StatusAccepted) // 24
}

func TestSpec25And26BlobsAreMounted(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	d := s.pushBlob(t, "from", "blob").String()
	for query, status := range map[string]int{
		"?mount=" + d + "&from=from":   201,
		"?from=from&mount=" + d:        201,
		"?mount=" + d:                  201,
		"?mount=" + d + "&from=absent": 202,
		"?mount=" + d + "&from=BAD":    202,
		"?mount=sha256:0&from=from":    202,
		"?mount=&from=from":            202,
		"?from=from":                   202,
		"?mount=" + digest.FromString("absent").String() + "&from=from": 202,
		"?mount=" + digest.FromString("absent").String():                202,
	} {
		got := s.send(t, "POST", "/v2/to/blobs/uploads/"+query, nil).wants(t, status)
		if status == http.StatusAccepted {
			got.wantsUpload(t, got.header.Get("Location"), 0)
			continue
		}
		assert.Equal(t, "/v2/to/blobs/"+d, got.header.Get("Location"), query)
		assert.Equal(t, d, got.header.Get("Docker-Content-Digest"))
		assert.Equal(t, "blob", s.send(t, "GET", got.header.Get("Location"), nil).wants(t, http.StatusOK).body)
		s.send(t, "DELETE", "/v2/to/blobs/"+d, nil).wants(t, http.StatusAccepted)
	}
}

func TestSpec27ChunksAreAppendedInOrder(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	location := s.startUpload(t, "a")
	s.send(t, "PATCH", location, "01234", "Content-Range: 0-4").wants(t, http.StatusAccepted).wantsUpload(t, location, 5)
	s.send(t, "PATCH", location, "567", "Content-Range: bytes 5-7/*").wants(t, http.StatusAccepted).wantsUpload(t, location, 8)
	s.send(t, "PATCH", location, streamOf("8"), "Content-Range: 8-8").wants(t, http.StatusAccepted).wantsUpload(t, location, 9)
	s.send(t, "PATCH", location, "9", "Content-Range: 9-20").wants(t, http.StatusBadRequest, "SIZE_INVALID")
	s.send(t, "PATCH", location, "9abc", "Content-Range: 9-10").wants(t, http.StatusBadRequest, "SIZE_INVALID")
	s.send(t, "GET", location, nil).wants(t, http.StatusNoContent).wantsUpload(t, location, 9)
	for _, streamed := range []string{"0123456789A", "012345678"} {
		got := s.send(t, "PATCH", s.startUpload(t, "a"), streamOf(streamed), "Content-Range: 0-9")
		got.wants(t, http.StatusBadRequest, "SIZE_INVALID")
		assert.Contains(t, got.body, "than its Content-Range")
	}
	content := "0123456789"
	s.send(t, "PUT", location+"?digest="+digest.FromString(content).String(), "9", "Content-Range: 9-9").wants(t, http.StatusCreated)
	assert.Equal(t, content, s.send(t, "GET", blobPath(content), nil).body)
}

func TestSpec28WithoutContentRangeAChunkIsAppended(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	location := s.startUpload(t, "a")
	for i := range 5 {
		s.send(t, "PATCH", location, itoa(i)).wants(t, http.StatusAccepted).wantsUpload(t, location, i+1)
	}
	s.send(t, "PATCH", location, nil).wants(t, http.StatusAccepted).wantsUpload(t, location, 5)
	s.send(t, "PUT", location+"?digest="+digest.FromString("01234").String(), nil).wants(t, http.StatusCreated)
}

func TestSpec29And31ChunksOutOfOrderChangeNothing(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	location := s.startUpload(t, "a")
	content := "01234567"
	put := location + "?digest=" + digest.FromString(content).String()
	s.send(t, "PATCH", location, "0123", "Content-Range: 0-3").wants(t, http.StatusAccepted)
	for body, header := range map[string]string{
		"0123": "0-3", "56": "5-6", "x": "malformed", "y": "5-4", "z": "-1", "12": "bytes=a-b",
	} {
		for method, target := range map[string]string{"PATCH": location, "PUT": put} {
			got := s.send(t, method, target, body, "Content-Range: "+header)
			got.wants(t, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID").wantsUpload(t, location, 4)
		}
	}
	s.send(t, "PATCH", strings.Replace(location, "/a/", "/b/", 1), "x", "Content-Range: x").wants(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	s.send(t, "PUT", put, "4567", "Content-Range: 4-7").wants(t, http.StatusCreated)
	assert.Equal(t, content, s.send(t, "GET", blobPath(content), nil).body)
}

func TestSpec30LeftoverAndRepeatedDigests(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	location := s.startUpload(t, "a")
	d := digest.FromString("x").String()
	s.send(t, "PATCH", location+"?digest=sha256:leftover", "x").wants(t, http.StatusAccepted)
	s.send(t, "GET", location+"?digest=leftover", nil).wants(t, http.StatusNoContent)
	s.send(t, "PUT", location+"?digest="+d+"&digest="+digest.FromString("y").String(), nil).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	s.send(t, "PUT", location+"?digest="+d+"&digest="+d, nil).wants(t, http.StatusCreated)
}

func TestSpec31And35AClosingPutMayBeRepeated(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	location := s.startUpload(t, "a")
	d := digest.FromString("xy").String()
	s.send(t, "PATCH", location, "x").wants(t, http.StatusAccepted)
	for _, last := range []any{"y", nil} {
		got := s.send(t, "PUT", location+"?digest="+d, last).wants(t, http.StatusCreated)
		assert.Equal(t, "/v2/a/blobs/"+d, got.header.Get("Location"))
		assert.Equal(t, d, got.header.Get("Docker-Content-Digest"))
		assert.Zero(t, got.length)
	}
	s.send(t, "PUT", location+"?digest="+digest.FromString("x").String(), nil).wants(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		s.send(t, method, location, nil).wants(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	}
}

func TestSpec32BadDigestsKeepTheUpload(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	location := s.startUpload(t, "a")
	s.send(t, "PATCH", location, "x").wants(t, http.StatusAccepted)
	d := digest.FromString("x").String()
	for _, query := range []string{"", "?digest=", "?digest=x", "?digest=sha256:0", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e", "?digest=" + strings.ToUpper(d)} {
		s.send(t, "PUT", location+query, nil).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
		s.send(t, "GET", location, nil).wants(t, http.StatusNoContent).wantsUpload(t, location, 1)
	}
	s.send(t, "PUT", location+"?digest="+digest.FromString("y").String(), nil).wants(t, http.StatusBadRequest, "DIGEST_INVALID")
	s.send(t, "HEAD", "/v2/a/blobs/"+d, nil).wants(t, http.StatusNotFound)
	s.send(t, "HEAD", blobPath("y"), nil).wants(t, http.StatusNotFound)
}

func TestSpec33And34AnUploadIsAskedAboutAndCancelled(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	location := s.startUpload(t, "a")
	got := s.send(t, "GET", location, nil).wants(t, http.StatusNoContent)
	got.wantsUpload(t, location, 0)
	assert.Empty(t, got.body)
	s.send(t, "DELETE", location, nil).wants(t, http.StatusNoContent)
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		s.send(t, method, location, nil).wants(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	}
}

func TestSpec37TinyBlobsWorkByEveryWay(t *testing.T) {
	t.Parallel()
	s := serveLocal(t)
	for _, content := range []string{"", "{}"} {
		d := digest.FromString(content).String()
		for name, push := range map[string]func(){
			"Post":        func() { s.send(t, "POST", "/v2/a/blobs/uploads/?digest="+d, content).wants(t, 201) },
			"Put":         func() { s.send(t, "PUT", s.startUpload(t, "a")+"?digest="+d, content).wants(t, 201) },
			"StreamedPut": func() { s.send(t, "PUT", s.startUpload(t, "a")+"?digest="+d, streamOf(content)).wants(t, 201) },
			"Patch": func() {
				location := s.startUpload(t, "a")
				s.send(t, "PATCH", location, streamOf(content)).wants(t, 202)
				s.send(t, "PUT", location+"?digest="+d, streamOf("")).wants(t, 201)
			},
		} {
			push()
			assert.Equal(t, content, s.send(t, "GET", "/v2/a/blobs/"+d, nil).wants(t, http.StatusOK).body, name)
			s.send(t, "DELETE", "/v2/a/blobs/"+d, nil).wants(t, http.StatusAccepted)
		}
	}
}
