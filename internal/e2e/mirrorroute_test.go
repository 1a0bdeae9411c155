package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// containerd asks a mirror for an image of another registry, which it names in each request: it gets it through the upstream that
// is called so, and also when that has gone.
func TestContainerdPullsFromItsMirror(t *testing.T) {
	t.Parallel()
	client := mirrorClient{needs: []string{"containerd", "ctr"}, root: true}
	client.require(t)
	upstream := startOcikitOrigin(t)
	pushTree(t, upstream.url, "library/app", "v1", getFixtures(t).index)
	m := startMirror(t, hub(upstream.url, "namespace: registry.example.com", "tag-age: 0s"))
	for i, when := range []string{"while the upstream is there", "when it has gone"} {
		s := &site{Address: m.Address, Sandbox: tooltest.NewSandbox(t), registry: &registry{url: m.URL()}}
		c := containerdClient{s, startContainerd(t, s)}
		hosts := s.Path("hosts", "registry.example.com", "hosts.toml")
		require.NoError(t, os.MkdirAll(filepath.Dir(hosts), 0o700))
		require.NoError(t, os.WriteFile(hosts, []byte("server = \"https://registry.example.com\"\n"+
			"[host.\""+m.URL()+"\"]\ncapabilities = [\"pull\", \"resolve\"]\n"), 0o600))
		const name = "registry.example.com/library/app:v1"
		_, err := s.Try(t, "ctr", c.ctr("images", "pull", "--hosts-dir", s.Path("hosts"), "--all-platforms", "--snapshotter", "native", name)...)
		require.NoError(t, err, when)
		c.requireExported(t, name)
		if i == 0 {
			m.awaitKept(t)
			upstream.end()
		}
	}
}

// Clients push an image to a name that falls through, and whose layers the upstream has under it: what a client does not push,
// since it is told that it is there, is linked, and stays when the upstream has gone.
func TestClientsPushWhatTheUpstreamHasInPart(t *testing.T) {
	t.Parallel()
	for _, client := range copiers {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			tooltest.Require(t, client.name)
			f := getFixtures(t)
			upstream := startOcikitOrigin(t)
			pushTree(t, upstream.url, "library/app", "theirs", &f.image.Tree)
			m := startMirror(t, fallThrough(upstream.url))
			s := &site{Address: m.Address, Sandbox: tooltest.NewSandbox(t), registry: &registry{url: m.URL()}}
			source, target := s.Path("source"), s.Path("target")
			require.NoError(t, f.index.WriteLayout(source, "v1"))
			s.Run(t, client.name, client.push(s, source, "library/app")...)
			upstream.end()
			s.registry.requireTree(t, "library/app", "v1", f.index)
			s.Run(t, client.name, client.pull(s, "library/app", target)...)
			requireLayout(t, target, f.index)
			require.Positive(t, m.metric(t, "ocikit_upstream_requests_total", `kind="blob"`, `outcome="fetched"`),
				"blobs that the client did not push, and that came from the upstream")
		})
	}
}
