package e2e_test

import (
	"context"
	"testing"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// startDocker runs a Docker Engine of the test's own, without a network, and
// points the sandbox's docker client at it.
func startDocker(t *testing.T, s *site) {
	t.Helper()
	socket := "unix://" + s.Path("docker.sock")
	// Not the test's context, which ends before the cleanups: the engine is asked to
	// end, so that it ends its containerd too.
	cmd := s.Command(context.WithoutCancel(t.Context()), "dockerd",
		"--host", socket,
		"--data-root", s.Path("data"),
		"--exec-root", s.Path("exec"),
		"--pidfile", s.Path("docker.pid"),
		"--storage-driver", "vfs", // mounts nothing, so nothing stays mounted
		"--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none")
	s.Env = append(s.Env, "DOCKER_HOST="+socket, "DOCKER_BUILDKIT=0", "DOCKER_CLI_EXPERIMENTAL=enabled")
	process := tooltest.StartProcess(t, cmd)
	process.AwaitReady(t, func() error {
		_, err := s.Try(t, "docker", "version")
		return err
	})
}

// An image that docker built and pushed comes back as the same image, by
// digest, and runs; so does the one for this platform out of a manifest list.
func TestDockerRunsWhatItPulls(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "dockerd")
	tooltest.Require(t, "docker")
	tooltest.RequireRoot(t)
	f := getFixtures(t)
	test := func(t *testing.T, s *site) {
		startDocker(t, s)
		folder := s.Path("context")
		require.NoError(t, f.image.WriteBuildContext(folder))
		name := s.Address + "/team/docker"
		s.Run(t, "docker", "build", "--quiet", "--tag", name+":v1", folder)
		id := s.Run(t, "docker", "image", "inspect", "--format", "{{.Id}}", name+":v1")

		s.requireRefused(t, "docker", "push", name+":v1")
		if s.password {
			s.RunInput(t, password, "docker", "login", "--username", user, "--password-stdin", s.Address)
		}
		s.Run(t, "docker", "push", name+":v1")
		tree := s.registry.requireWhole(t, "team/docker", "v1")
		require.Len(t, tree.Content, len(f.image.Files)+2, "a layer for each file, the configuration and the manifest")
		require.Contains(t, tree.Content, imagetest.Digest(id), "the image's id is the digest of its configuration")

		byDigest := name + "@" + tree.Root.Digest.String()
		s.Run(t, "docker", "rmi", "--force", id)
		s.Run(t, "docker", "pull", byDigest)
		require.Equal(t, id, s.Run(t, "docker", "image", "inspect", "--format", "{{.Id}}", byDigest))
		require.Equal(t, f.image.Output, s.Run(t, "docker", "run", "--rm", "--network", "none", byDigest))

		s.pushManifestList(t, name, byDigest)
		s.registry.requireWhole(t, "team/docker", "list")
		s.Run(t, "docker", "rmi", "--force", id)
		s.Run(t, "docker", "pull", name+":list")
		require.Equal(t, id, s.Run(t, "docker", "image", "inspect", "--format", "{{.Id}}", name+":list"))
		require.Equal(t, f.image.Output, s.Run(t, "docker", "run", "--rm", "--network", "none", name+":list"))
	}
	eachSite(t, test)
	eachCluster(t, 3, test)
}

// pushManifestList pushes a list of two platforms: the image's own, and another
// one with an image that differs from it.
func (s *site) pushManifestList(t *testing.T, name, image string) {
	t.Helper()
	s.RunInput(t, "FROM "+image+"\nENV ELSEWHERE=yes\n", "docker", "build", "--quiet", "--tag", name+":elsewhere", "-")
	s.Run(t, "docker", "push", name+":elsewhere")
	s.Run(t, "docker", "manifest", "create", "--insecure", name+":list", image, name+":elsewhere")
	s.Run(t, "docker", "manifest", "annotate", "--os", "linux", "--arch", "s390x", name+":list", name+":elsewhere")
	s.Run(t, "docker", "manifest", "push", "--insecure", name+":list")
	s.Run(t, "docker", "rmi", "--force", name+":elsewhere")
}
