package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/memory"
)

func TestRegistryRedirectsPullsToTheBucket(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		objects := newObjects(t, newClient(server, ""), server.Bucket(t), nil)
		local := registry.NewLocal(memory.NewMetadata(nil), objects, &registry.LocalOptions{Redirect: objects.PresignGet})
		front := httptest.NewServer(registry.NewHandler(local, nil))
		t.Cleanup(front.Close)
		layer := string(pattern(1, 300_000)) // more than what is kept inline
		d := digest.FromString(layer)
		pushed, err := http.Post(front.URL+"/v2/team/app/blobs/uploads/?digest="+d.String(), "application/octet-stream", strings.NewReader(layer))
		require.NoError(t, err)
		require.NoError(t, pushed.Body.Close())
		require.Equal(t, http.StatusCreated, pushed.StatusCode)

		for header, want := range map[string]string{"": layer, "bytes=1000-1999": layer[1000:2000]} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/v2/team/app/blobs/"+d.String(), http.NoBody)
			require.NoError(t, err)
			if header != "" {
				r.Header.Set("Range", header)
			}
			pulled, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			got, err := io.ReadAll(pulled.Body)
			require.NoError(t, err)
			require.NoError(t, pulled.Body.Close())
			require.Equal(t, server.Endpoint(), "http://"+pulled.Request.URL.Host, "the content comes from the bucket itself")
			require.True(t, bytes.Equal([]byte(want), got), "the bucket serves what was pushed (range %q)", header)
		}
	})
}
