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
	me, other := newVia(), newVia()
	authorize := me.refuseLoops(nil)
	hops := func(n int) string {
		var text []string
		for range n {
			text = append(text, "1.1 "+string(newVia()))
		}
		return strings.Join(text, ", ")
	}
	for name, test := range map[string]struct {
		value   via
		refused bool
	}{
		"nobody":              {"", false},
		"another":             {"1.1 " + other, false},
		"itself":              {"1.1 " + me, true},
		"itself behind proxy": {"1.0 proxy, 1.1 " + me, true},
		"itself, commented":   {"1.1 " + me + " (comment),1.1 x", true},
		"longer name":         {"1.1 " + me + "0", false},
		"comment":             {"1.1 proxy (" + me + ")", false},
		"no protocol":         {me, false},
		"nothing":             {",", false},
		"many":                {via(hops(maxHops - 1)), false},
		"too many":            {via(hops(maxHops)), true},
		"invented":            {via(strings.Repeat("1.1 ocikit-x, ", 100)), false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v2/", http.NoBody)
		r.Header.Set("Via", string(test.value))
		allows, err := authorize(r, nil)
		if test.refused {
			require.ErrorIs(t, err, registry.ErrDenied, name)
		} else {
			require.NoError(t, err, name)
			require.True(t, allows(registry.Access{}))
		}
	}
}

func TestUpstreamsAreToldThroughWhomARequestHasCome(t *testing.T) {
	t.Parallel()
	me, a, b := newVia(), string(newVia()), string(newVia())
	for name, test := range map[string]struct {
		came []string
		want string
	}{
		"nobody":   {nil, ""},
		"another":  {[]string{"1.1 " + a}, "1.1 " + a + ", "},
		"several":  {[]string{"1.1 " + a + ", 1.1 proxy.internal", "1.1 " + b}, "1.1 " + a + ", 1.1 " + b + ", "},
		"invented": {[]string{"1.1 ocikit-x, 1.1 ocikit-, 1.1 ocikit-" + strings.Repeat("0", 36), "1.1 " + a}, "1.1 " + a + ", "},
		"oversize": {[]string{"1.1 " + a + strings.Repeat("0", 10_000) + ", 1.1 ocikit-" + strings.Repeat("0", 10_000)}, ""},
		"capitals": {[]string{"1.1 " + strings.ToUpper(a), "1.1 ocikit-" + strings.ToUpper(a[len(viaPrefix):])}, ""},
		"garbage":  {[]string{"\x00\xff", "1.1", "1.1 " + a + "\x00", "1.1 \"" + a + "\"", ", ,"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/v2/", http.NoBody)
			r.Header["Via"] = test.came
			var got http.Header
			me.follow(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = me.headers(r.Context()) })).ServeHTTP(nil, r)
			assert.Equal(t, http.Header{"Via": {test.want + "1.1 " + string(me)}}, got)
		})
	}
}

// What a client says of its way must not be a no that a mirror remembers, and tells to others.
func TestInventedWaysCostOthersNothing(t *testing.T) {
	t.Parallel()
	origin := start(t, "--data", t.TempDir())
	pushImage(t, origin.url, "library/x", "v1", "layer")
	mirror := start(t, "--data", t.TempDir(), "--upstream", "hub="+origin.url)
	path := "/v2/hub/library/x/manifests/v1"
	for _, hops := range []int{16, maxHops, maxHops - 1} {
		want := http.StatusForbidden
		if hops < maxHops {
			want = http.StatusOK
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, mirror.url+path, http.NoBody)
		require.NoError(t, err)
		for range hops {
			request.Header.Add("Via", "1.1 "+string(newVia()))
		}
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, want, response.StatusCode, hops)
	}
	assert.Equal(t, http.StatusOK, status(t, mirror.url+path))
	mirror.stop(t)
	origin.stop(t)
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
