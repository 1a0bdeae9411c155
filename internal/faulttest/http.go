package faulttest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/tooltest"
)

// HTTP passes requests to a target, as they came, until it is told otherwise.
type HTTP struct {
	url    string
	target *url.URL
	client *http.Transport
	ended  context.Context // done when the proxy is closed

	mu        sync.Mutex
	intercept func(*http.Request) Fault
	counts    map[Operation]int
}

// NewHTTP starts a proxy for the target, the URL of a server. It ends with the
// test, and with it whatever is still held.
func NewHTTP(t testing.TB, target string) *HTTP {
	t.Helper()
	parsed, err := url.Parse(target)
	if err != nil {
		t.Fatalf("parse the target: %v", err)
	}
	ended, end := context.WithCancel(context.Background())
	p := &HTTP{
		target: parsed,
		client: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		ended:  ended,
		counts: map[Operation]int{},
	}
	p.url = serve(t, p, func() {
		end()
		p.client.CloseIdleConnections()
	})
	return p
}

// URL returns the proxy's own URL, without a slash at its end.
func (p *HTTP) URL() string { return p.url }

// Intercept has the hook decide what happens to each request from now on; nil
// passes all. The hook may be called at any time, from any goroutine, and must
// not read the request's body.
func (p *HTTP) Intercept(hook func(*http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.intercept = hook
}

// Counts returns how many requests came for each operation, whatever happened to
// them, since the start or the last ResetCounts.
func (p *HTTP) Counts() map[Operation]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// ResetCounts begins to count anew.
func (p *HTTP) ResetCounts() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.counts)
}

func (p *HTTP) decide(r *http.Request) Fault {
	p.mu.Lock()
	p.counts[OperationOf(r)]++
	hook := p.intercept
	p.mu.Unlock()
	if hook == nil {
		return Fault{}
	}
	return hook(r)
}

// ServeHTTP is for the proxy's own server.
func (p *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := p.serve(w, r, p.decide(r)); err != nil {
		// The sender sees its connection end, as it would without a proxy.
		panic(http.ErrAbortHandler) //nolint:forbidigo // this is how a handler of net/http ends a connection
	}
}

func (p *HTTP) serve(w http.ResponseWriter, r *http.Request, fault Fault) error {
	if err := p.sleep(r.Context(), fault.Delay); err != nil {
		return err
	}
	switch {
	case fault.Cut:
		return errCut
	case fault.Status != 0:
		return answerError(w, r, fault)
	case fault.Hold != nil:
		return p.hold(w, r, fault)
	default:
		return p.pass(w, r, fault)
	}
}

// pass passes a request while it comes.
func (p *HTTP) pass(w http.ResponseWriter, r *http.Request, fault Fault) error {
	body := r.Body
	if fault.CutRequestAfter > 0 {
		body = &cutReader{ReadCloser: r.Body, left: fault.CutRequestAfter}
	}
	answer, err := p.send(r.Context(), r, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	return reply(w, answer, fault)
}

// hold keeps a request, and passes it when it is released, whether its sender
// waits for the answer or not.
func (p *HTTP) hold(w http.ResponseWriter, r *http.Request, fault Fault) error {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read the request that is to be held: %w", err)
	}
	fault.Hold.arrived.happens()
	select {
	case <-fault.Hold.released.happened:
	case <-p.ended.Done():
		return errCut
	}
	answer, err := p.insist(r, content) //nolint:bodyclose // it is in memory
	if err != nil {
		return err
	}
	fault.Hold.answered(answer.StatusCode)
	return reply(w, answer, fault)
}

// insist sends a request until the target has answered. A target that answers
// and closes before it has read the body breaks the connection, so the answer is
// read while the request is written, whatever becomes of that.
func (p *HTTP) insist(r *http.Request, content []byte) (answer *http.Response, err error) {
	const tries = 10
	for range tries {
		answer, err = p.exchange(p.onward(p.ended, r, io.NopCloser(bytes.NewReader(content))))
		if err == nil || p.ended.Err() != nil {
			break
		}
	}
	return answer, err
}

