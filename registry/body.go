package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// idle keeps a deadline of a connection ahead of the present for as long as bytes move: between one and one and a quarter
// timeouts after the last ones. net/http removes the deadline when the request ends, and that of reading as soon as the whole body
// was read. Its zero value does nothing.
type idle struct {
	timeout    time.Duration
	connection http.ResponseWriter
	set        func(*http.ResponseController, time.Time) error // the deadline of reading, or that of writing
	renewed    time.Time
}

// renew is to be called before each read or write. It seldom does anything, since a deadline costs more than a small write.
func (i *idle) renew() {
	if i.timeout <= 0 {
		return
	}
	now := time.Now()
	if now.Sub(i.renewed) < i.timeout/4 {
		return
	}
	if err := i.until(now.Add(i.timeout + i.timeout/4)); err != nil {
		i.timeout = 0 // not a connection that has deadlines
		return
	}
	i.renewed = now
}

// struck reports whether the deadline has passed.
func (i *idle) struck() bool { return !i.renewed.IsZero() && time.Since(i.renewed) >= i.timeout }

func (i *idle) until(deadline time.Time) error {
	return i.set(http.NewResponseController(i.connection), deadline)
}

// body reads a request's body, and tells apart why it ended: all of it came, the client went away or is idle, the server is
// about to stop. The context's end wakes a Read that waits for bytes, so that what came can be saved.
type body struct {
	io.Reader
	ctx     context.Context //nolint:containedctx // of the request that the body belongs to; nil if it has none
	idle    idle
	read    int64  // bytes
	ended   bool   // Read returned an error, be it io.EOF
	failure *Error // which error, unless it was io.EOF
	closing bool   // the connection ends with the request, and something of the body may be under way
	release func() bool
}

// begin makes b the body of r, whose connection is w's.
func (b *body) begin(w http.ResponseWriter, r *http.Request, timeout time.Duration) {
	b.Reader = http.NoBody
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	b.Reader, b.ctx = r.Body, r.Context()
	b.idle = idle{timeout: timeout, connection: w, set: (*http.ResponseController).SetReadDeadline}
	// Who asks whether to send the body has not sent it.
	b.closing = r.Close && r.Header.Get("Expect") == ""
	b.release = context.AfterFunc(b.ctx, func() {
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	})
}

// Read reads from the body. Each of its errors but io.EOF has an Error in its chain.
func (b *body) Read(p []byte) (int, error) {
	if b.ctx == nil {
		return 0, io.EOF
	}
	b.idle.renew()
	// After the deadline was renewed: who ends the context from now on shortens the deadline after us.
	if err := b.ctx.Err(); err != nil {
		return 0, b.fail(err)
	}
	n, err := b.Reader.Read(p)
	b.read += int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.ended = true
		return n, io.EOF
	}
	return n, b.fail(err)
}

// fail remembers why the body failed: a registry knows only that it did.
func (b *body) fail(err error) error {
	b.ended = true
	var tooLarge *http.MaxBytesError // by a handler of the embedder's around ours
	switch {
	case errors.As(err, &tooLarge):
		b.failure = ErrTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded) && b.idle.struck():
		b.failure = errTimeout
	case is(err, os.ErrDeadlineExceeded, context.Canceled, context.DeadlineExceeded):
		b.failure = ErrUnavailable // The context ended. (It also does after a failed read: so its state tells nothing here.)
	default:
		b.failure = ErrSizeInvalid.With("the body ended early")
	}
	return fmt.Errorf("read body: %w: %w", b.failure, err)
}

// end lets go of the connection. Before it sends an answer, net/http reads up to 256 KiB of what is left of the body, so that
// the client gets to see the answer and can use the connection again; a client that stalls now has its last deadline.
func (b *body) end() {
	if b.ctx == nil {
		return
	}
	if !b.ended && b.closing {
		b.linger()
	}
	b.release()
	if !b.ended {
		b.idle.renew()
	}
}

// lingerTime is how long a client is waited for that still sends what nobody wants.
const lingerTime = 5 * time.Second

// linger sends the answer, then reads what the client still sends until it has seen that and closes the connection. On a
// connection that is closed after the request, as proxies have that open one for each, net/http reads nothing: the client's
// system would be told that what it sends is lost, and throw the answer away.
func (b *body) linger() {
	c := http.NewResponseController(b.idle.connection)
	if c.Flush() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	if b.ctx.Err() == nil { // after the deadline was set, as in Read
		_, _ = io.Copy(io.Discard, b.Reader) // fails as soon as the client has seen the answer
	}
}

// is reports whether err is one of the targets.
func is(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
