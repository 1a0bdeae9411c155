package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// minimumCasesWithoutDelete is what the suite runs, at the least, if it may not delete.
const minimumCasesWithoutDelete = 590

// fallThrough has every name lead to the local registry, and to an upstream where that has nothing.
func fallThrough(url string, settings ...string) []string {
	return append(hub(url, settings...), "routes: [{to: [local, hub]}]")
}

// TestConformanceOfFallThrough runs the whole suite where all that is not local is looked for upstream, too. What it pushes
// goes where writes go, to the local registry; the upstream has content of other names, and must make no difference.
func TestConformanceOfFallThrough(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "conformance")
	upstream := startOcikitOrigin(t)
	pushTree(t, upstream.url, "library/app", "v1", newPlainTree(t, 41, 100))
	m := startMirror(t, fallThrough(upstream.url))
	requireConformance(t, m.Address, nil, minimumCases)
	(&registry{url: m.URL()}).requireWhole(t, "library/app", "v1")
}

// TestConformanceOfPullingThrough runs the suite's pull half where nothing is local. The suite has a mode for registries that
// are read only, but looks at no bytes in it, and ends in a panic. So it runs as ever, and a proxy parts what it asks:
// what pushes goes to the upstream, and what pulls to a server that falls through to there. It deletes nothing, since what has
// been pulled through can be pulled by its digest whatever becomes of it upstream.
func TestConformanceOfPullingThrough(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "conformance")
	upstream := startOcikitOrigin(t)
	m := startMirror(t, fallThrough(upstream.url, "tag-age: 0s", "missing-age: 0s")) // so that what was just pushed is seen
	proxy := newPartingProxy(t, m.URL(), upstream.url)
	suite, err := reportConformance(t, proxy, map[string]string{
		"OCI_API_BLOBS_DELETE": "false", "OCI_API_MANIFESTS_DELETE": "false", "OCI_API_TAGS_DELETE": "false",
	})
	require.NoError(t, err)
	passed := 0
	for _, each := range suite.Cases {
		if each.Status == "passed" {
			passed++
		} else {
			require.Contains(t, each.Name, "-delete", "the case is %s, and only deleting may be left out: %s", each.Status, each.Message)
		}
	}
	require.GreaterOrEqual(t, passed, minimumCasesWithoutDelete, "the number of test cases that passed")
	require.Positive(t, m.metric(t, "ocikit_upstream_requests_total", `outcome="fetched"`), "what was pulled through")
}

// newPartingProxy returns the address of a proxy that sends what pushes elsewhere.
func newPartingProxy(t *testing.T, pull, push string) string {
	t.Helper()
	var proxies []*httputil.ReverseProxy
	for _, target := range []string{pull, push} {
		to, err := url.Parse(target)
		require.NoError(t, err)
		proxies = append(proxies, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which locations are made of
		}})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead || strings.Contains(r.URL.Path, "/blobs/uploads/") {
			proxies[1].ServeHTTP(w, r)
			return
		}
		proxies[0].ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}
