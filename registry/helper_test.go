package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/memory"
)

const (
	typeManifest = ocispec.MediaTypeImageManifest
	typeIndex    = ocispec.MediaTypeImageIndex
	indexType    = "application/vnd.oci.image.index.v1+json"
)

// server is a handler on a real connection: what net/http adds and takes is part of the protocol.
type server struct {
	URL    string
	client *http.Client
}

func serve(t testing.TB, r registry.Registry, opts *registry.HandlerOptions) *server {
	t.Helper()
	s := httptest.NewServer(registry.NewHandler(r, opts))
	t.Cleanup(s.Close)
	client := s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &server{URL: s.URL, client: client}
}

// serveLocal serves a registry in memory.
func serveLocal(t testing.TB) *server {
	t.Helper()
	return serve(t, newLocal(nil), nil)
}

func newLocal(opts *registry.LocalOptions) *registry.Local {
	return registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), opts)
}

// reply is an answer that was read.
type reply struct {
	status int
	header http.Header
	length int64 // Content-Length
	body   string
}

// send sends a request. The body is nil, a string, or an io.Reader, whose length is not announced. The headers are "Name: value".
func (s *server) send(t testing.TB, method, path string, body any, headers ...string) reply {
	t.Helper()
	resp, err := s.try(t.Context(), method, path, body, headers...)
	require.NoError(t, err, "%s %s", method, path)
	return resp
}

func (s *server) try(ctx context.Context, method, path string, body any, headers ...string) (reply, error) {
	var reader io.Reader
	switch b := body.(type) {
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	case io.Reader:
		reader = b
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, reader)
	if err != nil {
		return reply{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, resp.ContentLength, string(data)}, err
}

// codes returns the codes of an error's body, which it checks to be one.
func (r reply) codes(t testing.TB) []string {
	t.Helper()
	require.Equal(t, "application/json", r.header.Get("Content-Type"), "an error's Content-Type, of %d %s", r.status, r.body)
	var document struct {
		Errors []struct{ Code, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(r.body), &document), "an error's body: %q", r.body)
	require.NotEmpty(t, document.Errors, "an error's body: %q", r.body)
	var codes []string
	for _, e := range document.Errors {
		require.NotEmpty(t, e.Message, "an error's message")
		codes = append(codes, e.Code)
	}
	return codes
}

// wants fails unless the answer has a status and, for an error with a body, a code as its first.
func (r reply) wants(t testing.TB, status int, code ...string) reply {
	t.Helper()
	require.Equal(t, status, r.status, "status; body: %s", r.body)
	if len(code) > 0 {
		require.Equal(t, code[0], r.codes(t)[0], "code")
	}
	return r
}

// startUpload opens an upload and returns its URL.
func (s *server) startUpload(t testing.TB, repository string) string {
	t.Helper()
	r := s.send(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil).wants(t, http.StatusAccepted)
	return r.header.Get("Location")
}

// pushBlob stores a blob.
func (s *server) pushBlob(t testing.TB, repository, content string) digest.Digest {
	t.Helper()
	d := digest.FromString(content)
	s.send(t, http.MethodPut, s.startUpload(t, repository)+"?digest="+d.String(), content).wants(t, http.StatusCreated)
	return d
}

// pushManifest stores a manifest under a tag or, if the reference is "", its digest.
func (s *server) pushManifest(t testing.TB, repository, reference string, m manifest) {
	t.Helper()
	if reference == "" {
		reference = m.digest().String()
	}
	s.send(t, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, m.body, "Content-Type: "+m.mediaType).wants(t, http.StatusCreated)
}

// manifest is the bytes of a manifest, and their type.
type manifest struct {
	mediaType, body string
}

func (m manifest) digest() digest.Digest { return digest.FromString(m.body) }

func (m manifest) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: m.mediaType, Digest: m.digest(), Size: int64(len(m.body))}
}

// image stores a config and a layer, and returns a manifest of them that is not stored yet.
func (s *server) image(t testing.TB, repository, name string, change ...func(*ocispec.Manifest)) manifest {
	t.Helper()
	config, layer := `{"name":"`+name+`"}`, "layer of "+name
	s.pushBlob(t, repository, config)
	s.pushBlob(t, repository, layer)
	m := ocispec.Manifest{MediaType: typeManifest}
	m.SchemaVersion = 2
	m.Config = descriptor(ocispec.MediaTypeImageConfig, config)
	m.Layers = []ocispec.Descriptor{descriptor(ocispec.MediaTypeImageLayer, layer)}
	for _, c := range change {
		c(&m)
	}
	return marshal(t, typeManifest, m)
}

func index(t testing.TB, change func(*ocispec.Index), children ...ocispec.Descriptor) manifest {
	t.Helper()
	x := ocispec.Index{MediaType: typeIndex, Manifests: children}
	x.SchemaVersion = 2
	if children == nil {
		x.Manifests = []ocispec.Descriptor{}
	}
	if change != nil {
		change(&x)
	}
	return marshal(t, typeIndex, x)
}

func marshal(t testing.TB, mediaType string, document any) manifest {
	t.Helper()
	body, err := json.Marshal(document)
	require.NoError(t, err)
	return manifest{mediaType, string(body)}
}

func descriptor(mediaType, content string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content))}
}

// refersTo makes a manifest a referrer.
func refersTo(subject ocispec.Descriptor, artifactType string) func(*ocispec.Manifest) {
	return func(m *ocispec.Manifest) {
		m.Subject = &subject
		m.ArtifactType = artifactType
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
