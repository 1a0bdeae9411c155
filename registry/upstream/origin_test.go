package upstream_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

const repository = "library/app"

// origin is an upstream: a registry in memory, and what can be done to its answers.
type origin struct {
	*httptest.Server
	registry registry.Registry

	mu       sync.Mutex
	requests []string
	answer   func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{registry: registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil)}
	handler := registry.NewHandler(o.registry, nil)
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.requests = append(o.requests, r.Method+" "+r.URL.Path)
		answer := o.answer
		o.mu.Unlock()
		if answer == nil || !answer(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(o.Close)
	return o
}

// answers replaces answers from now on; nil leaves them as they are.
func (o *origin) answers(answer func(w http.ResponseWriter, r *http.Request) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer = answer
}

// says has everything answered by a status.
func (o *origin) says(status int, header ...string) {
	o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		return true
	})
}

// asked returns how often what has the words was asked for, and forgets nothing.
func (o *origin) asked(words ...string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, request := range o.requests {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(request, word) }) {
			n++
		}
	}
	return n
}

func (o *origin) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = nil
}

// image is an image that is pushed to the origin.
type image struct {
	registry.ManifestPut
	digest digest.Digest
	layer  []byte
	config []byte
}

func (i image) layerDigest() digest.Digest { return digest.FromBytes(i.layer) }

// push pushes an image of a config and one layer, under a tag if that is not "".
func (o *origin) push(t testing.TB, tag string, layer []byte) image {
	t.Helper()
	i := image{layer: layer, config: []byte(`{"layer":"` + digest.FromBytes(layer).Encoded() + `"}`)}
	i.Bytes = manifestOf(i.config, i.layer)
	i.digest, i.MediaType = digest.FromBytes(i.Bytes), ocispec.MediaTypeImageManifest
	if tag != "" {
		i.Tags = []string{tag}
	}
	for _, blob := range [][]byte{i.config, i.layer} {
		_, err := o.registry.PushBlob(t.Context(), repository, digest.FromBytes(blob), bytes.NewReader(blob), int64(len(blob)))
		require.NoError(t, err)
	}
	_, err := o.registry.PutManifest(t.Context(), repository, i.ManifestPut)
	require.NoError(t, err)
	return i
}

func manifestOf(config, layer []byte) []byte {
	describe := func(mediaType string, data []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	}
	data, _ := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: describe(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayer, layer)},
	})
	return data
}

// content returns so many bytes that are like no others.
func content(name string, size int) []byte {
	seed := []byte(digest.FromString(name).Encoded())
	return bytes.Repeat(seed, size/len(seed)+1)[:size]
}

// mirror is a registry that pulls through from an origin.
type mirror struct {
	*upstream.Registry
	meta    store.Metadata
	objects store.Objects

	mu     sync.Mutex
	events []upstream.Event
}

// newMirror returns one over stores in memory. Each of change may change its options.
func newMirror(t testing.TB, address string, change ...func(*upstream.Options)) *mirror {
	t.Helper()
	return newReplica(t, address, memory.NewMetadata(nil), memory.NewObjects(nil), change...)
}

func newReplica(t testing.TB, address string, meta store.Metadata, objects store.Objects, change ...func(*upstream.Options)) *mirror {
	t.Helper()
	m := &mirror{meta: meta, objects: objects}
	spool, err := upstream.NewSpool(t.TempDir(), 0)
	require.NoError(t, err)
	options := &upstream.Options{Spool: spool, Observe: func(e upstream.Event) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.events = append(m.events, e)
	}}
	for _, c := range change {
		c(options)
	}
	m.Registry, err = upstream.New("hub", address, meta, objects, options)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, m.Close())
		eventually(t, "nothing is left in the spool", func() bool { return options.Spool.Used() == 0 })
	})
	return m
}

// outcomes counts what happened so far.
func (m *mirror) outcomes() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[string]int{}
	for _, e := range m.events {
		counts[string(e.Kind)+" "+string(e.Outcome)]++
	}
	return counts
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 20*time.Second, 2*time.Millisecond, what)
}

// pull reads a blob whole.
func (m *mirror) pull(t testing.TB, d digest.Digest) ([]byte, error) {
	t.Helper()
	blob, err := m.Blob(t.Context(), repository, d)
	if err != nil {
		return nil, err
	}
	return readAll(t, blob)
}

func readAll(t testing.TB, blob registry.Blob) ([]byte, error) {
	t.Helper()
	body, err := blob.Open(t.Context(), 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err == nil && int64(len(data)) != blob.Size {
		err = fmt.Errorf("%d bytes of %d: %w", len(data), blob.Size, io.ErrUnexpectedEOF)
	}
	return data, err
}

// mustPull pulls a blob, which has to be what it is called.
func (m *mirror) mustPull(t testing.TB, d digest.Digest) {
	t.Helper()
	data, err := m.pull(t, d)
	require.NoError(t, err)
	require.Equal(t, d, digest.FromBytes(data))
}

// isKept reports whether the stores have a blob, in the repository that holds what came from the origin's.
func (m *mirror) isKept(t testing.TB, d digest.Digest) bool {
	t.Helper()
	_, err := m.meta.Content(t.Context(), store.MirrorPrefix+"hub/"+repository, d)
	if err != nil {
		require.ErrorIs(t, err, store.ErrContentUnknown)
	}
	return err == nil
}

func (m *mirror) tag(t testing.TB, tag string) (registry.Manifest, error) {
	t.Helper()
	return m.Manifest(t.Context(), repository, registry.Reference{Tag: tag})
}

// serve serves the mirror.
func (m *mirror) serve(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(registry.NewHandler(m.Registry, nil))
	t.Cleanup(s.Close)
	return s.URL
}

// get sends a request and reads its answer, and what went wrong on the way.
func get(t testing.TB, url string, header ...string) (status int, body []byte, headers http.Header, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, maps.Clone(resp.Header), err
}
