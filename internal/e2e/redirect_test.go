package e2e_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// With --redirect, clients get layers from the store itself, the same bytes; what
// the index holds, they get from the registry.
func TestClientsFollowRedirectsToTheStore(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store *backendtest.S3Server) {
		shared := newBackends(t, store)
		server := shared.start(t, route{}, "--redirect")
		f := getFixtures(t)
		for _, client := range copiers {
			t.Run(client.name, func(t *testing.T) {
				t.Parallel()
				tooltest.Require(t, client.name)
				s := &site{Address: server.Address, Sandbox: tooltest.NewSandbox(t), registry: &registry{url: server.URL()}}
				repository := "redirect/" + client.name
				source, target := s.Path("source"), s.Path("target")
				require.NoError(t, f.image.WriteLayout(source, "v1"))
				s.Run(t, client.name, client.push(s, source, repository)...)
				s.registry.requireTree(t, repository, "v1", &f.image.Tree)
				s.Run(t, client.name, client.pull(s, repository, target)...)
				requireLayout(t, target, &f.image.Tree)
				requireRedirects(t, s.registry, repository, shared)
			})
		}
	})
}

// requireRedirects requires that layers too large for the index, and nothing else,
// are at the store, under URLs that work on their own and for a range.
func requireRedirects(t *testing.T, r *registry, repository string, shared *backends) {
	t.Helper()
	tree := r.requireWhole(t, repository, "v1")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	redirected := 0
	for name, content := range tree.Content {
		if name == tree.Root.Digest {
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/v2/"+repository+"/blobs/"+name.String(), http.NoBody)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		if len(content) <= 64<<10 { // the index holds it
			require.Equal(t, http.StatusOK, resp.StatusCode, "a blob of %d bytes", len(content))
			continue
		}
		redirected++
		require.Equal(t, http.StatusTemporaryRedirect, resp.StatusCode, "a blob of %d bytes", len(content))
		location := resp.Header.Get("Location")
		require.True(t, strings.HasPrefix(location, shared.store.Endpoint()+"/"+shared.bucket+"/"), "the blob is in the bucket: %s", location)
		direct := &pushClient{url: shared.store.Endpoint(), http: http.DefaultClient}
		req, err = direct.request(t.Context(), http.MethodGet, location, nil, 0)
		require.NoError(t, err)
		req.Header.Set("Range", "bytes=100-199")
		_, got, err := direct.do(req, http.StatusPartialContent)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content[100:200], got), "a range of the blob")
	}
	require.Positive(t, redirected, "the blobs that are at the store")
}
