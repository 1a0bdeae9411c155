package cost_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ocikit/ocikit/internal/faulttest"
)

// counter counts what goes out to the bucket and to the database.
type counter struct {
	trips atomic.Int64 // to the database

	mu       sync.Mutex
	requests map[faulttest.Operation]int // to the bucket
}

func newCounter() *counter { return &counter{requests: map[faulttest.Operation]int{}} }

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.requests)
	c.trips.Store(0)
}

// tell returns the counts as cells of a table.
func (c *counter) tell() (requests, trips string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, operation := range slices.Sorted(maps.Keys(c.requests)) {
		if n := c.requests[operation]; n > 1 {
			all = append(all, fmt.Sprintf("%d × %s", n, operation))
		} else {
			all = append(all, string(operation))
		}
	}
	if len(all) == 0 {
		all = []string{"–"}
	}
	return strings.Join(all, ", "), fmt.Sprint(c.trips.Load())
}

// Do is the SDK's HTTP client.
func (c *counter) Do(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.requests[faulttest.OperationOf(r)]++
	c.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

// dial is how the pool reaches the database.
func (c *counter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, trips: &c.trips}, nil
}

// countedConn counts how often something is sent after something has been received, which is what has to wait for the network:
// however many statements are sent together, and in however many pieces, they are one round trip.
type countedConn struct {
	net.Conn
	trips *atomic.Int64
	sent  atomic.Bool // and nothing received since
}

func (c *countedConn) Write(p []byte) (int, error) {
	if !c.sent.Swap(true) {
		c.trips.Add(1)
	}
	return c.Conn.Write(p)
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.sent.Store(false)
	}
	return n, err
}
