package registry_test

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"

	"github.com/ocikit/ocikit/registry"
)

func TestWhoKeepsCountIsToldOfManifestsThatAreRead(t *testing.T) {
	t.Parallel()
	type pull struct {
		repository string
		digest     digest.Digest
		tag        string
	}
	var pulls []pull
	s := serve(t, newLocal(&registry.LocalOptions{
		Pulled: func(repository string, d digest.Digest, tag string) { pulls = append(pulls, pull{repository, d, tag}) },
	}), nil)
	image := s.image(t, "team/app", "image")
	s.pushManifest(t, "team/app", "latest", image)
	assert.Empty(t, pulls, "a push is no pull")
	s.send(t, "GET", "/v2/team/app/manifests/latest", nil).wants(t, 200)
	s.send(t, "GET", "/v2/team/app/manifests/"+image.digest().String(), nil).wants(t, 200)
	s.send(t, "GET", "/v2/team/app/manifests/none", nil).wants(t, 404, "MANIFEST_UNKNOWN")
	assert.Equal(t, []pull{{"team/app", image.digest(), "latest"}, {"team/app", image.digest(), ""}}, pulls)
}
