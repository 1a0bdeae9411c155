package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// isolateContainers gives podman and buildah a storage and a trust policy of
// the sandbox's.
func (s *site) isolateContainers(t *testing.T) {
	t.Helper()
	files := map[string]string{
		s.Path(".config", "containers", "policy.json"): `{"default":[{"type":"insecureAcceptAnything"}]}`,
		s.Path(".config", "containers", "storage.conf"): "[storage]\n" +
			"driver = \"vfs\"\n" + // the slowest, and the one that mounts nothing
			"graphroot = \"" + s.Path("storage") + "\"\n" +
			"runroot = \"" + s.Path("run", "storage") + "\"\n",
		s.Path(".config", "containers", "registries.conf"): "unqualified-search-registries = []\n",
		s.Path(".config", "containers", "containers.conf"): "[engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n",
		s.Path("auth.json"): "{}",
	}
	for path, content := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	s.Env = append(s.Env,
		"CONTAINERS_STORAGE_CONF="+s.Path(".config", "containers", "storage.conf"),
		"CONTAINERS_REGISTRIES_CONF="+s.Path(".config", "containers", "registries.conf"),
		"CONTAINERS_CONF="+s.Path(".config", "containers", "containers.conf"),
		"REGISTRY_AUTH_FILE="+s.Path("auth.json"),
	)
}

// An image that podman pushed comes back as the same image, by digest, and
// runs; so does the one for this platform out of an index.
func TestPodmanRunsWhatItPulls(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "podman")
	tooltest.Require(t, "runc")
	tooltest.RequireRoot(t)
	f := getFixtures(t)
	test := func(t *testing.T, s *site) {
		s.isolateContainers(t)
		layout := s.Path("layout")
		require.NoError(t, f.image.WriteLayout(layout, "v1"))
		id := s.Run(t, "podman", "pull", "--quiet", "oci:"+layout+":v1")

		name := s.Address + "/team/podman"
		push := []string{"push", "--tls-verify=false", "--digestfile", s.Path("digest"), id, name + ":v1"}
		s.requireRefused(t, "podman", push...)
		s.loginTo(t, "podman")
		s.Run(t, "podman", push...)
		pushed := s.registry.requireWhole(t, "team/podman", "v1").Root.Digest.String()
		told, err := os.ReadFile(s.Path("digest"))
		require.NoError(t, err)
		require.Equal(t, pushed, string(told), "the digest that podman says it pushed")

		s.Run(t, "podman", "rmi", "--force", id)
		pulled := s.Run(t, "podman", "pull", "--quiet", "--tls-verify=false", name+"@"+pushed)
		require.Equal(t, id, pulled, "the image's id is the digest of its configuration")
		require.Equal(t, f.image.Output, s.runWithPodman(t, pulled))

		s.Run(t, "podman", "rmi", "--force", pulled)
		s.Run(t, "podman", "manifest", "create", "both")
		s.Run(t, "podman", "manifest", "add", "--tls-verify=false", "both", "docker://"+name+":v1")
		s.Run(t, "podman", "manifest", "push", "--all", "--tls-verify=false", "both", "docker://"+name+":index")
		s.registry.requireWhole(t, "team/podman", "index")
		pulled = s.Run(t, "podman", "pull", "--quiet", "--tls-verify=false", name+":index")
		require.Equal(t, id, pulled, "the image for %s out of the index", runtime.GOARCH)
		require.Equal(t, f.image.Output, s.runWithPodman(t, pulled))
	}
	eachSite(t, test)
	eachCluster(t, 3, test)
}

// An image that buildah built and pushed comes back as the same image, with the
// same files; so does the one for this platform out of an index.
func TestBuildahPullsWhatItPushed(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "buildah")
	tooltest.RequireRoot(t)
	f := getFixtures(t)
	eachSite(t, func(t *testing.T, s *site) {
		s.isolateContainers(t)
		folder := s.Path("context")
		require.NoError(t, f.image.WriteBuildContext(folder))
		s.Run(t, "buildah", "bud", "--isolation", "chroot", "--layers", "--quiet", "--tag", "built", folder)
		id := s.Run(t, "buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", "built")

		name := s.Address + "/team/buildah"
		push := []string{"push", "--quiet", "--tls-verify=false", "--digestfile", s.Path("digest"), "built", "docker://" + name + ":v1"}
		s.requireRefused(t, "buildah", push...)
		s.loginTo(t, "buildah")
		s.Run(t, "buildah", push...)
		tree := s.registry.requireWhole(t, "team/buildah", "v1")
		told, err := os.ReadFile(s.Path("digest"))
		require.NoError(t, err)
		require.Equal(t, tree.Root.Digest.String(), string(told), "the digest that buildah says it pushed")
		require.Len(t, tree.Content, len(f.image.Files)+2, "a layer for each file, the configuration and the manifest")

		s.Run(t, "buildah", "rmi", "--all", "--force")
		pulled := s.Run(t, "buildah", "pull", "--quiet", "--tls-verify=false", name+"@"+tree.Root.Digest.String())
		require.Equal(t, id, pulled, "the image's id is the digest of its configuration")
		container := s.Run(t, "buildah", "from", pulled)
		mounted := s.Run(t, "buildah", "mount", container)
		for _, file := range f.image.Files {
			content, err := os.ReadFile(filepath.Join(mounted, file.Path))
			require.NoError(t, err)
			require.True(t, bytes.Equal(file.Content, content), "%s must be what was built", file.Path)
		}
		s.Run(t, "buildah", "rm", "--all")

		s.Run(t, "buildah", "manifest", "create", "both")
		s.Run(t, "buildah", "manifest", "add", "--tls-verify=false", "both", "docker://"+name+":v1")
		s.Run(t, "buildah", "manifest", "push", "--all", "--tls-verify=false", "both", "docker://"+name+":index")
		s.registry.requireWhole(t, "team/buildah", "index")
		s.Run(t, "buildah", "rmi", "--all", "--force")
		pulled = s.Run(t, "buildah", "pull", "--quiet", "--tls-verify=false", name+":index")
		require.Equal(t, id, pulled, "the image for %s out of the index", runtime.GOARCH)
	})
}

// loginTo logs podman or buildah in, where the site asks for it.
func (s *site) loginTo(t *testing.T, tool string) {
	t.Helper()
	if s.password {
		s.RunInput(t, password, tool, "login", "--tls-verify=false", "--username", user, "--password-stdin", s.Address)
	}
}

// runWithPodman runs an image without a network: podman's own would change the
// routing of the machine that tests.
func (s *site) runWithPodman(t *testing.T, image string) string {
	t.Helper()
	return s.Run(t, "podman", "--runtime", "runc", "run", "--rm", "--network", "none",
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", image)
}
