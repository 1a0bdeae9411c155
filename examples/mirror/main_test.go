package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/memory"
)

func TestWhatIsNotHereIsPulledThrough(t *testing.T) {
	t.Parallel()
	elsewhere := registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil)
	origin := httptest.NewServer(registry.NewHandler(elsewhere, nil))
	defer origin.Close()
	content := []byte("a layer")
	d := digest.FromBytes(content)
	_, err := elsewhere.PushBlob(t.Context(), "library/alpine", d, bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)

	handler, closeAll, err := newRegistry(origin.URL, memory.NewMetadata(nil), memory.NewObjects(nil), gc.NewPulls(0))
	require.NoError(t, err)
	defer closeAll()
	server := httptest.NewServer(handler)
	defer server.Close()
	for path, want := range map[string]int{
		"/v2/hub/alpine/blobs/": 200, "/v2/hub/library/alpine/blobs/": 200, "/v2/library/alpine/blobs/": 200, "/v2/alpine/blobs/": 200, "/v2/team/app/blobs/": 404,
	} {
		response, err := http.Get(server.URL + path + d.String())
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, response.StatusCode, path)
	}
}