// exchange sends a request and reads its answer on a connection of its own.
func (p *HTTP) exchange(out *http.Request) (*http.Response, error) {
	out.Close = true
	connection, err := (&net.Dialer{}).DialContext(out.Context(), "tcp", p.target.Host)
	if err != nil {
		return nil, fmt.Errorf("connect to the target: %w", err)
	}
	defer func() { _ = connection.Close() }()
	defer context.AfterFunc(out.Context(), func() { _ = connection.Close() })()
	written := make(chan error, 1)
	go func() { written <- out.Write(connection) }()
	answer, err := http.ReadResponse(bufio.NewReader(connection), out)
	if err != nil {
		_ = connection.Close()
		return nil, fmt.Errorf("read the target's answer: %w", errors.Join(err, <-written))
	}
	whole, err := io.ReadAll(answer.Body)
	_ = connection.Close()
	<-written //nolint:errcheck // the target need not have read all of it
	if err != nil {
		return nil, fmt.Errorf("read the target's answer: %w", err)
	}
	answer.Body = io.NopCloser(bytes.NewReader(whole))
	return answer, nil
}

// send sends the request on.
func (p *HTTP) send(ctx context.Context, r *http.Request, body io.ReadCloser) (*http.Response, error) {
	answer, err := p.client.RoundTrip(p.onward(ctx, r, body))
	if err != nil {
		return nil, fmt.Errorf("send to the target: %w", err)
	}
	return answer, nil
}

// onward is the request as it came: the host, the path's spelling and all headers
// are what was signed.
func (p *HTTP) onward(ctx context.Context, r *http.Request, body io.ReadCloser) *http.Request {
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host = p.target.Scheme, p.target.Host
	out.RequestURI = ""
	out.Body = body
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	out.Header.Del("Expect") // the body is asked for as it is read
	out.Close = false
	if out.Header.Get("User-Agent") == "" {
		out.Header["User-Agent"] = nil // or one is added
	}
	return out
}

func reply(w http.ResponseWriter, answer *http.Response, fault Fault) error {
	if fault.LoseAnswer {
		_, err := io.Copy(io.Discard, answer.Body)
		return errors.Join(errCut, err)
	}
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.StatusCode)
	if fault.CutAnswerAfter > 0 {
		_, err := io.CopyN(w, answer.Body, fault.CutAnswerAfter)
		return errors.Join(errCut, err, http.NewResponseController(w).Flush())
	}
	if _, err := io.Copy(w, answer.Body); err != nil {
		return fmt.Errorf("pass the answer: %w", err)
	}
	return nil
}

// answerError answers as S3 does in an error. The request's body is read first,
// as most servers do, so that the sender sees the answer and not a broken
// connection.
func answerError(w http.ResponseWriter, r *http.Request, fault Fault) error {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	body, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: fault.Code, Message: "a fault of the test's"})
	if err != nil {
		return fmt.Errorf("encode the error: %w", err)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(fault.Status)
	if _, err := w.Write(append([]byte(xml.Header), body...)); err != nil {
		return fmt.Errorf("answer an error: %w", err)
	}
	return nil
}

// cutReader fails after some bytes.
type cutReader struct {
	io.ReadCloser
	left int64
}

func (r *cutReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, errCut
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

// sleep waits for the delay. The request's context alone does not tell that the
// proxy has ended: net/http looks at a connection only once the body is read.
func (p *HTTP) sleep(ctx context.Context, delay time.Duration) error {
	if delay == 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ended.Done():
		return errCut
	}
}

// serve runs a handler on the loopback interface until the test ends, and
// returns its URL. When it ends, connections are closed and end is called; then
// it waits for the handler's calls.
func serve(t testing.TB, handler http.Handler, end func()) string {
	t.Helper()
	listener, err := net.Listen("tcp", tooltest.FreeAddress(t))
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	var calls sync.WaitGroup
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			defer calls.Done()
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: time.Minute,
	}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) }) // always ends with an error: it is closed
	t.Cleanup(func() {
		end()
		_ = server.Close()
		running.Wait()
		calls.Wait()
	})
	return "http://" + listener.Addr().String()
}
