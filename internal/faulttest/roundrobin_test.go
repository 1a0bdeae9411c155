package faulttest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/stretchr/testify/require"
)

// replica is a server that starts uploads, and tells what it was sent and over
// how many connections.
type replica struct {
	*httptest.Server
	mu          sync.Mutex
	requests    []string
	connections atomic.Int32
}

func newReplicas(t *testing.T, count int) (replicas []*replica, urls []string) {
	t.Helper()
	var uploads atomic.Int32
	for range count {
		r := &replica{}
		r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(req.Body)
			r.mu.Lock()
			r.requests = append(r.requests, fmt.Sprintf("%s %s%s %s", req.Method, req.Host, req.URL.Path, body))
			r.mu.Unlock()
			if req.Method == http.MethodPost {
				w.Header().Set("Location", fmt.Sprintf("/v2/some/name/blobs/uploads/upload-%d?state=1", uploads.Add(1)))
				w.WriteHeader(http.StatusAccepted)
			}
		}))
		r.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				r.connections.Add(1)
			}
		}
		r.Start()
		t.Cleanup(r.Close)
		replicas, urls = append(replicas, r), append(urls, r.URL)
	}
	return replicas, urls
}

func TestRoundRobinTakesTheTargetsInTurn(t *testing.T) {
	t.Parallel()
	replicas, urls := newReplicas(t, 3)
	proxy := faulttest.NewRoundRobin(t, urls...)
	for range 6 {
		send(t, http.MethodGet, proxy.URL()+"/v2/", "")
	}
	for i, r := range replicas {
		host := proxy.Address()
		require.Equal(t, []string{"GET " + host + "/v2/ ", "GET " + host + "/v2/ "}, r.requests, "what replica %d was asked", i)
		require.EqualValues(t, 2, r.connections.Load(), "the connections of replica %d", i)
	}
	require.Empty(t, proxy.Uploads())
}

func TestRoundRobinTakesEachUploadToAllTargetsWhateverElseIsUnderWay(t *testing.T) {
	t.Parallel()
	replicas, urls := newReplicas(t, 2)
	proxy := faulttest.NewRoundRobin(t, urls...)
	one := proxy.URL() + send(t, http.MethodPost, proxy.URL()+"/v2/some/name/blobs/uploads/", "")
	other := proxy.URL() + send(t, http.MethodPost, proxy.URL()+"/v2/some/name/blobs/uploads/", "")
	// In this order each upload would stay with one replica if all requests were counted together.
	send(t, http.MethodPatch, one, "first")
	send(t, http.MethodPatch, one, "second")
	send(t, http.MethodPut, other, "third")
	host := proxy.Address()
	path := host + "/v2/some/name/blobs/uploads/"
	require.Equal(t, []string{"POST " + path + " ", "PATCH " + path + "upload-1 second", "PUT " + path + "upload-2 third"}, replicas[0].requests)
	require.Equal(t, []string{"POST " + path + " ", "PATCH " + path + "upload-1 first"}, replicas[1].requests)
	uploads := proxy.Uploads()
	require.Equal(t, []faulttest.Upload{
		{ID: "upload-1", Targets: []int{0, 1, 0}},
		{ID: "upload-2", Targets: []int{1, 0}},
	}, uploads)
	require.Equal(t, 2, uploads[0].Touched())
	require.Equal(t, 1, faulttest.Upload{Targets: []int{1, 1}}.Touched())
}

func TestRoundRobinTellsWhichReplicaIsDown(t *testing.T) {
	t.Parallel()
	replicas, urls := newReplicas(t, 2)
	proxy := faulttest.NewRoundRobin(t, urls...)
	replicas[0].Close()
	resp, err := http.Get(proxy.URL() + "/v2/")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadGateway, resp.StatusCode)
	require.Contains(t, string(body), "replica 0")
}

// send sends a request, over a connection that is used for nothing else, and
// returns the Location of the answer.
func send(t *testing.T, method, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Less(t, resp.StatusCode, 300)
	return resp.Header.Get("Location")
}
