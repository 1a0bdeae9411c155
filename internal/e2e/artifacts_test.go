package e2e_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/ocikit/ocikit/internal/tooltest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// A chart that helm pushed comes back as the same archive.
func TestHelmPullsTheChartThatItPushed(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "helm")
	eachSite(t, func(t *testing.T, s *site) {
		chart := s.Path("greeter")
		require.NoError(t, os.MkdirAll(filepath.Join(chart, "templates"), 0o700))
		for path, content := range map[string]string{
			"Chart.yaml":               "apiVersion: v2\nname: greeter\nversion: 1.2.3+build\ndescription: greets\n",
			"values.yaml":              "greeting: hello\n",
			"templates/configmap.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: greeter}\ndata: {greeting: {{ .Values.greeting }}}\n",
		} {
			require.NoError(t, os.WriteFile(filepath.Join(chart, path), []byte(content), 0o600))
		}
		s.Run(t, "helm", "package", chart, "--destination", s.Home)
		archive := s.Path("greeter-1.2.3+build.tgz")
		pushed, err := os.ReadFile(archive)
		require.NoError(t, err)

		push := []string{"push", "--plain-http", archive, "oci://" + s.Address + "/charts"}
		s.requireRefused(t, "helm", push...)
		if s.password {
			s.RunInput(t, password, "helm", "registry", "login", "--plain-http", "--username", user, "--password-stdin", s.Address)
		}
		s.Run(t, "helm", push...)
		s.registry.requireWhole(t, "charts/greeter", "1.2.3_build") // helm's way to write a + in a tag

		target := s.Path("pulled")
		require.NoError(t, os.Mkdir(target, 0o700))
		s.Run(t, "helm", "pull", "--plain-http", "--destination", target,
			"oci://"+s.Address+"/charts/greeter", "--version", "1.2.3+build")
		pulled, err := os.ReadFile(filepath.Join(target, "greeter-1.2.3+build.tgz"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(pushed, pulled), "the pulled chart must have the bytes of the pushed one")
		require.Contains(t, s.Run(t, "helm", "template", filepath.Join(target, "greeter-1.2.3+build.tgz")), "greeting: hello")
	})
}

// A signature that cosign pushed is among the image's referrers, verifies with
// the right key and does not with another one.
func TestCosignVerifiesWhatItSigned(t *testing.T) {
	t.Parallel()
	tooltest.Require(t, "cosign")
	tooltest.Require(t, "crane")
	f := getFixtures(t)
	eachSite(t, func(t *testing.T, s *site) {
		s.Env = append(s.Env, "COSIGN_PASSWORD=")
		if s.password {
			s.RunInput(t, password, "cosign", "login", "--username", user, "--password-stdin", s.Address)
		}
		layout := s.Path("layout")
		require.NoError(t, f.image.WriteLayout(layout, "v1"))
		s.Run(t, "crane", "push", layout, s.Address+"/team/signed:v1")
		name := s.Address + "/team/signed@" + f.image.Root.Digest.String()

		s.Run(t, "cosign", "generate-key-pair", "--output-key-prefix", s.Path("ours"))
		s.Run(t, "cosign", "generate-key-pair", "--output-key-prefix", s.Path("theirs"))
		s.Run(t, "cosign", "sign", "--key", s.Path("ours.key"), "--tlog-upload=false", "--use-signing-config=false",
			"--allow-http-registry", "--yes", name)

		content, mediaType := s.registry.get(t, "team/signed/referrers/"+f.image.Root.Digest.String())
		require.Equal(t, ocispec.MediaTypeImageIndex, mediaType)
		var referrers ocispec.Index
		require.NoError(t, json.Unmarshal(content, &referrers))
		require.Len(t, referrers.Manifests, 1, "the image's referrers: %s", content)
		require.Contains(t, referrers.Manifests[0].ArtifactType, "sigstore", "the artifact type of a signature")
		s.registry.requireWhole(t, "team/signed", referrers.Manifests[0].Digest.String())

		verify := []string{"verify", "--insecure-ignore-tlog", "--allow-http-registry", "--key"}
		out := s.Run(t, "cosign", append(verify, s.Path("ours.pub"), name)...)
		require.Contains(t, out, f.image.Root.Digest.String())
		_, err := s.Try(t, "cosign", append(verify, s.Path("theirs.pub"), name)...)
		require.Error(t, err, "another key must not verify the signature")
	})
}
