package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/ocikit/ocikit/registry"
)

// remote asks an upstream. What clients of registries have to know of logging in, tokens and trying again is oras-go's.
type remote struct {
	base    *url.URL
	guard   *guard
	client  *auth.Client
	pause   *pause
	options *Options
	close   func()
}

// attempts is how often a request is sent that fails by accident.
const attempts = 3

func newRemote(base *url.URL, o *Options) *remote {
	g := &guard{base: base, allowed: o.Internal, proxy: o.Proxy}
	own := &http.Transport{
		Proxy:                 o.Proxy,
		DialContext:           g.dial,
		TLSClientConfig:       o.TLS,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // bytes are passed on as they are
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: o.AnswerTimeout,
		ReadBufferSize:        64 << 10,

		MaxResponseHeaderBytes: 64 << 10, // parts of them are remembered, or sent back
	}
	policy := &retry.GenericPolicy{
		Retryable: mayTryAgain,
		Backoff:   backoff(retry.ExponentialBackoff(250*time.Millisecond, 2, 0.2)),
		MinWait:   100 * time.Millisecond, MaxWait: shortPause, MaxRetry: attempts - 1,
	}
	pause := newPause()
	others := own.Clone()
	if others.TLSClientConfig != nil {
		others.TLSClientConfig.Certificates, others.TLSClientConfig.GetClientCertificate = nil, nil
	}
	return &remote{
		base:  base,
		guard: g,
		client: &auth.Client{
			Client: &http.Client{Transport: &retry.Transport{
				Base: heeding{guarded{g, o.Header, forwarding{own, o.Forward}, others}, g, pause}, Policy: func() retry.Policy { return policy },
			}},
			Header:               http.Header{"User-Agent": {o.UserAgent}},
			Credential:           only(base.Host, o.Credential),
			Cache:                newTokens(),
			ClientID:             "ocikit",
			BlockedRealmPrefixes: []netip.Prefix{}, // the guard looks at the address itself, when it connects
		},
		pause:   pause,
		options: o,
		close: func() {
			own.CloseIdleConnections()
			others.CloseIdleConnections()
		},
	}
}

// backoff waits between two tries for as long as a server asks, and else as usual.
func backoff(usual retry.Backoff) retry.Backoff {
	return func(attempt int, resp *http.Response) time.Duration {
		if resp != nil {
			if after := retryAfter(resp.Header); after > 0 {
				return after
			}
		}
		return usual(attempt, resp)
	}
}

// mayTryAgain reports whether the same request may succeed a moment later. An upstream that asks to be left alone is left alone instead.
func mayTryAgain(resp *http.Response, err error) (bool, error) {
	if err != nil {
		if errors.Is(err, errForbidden) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return false, err
		}
		return true, nil
	}
	if retryAfter(resp.Header) > shortPause {
		return false, nil
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, nil
	}
	return false, nil
}

// errMissing says that the upstream does not have what was asked for.
var errMissing = errors.New("the upstream does not have it")

// question is a request for something of a repository of the upstream.
type question struct {
	method     string
	repository string
	path       string // below the repository
	query      url.Values
	header     http.Header
	timeout    time.Duration // until an answer begins; 0: the usual
}

// answer is what the upstream says if it is one of success. Whoever gets it closes it.
type answer struct {
	*http.Response
	body *patient
}

func (a *answer) close() { _ = a.body.Close() } // it was only read from

// errSlow ends a request whose answer does not begin, or whose body does not go on.
var errSlow = errors.New("no answer in time")

// ask asks the upstream. An error is errMissing, a *registry.RetryError, registry.ErrDenied, or that ctx has ended.
func (r *remote) ask(ctx context.Context, q question) (*answer, error) {
	if err := r.pause.refusal(); err != nil {
		return nil, err
	}
	u := *r.base
	u.Path += "/v2/" + q.repository + "/" + q.path
	u.RawQuery = q.query.Encode()
	asking, cancel := context.WithCancelCause(auth.AppendScopesForHost(ctx, r.base.Host, auth.ScopeRepository(q.repository, auth.ActionPull)))
	heard := &heard{}
	asking, connecting := r.watch(context.WithValue(asking, heardKey{}, heard))
	late := time.AfterFunc(orDefault(q.timeout, r.options.AnswerTimeout), func() { cancel(errSlow) })
	req, err := http.NewRequestWithContext(asking, q.method, u.String(), nil)
	if err != nil {
		cancel(err)
		return nil, fmt.Errorf("ask upstream: %w", err)
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	resp, err := r.client.Do(req)
	if !late.Stop() && err == nil {
		_ = resp.Body.Close()
		err = errSlow
	}
	if err != nil {
		cancel(err)
		if connecting() && ctx.Err() == nil && !errors.Is(err, errForbidden) {
			r.pause.unreachable()
			return nil, fmt.Errorf("%w: ask upstream: %w", unavailable(), withoutSecrets(err))
		}
		var token *errcode.ErrorResponse
		if ctx.Err() == nil && errors.As(err, &token) { // of whoever gives tokens
			return nil, r.refused(q.repository, heard, &statusError{"ask for a token", token.StatusCode})
		}
		return nil, r.failed(ctx, q.repository, err)
	}
	body := newPatient(resp.Body, r.options.IdleTimeout, cancel)
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		r.pause.answered(q.repository)
		return &answer{resp, body}, nil
	}
	defer body.Close()
	if resp.ContentLength >= 0 && resp.ContentLength < drained {
		body.drain()
	}
	u.RawQuery = ""
	said := &statusError{q.method + " " + u.String(), resp.StatusCode}
	if r.guard.isElsewhere(resp.Request) { // which says nothing about anything else
		r.pause.answered(q.repository)
		return nil, elsewhere(said, retryAfter(resp.Header))
	}
	return nil, r.refused(q.repository, heard, said)
}

