package main

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store/memory"
)

func start(t *testing.T) string {
	t.Helper()
	handler, err := newService(accounts{sha256.Sum256([]byte("key-of-alice")): "alice", sha256.Sum256([]byte("key-of-bob")): "bob"},
		memory.NewMetadata(nil), memory.NewObjects(nil))
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// do sends a request as a user, whose key is key-of-user, and returns status and body.
func do(t *testing.T, user, method, url, mediaType, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", mediaType)
	if user != "" {
		r.SetBasicAuth(user, "key-of-"+user)
		r.Header.Set("X-API-Key", "key-of-"+user)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

const (
	indexType = "application/vnd.oci.image.index.v1+json"
	index     = `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[]}`
)

func TestWhatOneAccountPushesOnlyItPulls(t *testing.T) {
	t.Parallel()
	url := start(t)
	blob := digest.FromString("a layer").String()
	status, body := do(t, "alice", http.MethodPost, url+"/v2/alice/app/blobs/uploads/?digest="+blob, "application/octet-stream", "a layer")
	require.Equal(t, http.StatusCreated, status, body)
	status, body = do(t, "alice", http.MethodPut, url+"/v2/alice/app/manifests/v1", indexType, index)
	require.Equal(t, http.StatusCreated, status, body)

	for path, want := range map[string]string{"/v2/alice/app/blobs/" + blob: "a layer", "/v2/alice/app/manifests/v1": index} {
		status, body = do(t, "alice", http.MethodGet, url+path, "", "")
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, want, body)
		status, _ = do(t, "bob", http.MethodGet, url+path, "", "")
		assert.Equal(t, http.StatusForbidden, status)
		status, _ = do(t, "", http.MethodGet, url+path, "", "")
		assert.Equal(t, http.StatusUnauthorized, status)
	}
	status, _ = do(t, "bob", http.MethodPut, url+"/v2/alice/app/manifests/v1", indexType, index)
	assert.Equal(t, http.StatusForbidden, status)
	status, _ = do(t, "bob", http.MethodPut, url+"/v2/alice2/app/manifests/v1", indexType, index)
	assert.Equal(t, http.StatusForbidden, status)

	status, body = do(t, "alice", http.MethodGet, url+"/images", "", "")
	assert.Equal(t, http.StatusOK, status)
	assert.JSONEq(t, `["alice/app"]`, body)
	_, body = do(t, "bob", http.MethodGet, url+"/images", "", "")
	assert.JSONEq(t, `[]`, body)
}

func TestTheRegistryAndTheServiceHaveOneLogin(t *testing.T) {
	t.Parallel()
	url := start(t)
	for _, path := range []string{"/v2/", "/v2", "/images"} {
		for user, want := range map[string]int{"alice": http.StatusOK, "mallory": http.StatusUnauthorized, "": http.StatusUnauthorized} {
			status, _ := do(t, user, http.MethodGet, url+path, "", "")
			assert.Equal(t, want, status, "%s as %q", path, user)
		}
	}
}
