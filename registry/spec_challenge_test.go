package registry_test

import (
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"

	"github.com/ocikit/ocikit/registry"
)

func TestSpec62And63StrangersAreChallengedOnce(t *testing.T) {
	t.Parallel()
	const challenge = `Basic realm="registry.example.com"`
	r := newLocal(nil)
	s := serve(t, r, &registry.HandlerOptions{
		Authorize: func(r *http.Request, _ []registry.Access) (func(registry.Access) bool, error) {
			if name, password, _ := r.BasicAuth(); name != "alice" || password != "secret" {
				return nil, &registry.ChallengeError{Challenge: challenge}
			}
			return nil, nil
		},
	})
	for _, path := range []string{"/v2/", "/v2", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/blobs/" + digest.FromString("x").String()} {
		for _, method := range []string{"GET", "HEAD"} {
			if method == "HEAD" && (path == "/v2/_catalog" || path == "/v2/a/tags/list") {
				continue
			}
			got := s.send(t, method, path, nil).wants(t, http.StatusUnauthorized)
			assert.Equal(t, []string{challenge}, got.header.Values("Www-Authenticate"))
			assert.Equal(t, "registry/2.0", got.header.Get("Docker-Distribution-Api-Version"))
			if method == "GET" {
				assert.Equal(t, []string{"UNAUTHORIZED"}, got.codes(t))
			}
		}
	}
	s.client.Transport = basic{s.client.Transport}
	got := s.send(t, "GET", "/v2/", nil).wants(t, http.StatusOK) // 68
	assert.Empty(t, got.header.Get("Www-Authenticate"))
	s.pushBlob(t, "a", "x")
}

// basic logs in as alice.
type basic struct{ http.RoundTripper }

func (b basic) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth("alice", "secret")
	return b.RoundTripper.RoundTrip(r)
}
