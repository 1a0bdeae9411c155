package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// mirrorClient is a client program that pulls through.
type mirrorClient struct {
	name  string
	needs []string // programs
	root  bool
	// start readies it in a sandbox that has never seen an image.
	start func(t *testing.T, s *site) imageClient
}

// imageClient is a client program in its sandbox. The tag is always v1.
type imageClient interface {
	// pull requires that a repository gives the client the index of the fixtures, or its image for this machine.
	pull(t *testing.T, repository string)
	// push pushes the same to another repository, and forgets what was pulled before.
	push(t *testing.T, from, to string)
}

var mirrorClients = []mirrorClient{
	{name: "docker", needs: []string{"dockerd", "docker"}, root: true, start: func(t *testing.T, s *site) imageClient {
		t.Helper()
		startDocker(t, s)
		return dockerClient{s}
	}},
	{name: "podman", needs: []string{"podman", "runc"}, root: true, start: func(t *testing.T, s *site) imageClient {
		t.Helper()
		s.isolateContainers(t)
		return podmanClient{s}
	}},
	{name: "containerd", needs: []string{"containerd", "ctr"}, root: true, start: func(t *testing.T, s *site) imageClient {
		t.Helper()
		return containerdClient{s, startContainerd(t, s)}
	}},
	mirrorCopier("skopeo"), mirrorCopier("crane"), mirrorCopier("oras"),
}

func mirrorCopier(name string) mirrorClient {
	return mirrorClient{name: name, needs: []string{name}, start: func(t *testing.T, s *site) imageClient {
		t.Helper()
		for _, each := range copiers {
			if each.name == name {
				return copierClient{s, each}
			}
		}
		t.Fatalf("there is no copier %s", name)
		return nil
	}}
}

// require ends the test as tooltest.Require does, if something is missing.
func (c *mirrorClient) require(t *testing.T) {
	t.Helper()
	for _, program := range c.needs {
		tooltest.Require(t, program)
	}
	if c.root {
		tooltest.RequireRoot(t)
	}
}

// startFresh starts it with nothing that another one has left.
func (c *mirrorClient) startFresh(t *testing.T, m *mirror) imageClient {
	t.Helper()
	return c.start(t, &site{Address: m.Address, Sandbox: tooltest.NewSandbox(t), registry: &registry{url: m.URL()}})
}

// configurationOf is the digest of an image's configuration, which engines know the image by.
func configurationOf(t *testing.T, image *imagetest.Image) string {
	t.Helper()
	return childrenOf(t, image.Content[image.Root.Digest]).Config.Digest.String()
}

type dockerClient struct{ *site }

func (c dockerClient) pull(t *testing.T, repository string) {
	t.Helper()
	f, name := getFixtures(t), c.Address+"/"+repository+":v1"
	c.Run(t, "docker", "pull", name)
	require.Equal(t, configurationOf(t, f.image), c.Run(t, "docker", "image", "inspect", "--format", "{{.Id}}", name),
		"the id of the image of %s for this machine", repository)
	require.Equal(t, f.image.Output, c.Run(t, "docker", "run", "--rm", "--network", "none", name))
}

func (c dockerClient) push(t *testing.T, from, to string) {
	t.Helper()
	c.Run(t, "docker", "tag", c.Address+"/"+from+":v1", c.Address+"/"+to+":v1")
	c.Run(t, "docker", "push", c.Address+"/"+to+":v1")
	c.Run(t, "docker", "rmi", "--force", configurationOf(t, getFixtures(t).image))
}

type podmanClient struct{ *site }

func (c podmanClient) pull(t *testing.T, repository string) {
	t.Helper()
	f := getFixtures(t)
	id := c.Run(t, "podman", "pull", "--quiet", "--tls-verify=false", c.Address+"/"+repository+":v1")
	require.Equal(t, configurationOf(t, f.image), "sha256:"+id, "the id of the image of %s for this machine", repository)
	require.Equal(t, f.image.Output, c.runWithPodman(t, id))
}

func (c podmanClient) push(t *testing.T, from, to string) {
	t.Helper()
	c.Run(t, "podman", "push", "--tls-verify=false", c.Address+"/"+from+":v1", "docker://"+c.Address+"/"+to+":v1")
	c.Run(t, "podman", "rmi", "--force", c.Address+"/"+from+":v1")
}

type containerdClient struct {
	*site
	ctr func(args ...string) []string
}

func (c containerdClient) pull(t *testing.T, repository string) {
	t.Helper()
	name := c.Address + "/" + repository + ":v1"
	c.Run(t, "ctr", c.ctr("images", "pull", "--plain-http", "--all-platforms", "--snapshotter", "native", name)...)
	c.requireExported(t, name)
}

// requireExported requires that an image is, with all platforms, the index of the fixtures.
func (c containerdClient) requireExported(t *testing.T, name string) {
	t.Helper()
	archive, layout := c.Path("exported.tar"), c.Path("exported")
	c.Run(t, "ctr", c.ctr("images", "export", "--all-platforms", archive, name)...)
	require.NoError(t, os.RemoveAll(layout))
	require.NoError(t, os.Mkdir(layout, 0o700))
	c.Run(t, "tar", "-C", layout, "-xf", archive)
	requireLayout(t, layout, getFixtures(t).index)
}

func (c containerdClient) push(t *testing.T, from, to string) {
	t.Helper()
	source, target := c.Address+"/"+from+":v1", c.Address+"/"+to+":v1"
	c.Run(t, "ctr", c.ctr("images", "tag", source, target)...)
	c.Run(t, "ctr", c.ctr("images", "push", "--plain-http", target)...)
	c.Run(t, "ctr", c.ctr("images", "rm", "--sync", source, target)...)
	require.Empty(t, c.Run(t, "ctr", c.ctr("content", "ls", "--quiet")...), "the content goes with its images")
}

type copierClient struct {
	*site
	copier
}

func (c copierClient) pull(t *testing.T, repository string) {
	t.Helper()
	target := c.Path(repository)
	require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o700)) // which skopeo does not make
	c.Run(t, c.name, c.copier.pull(c.site, repository, target)...)
	requireLayout(t, target, getFixtures(t).index)
}

func (c copierClient) push(t *testing.T, _, to string) {
	t.Helper()
	source := c.Path("source")
	require.NoError(t, getFixtures(t).index.WriteLayout(source, "v1"))
	c.Run(t, c.name, c.copier.push(c.site, source, to)...)
}
