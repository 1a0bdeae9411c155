package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// upstreamsOfNoUse are what an upstream may be that has nothing, or gives nothing. Each returns its URL.
var upstreamsOfNoUse = map[string]func(t *testing.T) string{
	"closed": func(t *testing.T) string {
		t.Helper()
		return "http://" + tooltest.FreeAddress(t)
	},
	"silent": func(t *testing.T) string {
		t.Helper()
		return startAnswering(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	},
	"401": func(t *testing.T) string {
		t.Helper()
		return startAnswering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="theirs"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
	},
	"403": func(t *testing.T) string {
		t.Helper()
		return startAnswering(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	},
}

func startAnswering(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.URL
}

// Clients push to a name that falls through, and ask before what is there already. An upstream that is down, hangs, or refuses does not
// keep them from pushing to a repository that is local, nor one that refuses from pushing to a new one: that is what registries say of
// names that they do not have.
func TestClientsPushThoughTheUpstreamIsOfNoUse(t *testing.T) {
	t.Parallel()
	for kind, start := range upstreamsOfNoUse {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, client := range copiers {
				t.Run(client.name, func(t *testing.T) {
					t.Parallel()
					tooltest.Require(t, client.name)
					f := getFixtures(t)
					m := startMirror(t, fallThrough(start(t)))
					s := &site{Address: m.Address, Sandbox: tooltest.NewSandbox(t), registry: &registry{url: m.URL()}}
					source := s.Path("source")
					require.NoError(t, f.index.WriteLayout(source, "v1"))
					pushTree(t, m.URL(), "team/local", "v0", newPlainTree(t, 61, 100))
					repositories := []string{"team/local"}
					if kind == "401" || kind == "403" {
						repositories = append(repositories, "team/new")
					}
					for _, repository := range repositories {
						s.Run(t, client.name, client.push(s, source, repository)...)
						s.registry.requireTree(t, repository, "v1", f.index)
						target := s.Path(strings.ReplaceAll(repository, "/", "-"))
						s.Run(t, client.name, client.pull(s, repository, target)...)
						requireLayout(t, target, f.index)
					}
				})
			}
		})
	}
}

// While an upstream is down that may have a repository, nobody can say that there are no such manifests. Blobs can be pushed all the same,
// and so can manifests, by whoever does not ask for them before.
func TestNewRepositoriesCanBePushedWhileTheUpstreamIsDown(t *testing.T) {
	t.Parallel()
	m := startMirror(t, fallThrough(upstreamsOfNoUse["closed"](t)))
	tree := newPlainTree(t, 62, 100)
	asked := func(method, path string) int {
		request, err := http.NewRequestWithContext(t.Context(), method, m.URL()+"/v2/team/new/"+path, http.NoBody)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode
	}
	layer := childrenOf(t, tree.Content[tree.Root.Digest]).Layers[0].Digest.String()
	require.Equal(t, http.StatusNotFound, asked(http.MethodHead, "blobs/"+layer), "so that it is pushed")
	require.Equal(t, http.StatusServiceUnavailable, asked(http.MethodGet, "blobs/"+layer), "the upstream may have it")
	require.Equal(t, http.StatusServiceUnavailable, asked(http.MethodHead, "manifests/v1"), "the upstream may have it")
	pushTree(t, m.URL(), "team/new", "v1", tree)
	require.Equal(t, http.StatusOK, asked(http.MethodHead, "manifests/v1"))
	require.Equal(t, http.StatusNotFound, asked(http.MethodHead, "manifests/v2"), "it is a local one from here on")
}
