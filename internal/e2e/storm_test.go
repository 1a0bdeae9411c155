package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// storm is a server whose stores are in trouble, and clients that push to it.
type storm struct {
	postgres *backendtest.PostgresServer // of the test's own, or nil
	store    *backendtest.S3Server
	index    *faulttest.TCP // on the way to the shared PostgreSQL, or nil
	objects  *faulttest.HTTP

	faults  atomic.Int64 // that were done, where they are not total
	clients []*stormClient
	reader  *stormReader
	over    context.CancelFunc // ends the clients
	group   sync.WaitGroup     // of the clients
	calm    chan struct{}      // closed to end what happens again and again
	events  sync.WaitGroup
}

// stormClient pushes until it is told to stop, whatever the server answers.
type stormClient struct {
	*pusher
	images, refusals atomic.Int64
	ended            chan struct{} // closed when it pushes no more
	err              error         // what no server should answer; set before ended is closed
}

func newStorm(t *testing.T, own bool) *storm {
	t.Helper()
	const clients = 3
	s := &storm{calm: make(chan struct{})}
	replica := s.startReplica(t, own)
	ctx, cancel := context.WithCancel(t.Context())
	s.over = cancel
	for number := range uint64(clients) {
		c := &stormClient{pusher: newPusher(newPushClient(replica.URL()), 1, number), ended: make(chan struct{})}
		c.largest = 12 << 20 // more than a part
		require.NoError(t, c.startUpload(ctx, 24<<20))
		s.clients = append(s.clients, c)
		s.group.Go(func() {
			defer close(c.ended)
			c.err = c.pushOn(ctx)
		})
	}
	s.reader = newStormReader(t, replica.URL())
	s.group.Go(func() { s.reader.err = s.reader.pullOn(ctx) })
	t.Cleanup(func() {
		s.stop()
		cancel()
		s.group.Wait()
	})
	return s
}

func (s *storm) startReplica(t *testing.T, own bool) *servertest.Server {
	t.Helper()
	by := route{options: partsOf("5MiB")}
	if own {
		s.postgres, s.store = backendtest.NewPostgres(t), backendtest.NewMinIO(t)
		shared := newBackendsOn(t, s.postgres, s.store)
		return shared.start(t, by)
	}
	shared := newBackends(t, backendtest.MinIO(t))
	s.index = faulttest.NewTCP(t, backendtest.Postgres(t).Address())
	s.objects = faulttest.NewHTTP(t, shared.store.Endpoint())
	by.postgres, by.s3 = s.index.Address(), s.objects.URL()
	return shared.start(t, by)
}

// again does something again and again until stop. Each pause is longer than the one before by so much of it, so that what needs a while
// without it gets done in the end, however slow the machine is.
func (s *storm) again(pause time.Duration, growth float64, do func()) {
	calm := s.calm
	s.events.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do()
			case <-calm:
				return
			}
			pause += time.Duration(growth * float64(pause))
			tick.Reset(pause)
		}
	})
}

// stop ends what happens again and again.
func (s *storm) stop() {
	select {
	case <-s.calm:
	default:
		close(s.calm)
	}
	s.events.Wait()
}

// pushOn pushes until ctx ends. It goes on after an answer that says so, and
// returns any other failure.
func (c *stormClient) pushOn(ctx context.Context) error {
	refused := false
	for ctx.Err() == nil {
		err := c.step(context.WithoutCancel(ctx))
		if err == nil {
			c.images.Add(1)
			refused = false
			continue
		}
		if refused && c.overtaken(err) {
			refused = false
			continue // with the upload as it is now
		}
		if err := requireRetryable(err); err != nil {
			return err
		}
		refused = true
		c.refusals.Add(1)
		wait(ctx, 50*time.Millisecond) // less than the server asks for
	}
	return nil
}

// overtaken reports whether an answer is right after a request that was refused
// and has been carried out late: when the client had asked where its upload stands.
func (c *stormClient) overtaken(err error) bool {
	switch statusOf(err) {
	case http.StatusRequestedRangeNotSatisfiable:
		return c.open != nil
	case http.StatusNotFound:
		return c.open != nil && c.open.closing
	default:
		return false
	}
}

