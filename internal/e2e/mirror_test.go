package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Every client pulls an index of two platforms through, pushes to the same server and pulls that, and pulls through
// again, with a memory of nothing, when the upstream has gone: from every kind of upstream.
func TestClientsPullThroughAlsoWhenTheUpstreamHasGone(t *testing.T) {
	t.Parallel()
	for kind, start := range originKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, client := range mirrorClients {
				t.Run(client.name, func(t *testing.T) {
					t.Parallel()
					client.require(t)
					requirePulledThrough(t, &client, start(t))
				})
			}
		})
	}
}

func requirePulledThrough(t *testing.T, client *mirrorClient, upstream *origin) {
	t.Helper()
	const mirrored, own = "hub/library/app", "team/own"
	pushTree(t, upstream.url, "library/app", "v1", getFixtures(t).index)
	m := startMirror(t, hub(upstream.url, "tag-age: 0s")) // so that the upstream is asked for each tag
	first := client.startFresh(t, m)
	first.pull(t, mirrored)
	first.push(t, mirrored, own)
	local := (&registry{url: m.URL()}).requireWhole(t, own, "v1")
	first.pull(t, own)

	m.awaitKept(t)
	fetched := m.metric(t, "ocikit_upstream_requests_total", `outcome="fetched"`)
	require.GreaterOrEqual(t, fetched, 6.0, "what came from the upstream and was kept: at least an index, a manifest, a configuration, 3 layers")
	upstream.end()
	client.startFresh(t, m).pull(t, mirrored)
	require.Positive(t, m.metric(t, "ocikit_upstream_requests_total", `outcome="stale"`), "tags that the upstream could not confirm")
	require.InDelta(t, fetched, m.metric(t, "ocikit_upstream_requests_total", `outcome="fetched"`), 0, "nothing can have come any more")
	(&registry{url: m.URL()}).requireTree(t, own, "v1", local)
}
