package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/ocikit/ocikit/registry"
)

func TestRequestsComingBackAreRefused(t *testing.T) {
	t.Parallel()
	authorize := via("ocikit-me").refuseLoops(nil)
	many := strings.Repeat("1.1 ocikit-x, ", maxHops)
	for value, refused := range map[string]bool{
		"": false, "1.1 ocikit-other": false, "1.1 ocikit-me": true, "1.0 proxy, 1.1 ocikit-me": true, "1.1 ocikit-me (comment),1.1 x": true,
		"1.1 ocikit-mean": false, "1.1 proxy (ocikit-me)": false, "ocikit-me": false, ",": false, many: false, many + "1.1 ocikit-y": true,
	} {
		r := httptest.NewRequest(http.MethodGet, "/v2/", http.NoBody)
		r.Header.Set("Via", value)
		allows, err := authorize(r, nil)
		if refused {
			require.ErrorIs(t, err, registry.ErrDenied, value)
		} else {
			require.NoError(t, err, value)
			require.True(t, allows(registry.Access{}))
		}
	}
}

func TestUpstreamsAreToldThroughWhomARequestHasCome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		came []string
		want string
	}{
		"nobody":  {nil, "1.1 ocikit-me"},
		"another": {[]string{"1.1 ocikit-other"}, "1.1 ocikit-other, 1.1 ocikit-me"},
		"several": {[]string{"1.1 ocikit-a, 1.1 proxy.internal", "1.1 ocikit-b"}, "1.1 ocikit-a, 1.1 ocikit-b, 1.1 ocikit-me"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/v2/", http.NoBody)
			r.Header["Via"] = test.came
			var got http.Header
			me := via("ocikit-me")
			me.follow(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = me.headers(r.Context()) })).ServeHTTP(nil, r)
			assert.Equal(t, http.Header{"Via": {test.want}}, got)
		})
	}
}

// startCircle starts registries each of which falls through to the next one.
func startCircle(t *testing.T, members int) []*server {
	t.Helper()
	var addresses []string
	for range members {
		addresses = append(addresses, tooltest.FreeAddress(t))
	}
	var servers []*server
	for i, address := range addresses {
		servers = append(servers, start(t, "--listen", address, "--data", t.TempDir(), "--config", configFileOf(t,
			"upstreams: {peer: {url: 'http://"+addresses[(i+1)%members]+"', missing-age: 0s}}",
			"routes: [{to: [local, peer]}]")))
	}
	return servers
}

// Registries that fall through to one another in a circle have between them what each has, and what none has is unknown, at once.
func TestRegistriesMayFallThroughInACircle(t *testing.T) {
	t.Parallel()
	for _, members := range []int{2, 3} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			t.Parallel()
			servers := startCircle(t, members)
			for i, s := range servers {
				pushImage(t, s.url, fmt.Sprintf("team/of%d", i), "v1", fmt.Sprintf("layer of %d", i))
			}
			nothing := digest.FromString("nobody has it").String()
			for _, s := range servers {
				for i := range members {
					assert.Equal(t, http.StatusOK, status(t, fmt.Sprintf("%s/v2/team/of%d/manifests/v1", s.url, i)))
					assert.Equal(t, http.StatusOK, status(t, fmt.Sprintf("%s/v2/team/of%d/blobs/%s", s.url, i, digest.FromString(fmt.Sprintf("layer of %d", i)))))
				}
				for _, path := range []string{"manifests/v1", "manifests/" + nothing, "blobs/" + nothing, "tags/list"} {
					assert.Equal(t, http.StatusNotFound, status(t, s.url+"/v2/team/none/"+path), path)
				}
				assert.Equal(t, http.StatusNotFound, s.do(t, http.MethodHead, "/v2/team/none/blobs/"+nothing, nil).StatusCode)
				assert.Equal(t, http.StatusOK, status(t, s.url+"/v2/team/none/referrers/"+nothing))
			}
			for _, s := range servers {
				s.stop(t)
			}
		})
	}
}

// Each waits for the other one then, unless they know for whom.
func TestCrowdsMayAskInACircle(t *testing.T) {
	t.Parallel()
	servers := startCircle(t, 2)
	nothing := digest.FromString("nobody has it").String()
	var crowd errgroup.Group
	for _, path := range []string{"manifests/v1", "manifests/" + nothing, "blobs/" + nothing, "tags/list"} {
		for i := range 16 {
			crowd.Go(func() error {
				url := servers[i%2].url + "/v2/team/none/" + path
				response, err := http.Get(url)
				if err != nil {
					return err
				}
				defer response.Body.Close()
				if response.StatusCode != http.StatusNotFound {
					return fmt.Errorf("GET %s: %s", url, response.Status)
				}
				return nil
			})
		}
	}
	require.NoError(t, crowd.Wait())
	for _, s := range servers {
		s.stop(t)
	}
}
