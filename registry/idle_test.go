package registry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

// pipes is a listener whose connections are in memory, so that the clock of a synctest bubble decides about their deadlines.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.accepted <- server
	return client, nil
}

// servePipes serves on connections in memory. To be called in a bubble, where stop ends all that it started.
func servePipes(r registry.Registry, opts *registry.HandlerOptions) (s *server, stop func()) {
	listener := &pipes{make(chan net.Conn), make(chan struct{})}
	httpServer := &http.Server{Handler: registry.NewHandler(r, opts)}
	go func() { _ = httpServer.Serve(listener) }()
	transport := &http.Transport{DialContext: listener.dial}
	return &server{"http://registry.example.com", &http.Client{Transport: transport}}, func() {
		transport.CloseIdleConnections()
		_ = httpServer.Close()
	}
}

func TestABodyThatStallsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := servePipes(&fake{upload: registry.Upload{ID: "id"}}, nil)
		defer stop()
		r, w := io.Pipe()
		defer w.Close()
		go func() { _, _ = w.Write([]byte("some")) }() // and nothing more
		start := time.Now()
		s.send(t, "PATCH", "/v2/a/blobs/uploads/id", r).wants(t, http.StatusRequestTimeout, "REQUEST_TIMEOUT")
		assert.GreaterOrEqual(t, time.Since(start), time.Minute)
		assert.Less(t, time.Since(start), 2*time.Minute)
	})
}

func TestAnUploadThatStallsIsKeptAsFarAsItCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := servePipes(newLocal(nil), nil)
		defer stop()
		location := s.startUpload(t, "a")
		r, w := io.Pipe()
		defer w.Close()
		go func() { _, _ = w.Write([]byte("some")) }()
		s.send(t, "PATCH", location, r).wants(t, http.StatusRequestTimeout, "REQUEST_TIMEOUT")
		s.send(t, "GET", location, nil).wants(t, http.StatusNoContent).wantsUpload(t, location, 4)
	})
}

func TestABodyThatKeepsComingIsNotGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := servePipes(&fake{upload: registry.Upload{ID: "id"}}, &registry.HandlerOptions{IdleTimeout: 10 * time.Second})
		defer stop()
		r, w := io.Pipe()
		go func() {
			for range 100 {
				time.Sleep(9 * time.Second)
				_, _ = w.Write([]byte("."))
			}
			_ = w.Close()
		}()
		s.send(t, "PATCH", "/v2/a/blobs/uploads/id", r).wants(t, http.StatusAccepted)
	})
}

func TestABodyMayStallForEverIfThatIsWanted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := servePipes(&fake{upload: registry.Upload{ID: "id"}}, &registry.HandlerOptions{IdleTimeout: -1})
		defer stop()
		r, w := io.Pipe()
		go func() {
			time.Sleep(24 * time.Hour)
			_ = w.Close()
		}()
		s.send(t, "PATCH", "/v2/a/blobs/uploads/id", r).wants(t, http.StatusAccepted)
	})
}

func TestADeadlineDoesNotStrikeWhileTheRegistryFinishes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &fake{upload: registry.Upload{ID: "id"}}
		r.appendBody = func(ctx context.Context, body io.Reader) error {
			if _, err := io.Copy(io.Discard, body); err != nil {
				return err
			}
			time.Sleep(time.Hour)
			return ctx.Err()
		}
		s, stop := servePipes(r, nil)
		defer stop()
		s.send(t, "PATCH", "/v2/a/blobs/uploads/id", "all of it").wants(t, http.StatusAccepted)
	})
}

func TestADeadlineDoesNotStrikeTheNextRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &fake{blob: strings.Repeat("x", 1<<20), upload: registry.Upload{ID: "id"}}
		s, stop := servePipes(r, nil)
		defer stop()
		for range 3 {
			s.send(t, "GET", "/v2/a/blobs/"+digest.FromString(r.blob).String(), nil).wants(t, http.StatusOK)
			time.Sleep(time.Hour)
			s.send(t, "PATCH", "/v2/a/blobs/uploads/id", "x").wants(t, http.StatusAccepted)
			time.Sleep(time.Hour)
		}
	})
}

func TestAClientThatDoesNotReadIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		done := make(chan registry.Observation, 1)
		r := &fake{blob: strings.Repeat("x", 1<<20)}
		s, stop := servePipes(r, &registry.HandlerOptions{Observe: func(o registry.Observation) { done <- o }})
		defer stop()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v2/a/blobs/"+digest.FromString(r.blob).String(), nil)
		require.NoError(t, err)
		resp, err := s.client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		start := time.Now()
		seen := <-done
		require.Error(t, seen.Err)
		assert.Less(t, time.Since(start), 3*time.Minute)
		_, err = io.Copy(io.Discard, resp.Body)
		require.Error(t, err, "the client took a part for the whole")
	})
}

func TestAClientThatReadsSlowlyIsServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &fake{blob: strings.Repeat("x", 4<<20)}
		s, stop := servePipes(r, nil)
		defer stop()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v2/a/blobs/"+digest.FromString(r.blob).String(), nil)
		require.NoError(t, err)
		resp, err := s.client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var total int64
		for total < resp.ContentLength {
			n, err := io.CopyN(io.Discard, resp.Body, 64<<10)
			total += n
			if total < resp.ContentLength {
				require.NoError(t, err)
			}
			time.Sleep(15 * time.Second) // a quarter of a MiB a minute
		}
		assert.EqualValues(t, 4<<20, total)
	})
}
