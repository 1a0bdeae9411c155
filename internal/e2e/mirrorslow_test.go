package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// slowOrigin stands before an upstream, counts what it is asked, and holds layers in the middle.
type slowOrigin struct {
	url string

	mu    sync.Mutex
	asked map[string]map[string]int // how often for a blob's or manifest's whole, by its name and then by who asks
	gate  chan struct{}             // nil: open; else closed to open it
}

// heldSize is what is held, in bytes, and more.
const heldSize = 64 << 10

func newSlowOrigin(t *testing.T, target string) *slowOrigin {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	s := &slowOrigin{asked: map[string]map[string]int{}}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		FlushInterval: -1, // at once
		ModifyResponse: func(r *http.Response) error {
			if gate := s.gateOf(r); gate != nil {
				r.Body = &heldBody{ReadCloser: r.Body, ctx: r.Request.Context(), left: r.ContentLength / 2, gate: gate}
			}
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count(r)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(s.open) // first, so that no request hangs
	s.url = server.URL
	return s
}

func (s *slowOrigin) count(r *http.Request) {
	if r.Method != http.MethodGet {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := path.Base(r.URL.Path)
	if part := r.Header.Get("Range"); part != "" {
		name += " " + part
	}
	if s.asked[name] == nil {
		s.asked[name] = map[string]int{}
	}
	s.asked[name][r.Header.Get("Via")]++ // which every process has one of
}

func (s *slowOrigin) gateOf(r *http.Response) chan struct{} {
	if !strings.Contains(r.Request.URL.Path, "/blobs/") || r.Request.Method != http.MethodGet || r.ContentLength < heldSize {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate
}

// hold has it hold layers from here on.
func (s *slowOrigin) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = make(chan struct{})
}

// open lets go of all that it holds, and holds no more.
func (s *slowOrigin) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != nil {
		close(s.gate)
		s.gate = nil
	}
}

// askedFor returns who asked how often for all of a blob or manifest.
func (s *slowOrigin) askedFor(name string) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.asked[name])
}

// heldBody gives some bytes, and the others when its gate is opened.
type heldBody struct {
	io.ReadCloser
	ctx  context.Context
	left int64
	gate chan struct{}
}

// Read implements [io.Reader].
func (b *heldBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		select {
		case <-b.gate:
			return b.ReadCloser.Read(p)
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// newPlainTree makes an image of random layers of these sizes, others for each seed.
func newPlainTree(t *testing.T, seed uint64, sizes ...int64) *imagetest.Tree {
	t.Helper()
	tree := &imagetest.Tree{Content: map[imagetest.Digest][]byte{}}
	add := func(mediaType string, content []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
		tree.Content[d.Digest] = content
		return d
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    add(ocispec.MediaTypeImageConfig, fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","author":"%d"}`, seed)),
	}
	random := rand.New(rand.NewPCG(seed, 6))
	for _, size := range sizes {
		manifest.Layers = append(manifest.Layers, add(ocispec.MediaTypeImageLayer, randomBytes(random, size)))
	}
	content, err := json.Marshal(manifest)
	require.NoError(t, err)
	tree.Root = add(manifest.MediaType, content)
	return tree
}
