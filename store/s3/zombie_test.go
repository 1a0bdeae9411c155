package s3_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestZombies(t *testing.T) {
	t.Parallel()
	stalls := map[string]func(server *backendtest.S3Server, bucket string) storetest.Stall{
		"HeldOnTheWire":  heldOnTheWire,
		"StuckInMidBody": stuckInMidBody,
	}
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		for name, stall := range stalls {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				storetest.Zombies(t, func(t *testing.T) ([]store.Objects, storetest.Stall) {
					bucket := server.Bucket(t)
					live := newObjects(t, newClient(server, ""), bucket, nil)
					return []store.Objects{live, live}, stall(server, bucket)
				})
			})
		}
	})
}

// heldOnTheWire keeps the first request, with all of its body, between the replica and the store.
func heldOnTheWire(server *backendtest.S3Server, bucket string) storetest.Stall {
	return func(t *testing.T) storetest.Stalled {
		atTheStore := faulttest.NewHTTP(t, server.Endpoint())
		proxy, hold := faulttest.NewHTTP(t, atTheStore.URL()), faulttest.NewHold()
		proxy.Intercept(holdFirst(hold))
		return storetest.Stalled{
			Objects: newObjects(t, newClient(server, proxy.URL()), bucket, nil),
			Stuck:   hold.Arrived(),
			Release: hold.Release,
			Reached: func() bool { return len(atTheStore.Counts()) > 0 },
		}
	}
}

// holdFirst holds the first request, whatever it is, and passes the others.
func holdFirst(hold *faulttest.Hold) func(*http.Request) faulttest.Fault {
	var once sync.Once
	return func(*http.Request) (fault faulttest.Fault) {
		once.Do(func() { fault.Hold = hold })
		return fault
	}
}

// stuckInMidBody sends half of the first request's body to the store, and the rest when it is released. A request without a
// body is kept until then.
func stuckInMidBody(server *backendtest.S3Server, bucket string) storetest.Stall {
	return func(t *testing.T) storetest.Stalled {
		stall := &stallingTransport{stuck: make(chan struct{}), released: make(chan struct{}), reached: make(chan struct{})}
		client := newClient(server, "", func(o *sdk.Options) { o.HTTPClient = &http.Client{Transport: stall} })
		return storetest.Stalled{
			Objects: newObjects(t, client, bucket, nil),
			Stuck:   stall.stuck,
			Release: sync.OnceFunc(func() { close(stall.released) }),
			Reached: func() bool {
				select {
				case <-stall.reached:
					return true
				default:
					return false
				}
			},
		}
	}
}

// stallingTransport stalls its first request. It has reached the store when the store answered, or hung up on it.
type stallingTransport struct {
	first                    sync.Once
	stuck, released, reached chan struct{}
}

func (s *stallingTransport) RoundTrip(r *http.Request) (answer *http.Response, err error) {
	first := false
	s.first.Do(func() { first = true })
	if !first {
		return http.DefaultTransport.RoundTrip(r)
	}
	half := r.ContentLength / 2
	stalling := r.Clone(r.Context())
	if half == 0 {
		s.stall()
	} else {
		stalling.Body = &stallingBody{ReadCloser: r.Body, left: half, stall: sync.OnceFunc(s.stall)}
	}
	defer close(s.reached)
	return http.DefaultTransport.RoundTrip(stalling)
}

func (s *stallingTransport) stall() {
	close(s.stuck)
	<-s.released
}

// stallingBody stalls before what comes after the first bytes is read.
type stallingBody struct {
	io.ReadCloser
	left  int64
	stall func()
}

func (b *stallingBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.stall()
		return b.ReadCloser.Read(p)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// The replica itself has gone when its request arrives.
func TestRequestThatOutlivesItsSenderNeverChangesAFinishedObject(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		for operation, call := range map[faulttest.Operation]func(ctx context.Context, o *s3.Objects, m store.Multipart, parts []store.Part) error{
			faulttest.UploadPart: func(ctx context.Context, o *s3.Objects, m store.Multipart, _ []store.Part) error {
				_, err := o.PutPart(ctx, m, 1, store.Part{Number: 2, Offset: 5 << 20, Size: 100}, bytes.NewReader(pattern(9, 100)))
				return err
			},
			faulttest.CompleteMultipartUpload: func(ctx context.Context, o *s3.Objects, m store.Multipart, parts []store.Part) error {
				return o.Complete(ctx, m, parts[:1])
			},
			faulttest.AbortMultipartUpload: func(ctx context.Context, o *s3.Objects, m store.Multipart, _ []store.Part) error {
				return o.Abort(ctx, m)
			},
		} {
			t.Run(string(operation), func(t *testing.T) {
				t.Parallel()
				bucket := server.Bucket(t)
				proxy, hold := faulttest.NewHTTP(t, server.Endpoint()), faulttest.NewHold()
				proxy.Intercept(faulttest.First(operation, faulttest.Fault{Hold: hold}))
				zombie, live := newObjects(t, newClient(server, proxy.URL()), bucket, nil), newObjects(t, newClient(server, ""), bucket, nil)

				m, err := live.Begin(t.Context(), store.NewBlobKey())
				require.NoError(t, err)
				first := putPart(t, live, m, store.Part{Number: 1}, pattern(1, 5<<20))
				ctx, cancel := context.WithCancel(t.Context())
				told := make(chan error, 1)
				go func() { told <- call(ctx, zombie, m, []store.Part{first}) }()
				<-hold.Arrived()
				cancel()
				require.ErrorIs(t, <-told, context.Canceled, "a call ends with its context, also while its request is under way")

				last := putPart(t, live, m, store.Part{Number: 5, Offset: 5 << 20}, pattern(2, 1000))
				require.NoError(t, live.Complete(t.Context(), m, []store.Part{first, last}))
				hold.Release()
				<-hold.Reached()
				requireObject(t, live, m.Key, append(pattern(1, 5<<20), pattern(2, 1000)...))
			})
		}
	})
}