// watch returns a context for a request, and what reports whether that got no further than to connect to the upstream, or to the proxy.
func (r *remote) watch(ctx context.Context) (watched context.Context, connecting func() bool) {
	var waits atomic.Bool
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(address string) { waits.Store(r.guard.trusted(address)) },
		GotConn: func(httptrace.GotConnInfo) { waits.Store(false) },
	}), waits.Load
}

// What is read of the rest of an answer that nobody wants, and for how long.
const (
	drained   = 64 << 10
	drainTime = 100 * time.Millisecond
)

func orDefault(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

// failed returns what a request for something of a repository that got no answer, or not all of it, means for a client.
func (r *remote) failed(ctx context.Context, repository string, err error) error {
	err = withoutSecrets(err)
	if ctx.Err() != nil { // somebody did not want to wait, which says nothing about the upstream
		return fmt.Errorf("ask upstream: %w", err)
	}
	if errors.Is(err, errForbidden) || errors.Is(err, auth.ErrBasicCredentialNotFound) { // nothing that will be better in a while
		return fmt.Errorf("%w: %w", registry.ErrDenied.With("the upstream registry wants a login that is not configured, or leads elsewhere"), err)
	}
	r.pause.failed(repository)
	return fmt.Errorf("%w: ask upstream: %w", unavailable(), err)
}

// denied is what clients are told of an upstream that refuses.
var denied = registry.ErrDenied.With("the upstream registry does not allow it")

func unavailable() error {
	return &registry.RetryError{Err: registry.ErrUnavailable.With("the upstream registry does not answer"), After: 5 * time.Second}
}

// statusError is an answer other than success.
type statusError struct {
	what   string
	status int
}

func (e *statusError) Error() string { return fmt.Sprintf("%s: upstream says %d", e.what, e.status) }

// refused returns what an answer other than success means for a client.
func (r *remote) refused(repository string, heard *heard, said *statusError) error {
	switch said.status {
	case http.StatusTooManyRequests:
		if err := r.pause.refusal(); err != nil {
			return fmt.Errorf("%w: %w", err, said)
		}
	case http.StatusServiceUnavailable:
		if after := time.Duration(heard.after.Load()); after > shortPause {
			r.pause.busy(repository, after)
			return fmt.Errorf("%w: %w", busy(after), said)
		}
	case http.StatusNotFound:
		r.pause.answered(repository)
		return fmt.Errorf("%w: %w", errMissing, said)
	case http.StatusUnauthorized, http.StatusForbidden:
		r.pause.answered(repository)
		return fmt.Errorf("%w: %w", denied, said)
	}
	if said.status >= http.StatusInternalServerError {
		r.pause.failed(repository)
	} else {
		r.pause.answered(repository)
	}
	return fmt.Errorf("%w: %w", unavailable(), said)
}

// busy is what clients are told of a server that wants to be left alone for so long.
func busy(after time.Duration) error {
	return &registry.RetryError{Err: registry.ErrUnavailable.With("the upstream registry asks to be left alone for a while"), After: min(after, longestPause)}
}

// elsewhere returns what an answer other than success means that came from where the upstream has led us.
func elsewhere(said *statusError, after time.Duration) error {
	switch {
	case said.status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", errMissing, said)
	case said.status == http.StatusUnauthorized || said.status == http.StatusForbidden:
		return fmt.Errorf("%w: %w", denied, said)
	case after > shortPause:
		return fmt.Errorf("%w: %w", busy(after), said)
	}
	return fmt.Errorf("%w: %w", unavailable(), said)
}

// retryAfter returns what the header says, in either of its forms (RFC 9110, section 10.2.3); 0 if it is not there.
func retryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), time.Second)
	}
	return 0
}

// patient is a body that may not go without a byte for too long.
type patient struct {
	io.ReadCloser
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	timeout time.Duration
}

func newPatient(body io.ReadCloser, timeout time.Duration, cancel context.CancelCauseFunc) *patient {
	p := &patient{ReadCloser: body, cancel: cancel, timer: time.AfterFunc(timeout, func() { cancel(errSlow) }), timeout: timeout}
	p.timer.Stop()
	return p
}

// Read implements [io.Reader]. While nobody reads, no time passes.
func (p *patient) Read(b []byte) (int, error) {
	p.timer.Reset(p.timeout)
	defer p.timer.Stop()
	return p.ReadCloser.Read(b)
}

// drain reads what is left, if that is soon done: then the connection can be used again.
func (p *patient) drain() {
	hurry := time.AfterFunc(drainTime, func() { p.cancel(errSlow) })
	defer hurry.Stop()
	_, _ = io.CopyN(io.Discard, p, drained) // what cannot be read is nothing that anybody wants
}

// Close ends the request.
func (p *patient) Close() error {
	p.timer.Stop()
	err := p.ReadCloser.Close()
	p.cancel(nil)
	return err
}
