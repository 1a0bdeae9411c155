package registry_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

// Proxies that open a connection for each request say that they will close it; what such a client sends in vain must not cost
// it the answer.
func TestAClientThatSendsAllOfItsBodySeesWhyItIsRefused(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("x", 32<<20) // more than the systems of both ends hold for each other
	s := serve(t, &fake{}, &registry.HandlerOptions{Authorize: refuse})
	c := dial(t, s)
	c.write(raw("PATCH", "/v2/a/b/blobs/uploads/id", body, "Connection: close"))
	answer, err := http.ReadResponse(c.r, nil)
	require.NoError(t, err, "the answer to a request that is refused while it is sent")
	assert.Equal(t, http.StatusForbidden, answer.StatusCode)
	content, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Contains(t, string(content), "DENIED")
}

// A client that neither goes on nor closes its connection is not waited for in vain.
func TestARefusedClientThatStallsIsLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		served := make(chan time.Duration, 1)
		listener := &pipes{make(chan net.Conn), make(chan struct{})}
		handler := registry.NewHandler(&fake{}, &registry.HandlerOptions{
			Authorize: refuse,
			Observe:   func(o registry.Observation) { served <- o.Duration },
		})
		server := &http.Server{Handler: handler}
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
		conn, err := listener.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		const announced = "PATCH /v2/a/b/blobs/uploads/id HTTP/1.1\r\nHost: registry.example.com\r\nConnection: close\r\nContent-Length: 10\r\n\r\nsome"
		go func() { _, _ = io.WriteString(conn, announced) }()
		start := time.Now()
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusForbidden, answer.StatusCode)
		assert.Zero(t, time.Since(start), "the answer must come at once")
		assert.Equal(t, 5*time.Second, <-served, "how long a client may take to see it")
	})
}

func refuse(*http.Request, []registry.Access) (func(registry.Access) bool, error) {
	return nil, registry.ErrDenied
}