// requireRetryable returns an error unless err is the server's answer that tells
// a client to come again.
func requireRetryable(err error) error {
	var refused *statusError
	if !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable {
		return fmt.Errorf("what happens to its stores must be answered with 503: %w", err)
	}
	if refused.header.Get("Retry-After") == "" {
		return fmt.Errorf("a 503 must say when to come again: %w", err)
	}
	return nil
}

func wait(ctx context.Context, duration time.Duration) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// requireProgress requires that every client pushes so many images from now on.
func (s *storm) requireProgress(t *testing.T, images int64, when string) {
	t.Helper()
	s.requireMore(t, images, func(c *stormClient) int64 { return c.images.Load() }, "images that a client can push "+when)
}

// requireRefusals requires that every client is told so often to come again.
func (s *storm) requireRefusals(t *testing.T, refusals int64) {
	t.Helper()
	s.requireMore(t, refusals, func(c *stormClient) int64 { return c.refusals.Load() }, "answers that tell a client to come again")
}

// requireFaults requires that something has happened, at least once.
func (s *storm) requireFaults(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return s.faults.Load() > 0 }, time.Minute, 10*time.Millisecond, "something should happen to the stores")
}

func (s *storm) requireMore(t *testing.T, more int64, count func(*stormClient) int64, what string) {
	t.Helper()
	want := make([]int64, len(s.clients))
	for i, c := range s.clients {
		want[i] = count(c) + more
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for i, c := range s.clients {
		for count(c) < want[i] {
			select {
			case <-tick.C:
				require.Less(t, time.Since(began), 2*time.Minute, "the time to %d %s: client %d had %d", more, what, i, count(c)-want[i]+more)
			case <-c.ended:
				require.NoError(t, c.err, "client %d", i)
			}
		}
	}
}

// requireAllThere ends the clients, and requires that none met an error that is
// not to be retried, and that what each was acknowledged is there.
func (s *storm) requireAllThere(t *testing.T) {
	t.Helper()
	s.over()
	s.group.Wait()
	blobs, refusals, resumed := 0, int64(0), 0
	for i, c := range s.clients {
		require.NoError(t, c.err, "client %d", i)
		require.NoError(t, c.verify(t.Context()), "client %d", i)
		blobs, refusals, resumed = blobs+len(c.blobs), refusals+c.refusals.Load(), resumed+c.resumed
	}
	require.NoError(t, s.reader.err, "the client that pulls")
	require.Positive(t, s.reader.pulls, "the pulls that succeeded")
	t.Logf("pulled %d times, %d of which were cut short or refused", s.reader.pulls, s.reader.failures)
	t.Logf("%d faults, %d blobs pushed, %d answers to come again, %d uploads went on", s.faults.Load(), blobs, refusals, resumed)
}

// stormReader pulls a blob again and again.
type stormReader struct {
	client          *pushClient
	content         []byte
	pulls, failures int
	err             error // what no server should answer; set when it has ended
}

func newStormReader(t *testing.T, url string) *stormReader {
	t.Helper()
	r := &stormReader{client: newPushClient(url), content: randomBytes(rand.New(rand.NewPCG(9, 9)), 6<<20)}
	require.NoError(t, r.client.putBlob(t.Context(), "pulls", r.name(), bytes.NewReader(r.content), int64(len(r.content))))
	return r
}

func (r *stormReader) name() digest.Digest { return digest.FromBytes(r.content) }

// pullOn pulls until ctx ends. A pull may be refused, as a push may, and cut short
// when it has begun; what comes whole has to be right.
func (r *stormReader) pullOn(ctx context.Context) error {
	path := "pulls/blobs/" + r.name().String()
	for ctx.Err() == nil {
		got, err := r.client.get(context.WithoutCancel(ctx), path)
		var cut *cutError
		switch {
		case err == nil && !bytes.Equal(got, r.content):
			return fmt.Errorf("a pull returned %d bytes that were not pushed", len(got))
		case err == nil:
			r.pulls++
		case errors.As(err, &cut):
			r.failures++
		default:
			if err := requireRetryable(err); err != nil {
				return err
			}
			r.failures++
		}
		wait(ctx, 50*time.Millisecond)
	}
	return nil
}
