package e2e_test

import (
	"context"
	"os"
	"testing"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// startContainerd runs a containerd of the test's own, without the parts that
// Kubernetes needs, and returns how to call ctr for it.
func startContainerd(t *testing.T, s *site) (ctr func(args ...string) []string) {
	t.Helper()
	configuration := "version = 2\n" +
		"root = \"" + s.Path("data") + "\"\n" +
		"state = \"" + s.Path("state") + "\"\n" +
		"disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n" +
		"[grpc]\naddress = \"" + s.Path("containerd.sock") + "\"\n"
	require.NoError(t, os.WriteFile(s.Path("containerd.toml"), []byte(configuration), 0o600))
	// Not the test's context, which ends before the cleanups ask containerd to end.
	cmd := s.Command(context.WithoutCancel(t.Context()), "containerd", "--config", s.Path("containerd.toml"))
	process := tooltest.StartProcess(t, cmd)
	ctr = func(args ...string) []string {
		return append([]string{"--address", s.Path("containerd.sock")}, args...)
	}
	process.AwaitReady(t, func() error {
		_, err := s.Try(t, "ctr", ctr("version")...)
		return err
	})
	return ctr
}

// What containerd pushes and pulls has the digests that it was made with, an
// image as well as an index of two platforms, and the image runs.
func TestContainerdRunsWhatItPulls(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "containerd")
	tooltest.Require(t, "ctr")
	tooltest.RequireRoot(t)
	f := getFixtures(t)
	eachSite(t, func(t *testing.T, s *site) {
		ctr := startContainerd(t, s)
		for repository, tree := range map[string]*imagetest.Tree{"team/image": &f.image.Tree, "team/index": f.index} {
			name := s.Address + "/" + repository + ":v1"
			archive := s.Path("archive.tar")
			require.NoError(t, tree.WriteArchive(archive, "v1", name))
			s.Run(t, "ctr", ctr("images", "import", "--all-platforms", "--no-unpack", archive)...)

			s.requireRefused(t, "ctr", ctr("images", "push", "--plain-http", name)...)
			s.Run(t, "ctr", ctr(s.withUser("images", "push", "--plain-http", name)...)...)
			s.registry.requireTree(t, repository, "v1", tree)

			s.Run(t, "ctr", ctr("images", "rm", "--sync", name)...)
			require.Empty(t, s.Run(t, "ctr", ctr("content", "ls", "--quiet")...), "the content goes with the image")
			s.Run(t, "ctr", ctr(s.withUser("images", "pull", "--plain-http", "--all-platforms", "--snapshotter", "native", name)...)...)
			exported := s.Path("exported.tar")
			s.Run(t, "ctr", ctr("images", "export", "--all-platforms", exported, name)...)
			layout := s.Path(repository)
			require.NoError(t, os.MkdirAll(layout, 0o700))
			s.Run(t, "tar", "-C", layout, "-xf", exported)
			requireLayout(t, layout, tree)

			require.Equal(t, f.image.Output,
				s.Run(t, "ctr", ctr("run", "--rm", "--snapshotter", "native", name, "hello")...))
			s.Run(t, "ctr", ctr("images", "rm", "--sync", name)...)
		}
	})
}

// withUser adds the credentials, which ctr takes with every command.
func (s *site) withUser(args ...string) []string {
	if !s.password {
		return args
	}
	return append(args[:2:2], append([]string{"--user", user + ":" + password}, args[2:]...)...)
}
