package e2e_test

import (
	"testing"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// copier is a client that copies images between OCI layouts and registries
// without changing a byte.
type copier struct {
	name string
	// requests is how many the client needs to upload a layer.
	requests int
	login    func(t *testing.T, s *site)
	push     func(s *site, layout, repository string) []string // the tag is always v1
	pull     func(s *site, repository, layout string) []string
}

var copiers = []copier{
	{
		name:     "skopeo",
		requests: 3,
		login: func(t *testing.T, s *site) {
			s.RunInput(t, password, "skopeo", "login", "--tls-verify=false", "--username", user, "--password-stdin", s.Address)
		},
		push: func(s *site, layout, repository string) []string {
			return []string{"--insecure-policy", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false",
				"oci:" + layout + ":v1", "docker://" + s.Address + "/" + repository + ":v1"}
		},
		pull: func(s *site, repository, layout string) []string {
			return []string{"--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
				"docker://" + s.Address + "/" + repository + ":v1", "oci:" + layout + ":v1"}
		},
	},
	{
		name:     "crane",
		requests: 3,
		login: func(t *testing.T, s *site) {
			s.RunInput(t, password, "crane", "auth", "login", "--username", user, "--password-stdin", s.Address)
		},
		push: func(s *site, layout, repository string) []string {
			return []string{"push", layout, s.Address + "/" + repository + ":v1"}
		},
		pull: func(s *site, repository, layout string) []string {
			return []string{"pull", "--format", "oci", s.Address + "/" + repository + ":v1", layout}
		},
	},
	{
		name:     "oras",
		requests: 2,
		login: func(t *testing.T, s *site) {
			s.RunInput(t, password, "oras", "login", "--plain-http", "--username", user, "--password-stdin", s.Address)
		},
		push: func(s *site, layout, repository string) []string {
			return []string{"cp", "--from-oci-layout", "--to-plain-http", layout + ":v1", s.Address + "/" + repository + ":v1"}
		},
		pull: func(s *site, repository, layout string) []string {
			return []string{"cp", "--from-plain-http", "--to-oci-layout", s.Address + "/" + repository + ":v1", layout + ":v1"}
		},
	},
	{
		name:     "regctl",
		requests: 2,
		login: func(t *testing.T, s *site) {
			s.Run(t, "regctl", "registry", "set", "--skip-check", "--tls", "disabled", s.Address)
			s.RunInput(t, password, "regctl", "registry", "login", "--user", user, "--pass-stdin", s.Address)
		},
		push: func(s *site, layout, repository string) []string {
			return []string{"--host", "reg=" + s.Address + ",tls=disabled", "image", "copy",
				"ocidir://" + layout + ":v1", s.Address + "/" + repository + ":v1"}
		},
		pull: func(s *site, repository, layout string) []string {
			return []string{"--host", "reg=" + s.Address + ",tls=disabled", "image", "copy",
				s.Address + "/" + repository + ":v1", "ocidir://" + layout + ":v1"}
		},
	},
}

// What a client pushes is in the registry byte for byte, and so is what it
// pulls: an image of several layers, and an index of two platforms.
func TestCopiersPushAndPullTheSameBytes(t *testing.T) {
	t.Parallel()
	for _, client := range copiers {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			tooltest.Require(t, client.name)
			eachSite(t, client.roundTrip)
			eachCluster(t, client.requests, client.roundTrip)
		})
	}
}

func (c copier) roundTrip(t *testing.T, s *site) {
	f := getFixtures(t)
	trees := []struct {
		repository string
		tree       *imagetest.Tree
	}{
		{"team/image", &f.image.Tree},
		{"team/index", f.index},
	}
	for i, each := range trees {
		source := s.Path(each.repository, "source")
		require.NoError(t, each.tree.WriteLayout(source, "v1"))
		if i == 0 {
			s.requireRefused(t, c.name, c.push(s, source, each.repository)...)
			if s.password {
				c.login(t, s)
			}
		}
		s.Run(t, c.name, c.push(s, source, each.repository)...)
		s.registry.requireTree(t, each.repository, "v1", each.tree)

		target := s.Path(each.repository, "target")
		s.Run(t, c.name, c.pull(s, each.repository, target)...)
		requireLayout(t, target, each.tree)
	}
}
