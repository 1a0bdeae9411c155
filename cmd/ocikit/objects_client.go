package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
)

// How long a request to S3 may make no progress: neither takes the store bytes of it, nor answers, nor sends bytes. A transfer that
// moves goes on. Completing an upload, and deleting a thousand objects, is silent work; where it was not
// enough, the client completes again.
const (
	dialTimeout    = 5 * time.Second
	quietTimeout   = 15 * time.Second
	silentWorkTime = 2 * time.Minute
)

var silentWork = map[string]bool{"CompleteMultipartUpload": true, "DeleteObjects": true}

// newTransport returns a client for many transfers of large bodies at once, each over a connection of its own.
func newTransport() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.ForceAttemptHTTP2 = false // one connection for all would be the bottleneck
			t.MaxIdleConns, t.MaxIdleConnsPerHost = 256, 256
			t.IdleConnTimeout = time.Minute
			t.TLSHandshakeTimeout = dialTimeout
			t.WriteBufferSize = 64 << 10 // bodies are large, and 4 KiB cost a system call each
			t.DisableCompression = true
		})
}

// newRetryer tries again what may pass by itself, twice and at once. What has timed out is not tried again: the client has waited
// long enough, is told to come back, and goes on where it was.
func newRetryer(attempts int) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		if attempts > 0 {
			o.MaxAttempts = attempts
		}
		o.MaxBackoff = time.Second
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if isTimeout(err) {
				return aws.FalseTernary
			}
			return aws.UnknownTernary
		})}, o.Retryables...)
	})
}

// objectsClient sends requests to S3, counts them, and ends those that make no progress.
type objectsClient struct {
	next    awss3.HTTPClient
	metrics *metrics
}

// Do implements the SDK's HTTPClient.
func (c *objectsClient) Do(r *http.Request) (*http.Response, error) {
	operation, start := awsmiddleware.GetOperationName(r.Context()), time.Now()
	limit := quietTimeout
	if silentWork[operation] {
		limit = silentWorkTime
	}
	w := newWatch(r.Context(), limit)
	r = r.WithContext(w.ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &sent{r.Body, w}
	}
	response, err := c.next.Do(r)
	w.answer()
	c.metrics.countObjects(operation, response, err, time.Since(start))
	if err != nil {
		w.end()
		return nil, w.reason(err)
	}
	response.Body = &received{response.Body, w}
	return response, nil
}

// watch ends a request's context when nothing has happened for too long.
type watch struct {
	ctx   context.Context
	limit time.Duration
	end   func()

	mu       sync.Mutex
	timer    *time.Timer
	answered bool
}

func newWatch(ctx context.Context, limit time.Duration) *watch {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{ctx: ctx, limit: limit, timer: time.AfterFunc(limit, func() { cancel(&quietError{limit}) })}
	w.end = func() {
		w.timer.Stop()
		cancel(context.Canceled)
	}
	return w
}

// sending says that the store took bytes. It may do so after its answer, which is nobody's concern any more.
func (w *watch) sending() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.answered {
		w.timer.Reset(w.limit)
	}
}

// answer says that the store has answered, or that the request failed.
func (w *watch) answer() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = true
	w.timer.Stop()
}

// reason returns the watch's error if that is why a request failed.
func (w *watch) reason(err error) error {
	var quiet *quietError
	if errors.As(context.Cause(w.ctx), &quiet) {
		return quiet
	}
	return err
}

// quietError says that S3 made no progress for so long.
type quietError struct{ limit time.Duration }

func (e *quietError) Error() string { return "the store made no progress for " + e.limit.String() }

// Timeout and Temporary make it a [net.Error].
func (e *quietError) Timeout() bool   { return true }
func (e *quietError) Temporary() bool { return true }

// sent is a request's body: reading it is the store's progress.
type sent struct {
	io.ReadCloser
	watch *watch
}

func (b *sent) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.watch.sending()
	return n, err
}

// received is an answer's body: the store has to make progress while it is read, and what its reader does in between takes as long
// as it takes.
type received struct {
	io.ReadCloser
	watch *watch
}

func (b *received) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.watch.limit)
	n, err := b.ReadCloser.Read(p)
	b.watch.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.watch.reason(err)
	}
	return n, err
}

func (b *received) Close() error {
	b.watch.end()
	return b.ReadCloser.Close()
}
