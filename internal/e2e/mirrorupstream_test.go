package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// origin is a registry that others pull through from.
type origin struct {
	url string
	end func() // as kill -9 does
}

// originKinds are the registries that are tried as upstreams. Each starts an empty one.
var originKinds = map[string]func(t *testing.T) *origin{
	"distribution": startDistribution,
	"crane":        startCraneRegistry,
	"ocikit":       startOcikitOrigin,
}

// startDistribution runs a registry of the CNCF's distribution, version 3.
func startDistribution(t *testing.T) *origin {
	t.Helper()
	tooltest.Require(t, "registry")
	s, address := tooltest.NewSandbox(t), tooltest.FreeAddress(t)
	s.Env = append(s.Env, "OTEL_TRACES_EXPORTER=none")
	configuration := "version: 0.1\n" +
		"storage: {filesystem: {rootdirectory: '" + s.Path("data") + "'}}\n" +
		"http: {addr: '" + address + "'}\n"
	require.NoError(t, os.WriteFile(s.Path("registry.yml"), []byte(configuration), 0o600))
	return startOrigin(t, s, address, "registry", "serve", s.Path("registry.yml"))
}

func startCraneRegistry(t *testing.T) *origin {
	t.Helper()
	tooltest.Require(t, "crane")
	s, address := tooltest.NewSandbox(t), tooltest.FreeAddress(t)
	return startOrigin(t, s, address, "crane", "registry", "serve", "--address", address)
}

func startOrigin(t *testing.T, s *tooltest.Sandbox, address, program string, args ...string) *origin {
	t.Helper()
	// Not the test's context, which ends before the cleanups do.
	process := tooltest.StartProcess(t, s.Command(context.WithoutCancel(t.Context()), program, args...))
	o := &origin{url: "http://" + address, end: process.Kill}
	process.AwaitReady(t, func() error {
		response, err := http.Get(o.url + "/v2/")
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET /v2/: %s", response.Status)
		}
		return nil
	})
	return o
}

func startOcikitOrigin(t *testing.T) *origin {
	t.Helper()
	server := servertest.Start(t, "--data", t.TempDir())
	return &origin{url: server.URL(), end: server.Kill}
}

// pushTree pushes an image, or an index with all that it refers to, by requests that every registry has.
func pushTree(t *testing.T, url, repository, tag string, tree *imagetest.Tree) {
	t.Helper()
	p := &treePusher{client: newPushClient(url), repository: repository, tree: tree}
	p.pushManifest(t, tree.Root, tag)
}

type treePusher struct {
	client     *pushClient
	repository string
	tree       *imagetest.Tree
}

// pushManifest pushes what a manifest refers to, and then itself.
func (p *treePusher) pushManifest(t *testing.T, manifest ocispec.Descriptor, reference string) {
	t.Helper()
	content := p.tree.Content[manifest.Digest]
	children := childrenOf(t, content)
	blobs := children.Layers
	if children.Config != nil {
		blobs = append(blobs, *children.Config)
	}
	for _, blob := range blobs {
		p.pushBlob(t, blob.Digest)
	}
	for _, child := range children.Manifests {
		p.pushManifest(t, child, child.Digest.String())
	}
	require.NoError(t, p.client.putManifest(t.Context(), p.repository, reference, manifest.MediaType, content))
}

func (p *treePusher) pushBlob(t *testing.T, name digest.Digest) {
	t.Helper()
	content := p.tree.Content[name]
	location, err := p.client.start(t.Context(), p.repository)
	require.NoError(t, err)
	require.NoError(t, p.client.finish(t.Context(), location, name, bytes.NewReader(content), 0, int64(len(content))))
}

// childrenOf returns what a manifest refers to.
func childrenOf(t *testing.T, manifest []byte) (children references) {
	t.Helper()
	require.NoError(t, json.Unmarshal(manifest, &children), "a manifest: %s", manifest)
	return children
}
