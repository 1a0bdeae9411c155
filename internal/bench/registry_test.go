package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// tiny is a registry that keeps all in maps, accepts only content whose digest is right and manifests whose blobs it has,
// and counts what it accepted.
type tiny struct {
	mu        sync.Mutex
	absolute  bool // Location headers name scheme and host
	uploads   map[string][]byte
	blobs     map[string][]byte
	manifests map[string][]byte // by repository, a blank, and tag
	tags      map[string][]string
}

func newTiny(t *testing.T, absolute bool) (*tiny, *httptest.Server) {
	t.Helper()
	r := &tiny{
		absolute: absolute, uploads: map[string][]byte{}, blobs: map[string][]byte{},
		manifests: map[string][]byte{}, tags: map[string][]string{},
	}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return r, server
}

func (r *tiny) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	path := q.URL.Path
	repository, rest := "", path
	for _, word := range []string{"/blobs/", "/manifests/", "/tags/"} {
		if before, after, found := strings.Cut(path, word); found {
			repository, rest = before, word+after
		}
	}
	switch {
	case path == "/v2/":
	case strings.HasPrefix(rest, "/blobs/uploads/"):
		r.upload(w, q, repository, body)
	case strings.HasPrefix(rest, "/blobs/"):
		r.read(w, r.blobs[repository+" "+strings.TrimPrefix(rest, "/blobs/")])
	case strings.HasPrefix(rest, "/manifests/") && q.Method == http.MethodPut:
		r.putManifest(w, repository, strings.TrimPrefix(rest, "/manifests/"), body)
	case strings.HasPrefix(rest, "/manifests/"):
		r.read(w, r.manifests[repository+" "+strings.TrimPrefix(rest, "/manifests/")])
	case rest == "/tags/list":
		r.page(w, q, repository)
	default:
		http.NotFound(w, q)
	}
}

func (r *tiny) upload(w http.ResponseWriter, q *http.Request, repository string, body []byte) {
	location := q.URL.Path
	if q.Method == http.MethodPost {
		location += strconv.Itoa(len(r.uploads))
		r.uploads[location] = nil
	}
	content, found := r.uploads[location]
	content = append(content, body...)
	digest := q.URL.Query().Get("digest")
	switch {
	case !found:
		http.Error(w, "no such upload", http.StatusNotFound)
	case q.Method == http.MethodPut && digest != fmt.Sprintf("sha256:%x", sha256.Sum256(content)):
		http.Error(w, "DIGEST_INVALID", http.StatusBadRequest)
	case q.Method == http.MethodPatch && q.ContentLength != -1:
		http.Error(w, "expected a body of unknown length", http.StatusBadRequest)
	case q.Method == http.MethodPut:
		r.blobs[repository+" "+digest] = content
		w.WriteHeader(http.StatusCreated)
	default:
		r.uploads[location] = content
		if r.absolute {
			location = "http://" + q.Host + location + "?state=a%2Fb"
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusAccepted)
	}
}

func (r *tiny) putManifest(w http.ResponseWriter, repository, tag string, body []byte) {
	type descriptor struct {
		Digest string
		Size   int
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	if err := json.Unmarshal(body, &manifest); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, d := range append(manifest.Layers, manifest.Config) {
		if content, found := r.blobs[repository+" "+d.Digest]; !found || len(content) != d.Size {
			http.Error(w, "MANIFEST_BLOB_UNKNOWN "+d.Digest, http.StatusBadRequest)
			return
		}
	}
	if _, found := r.manifests[repository+" "+tag]; !found {
		r.tags[repository] = append(r.tags[repository], tag)
	}
	r.manifests[repository+" "+tag] = body
	w.WriteHeader(http.StatusCreated)
}

func (r *tiny) page(w http.ResponseWriter, q *http.Request, repository string) {
	tags := slices.Sorted(slices.Values(r.tags[repository]))
	if last := q.URL.Query().Get("last"); last != "" {
		at, found := slices.BinarySearch(tags, last)
		if found {
			at++
		}
		tags = tags[at:]
	}
	if n, err := strconv.Atoi(q.URL.Query().Get("n")); err == nil {
		tags = tags[:min(n, len(tags))]
	}
	w.(http.Flusher).Flush() // so that the body is chunked
	_ = json.NewEncoder(w).Encode(map[string]any{"name": repository, "tags": tags})
}

func (r *tiny) read(w http.ResponseWriter, content []byte) {
	if content == nil {
		http.Error(w, "UNKNOWN", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content)
}
