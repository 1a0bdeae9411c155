package upstream

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// caused is the context of work that outlives the request that is its cause, and knows what that one does.
type caused struct {
	context.Context
	cause context.Context
}

// Value implements [context.Context].
func (c caused) Value(key any) any {
	if value := c.Context.Value(key); value != nil {
		return value
	}
	return c.cause.Value(key)
}

// cause tells apart what Forward does; "" is what no other registry has caused.
func (r *Registry) cause(ctx context.Context) string {
	if r.options.Forward == nil {
		return ""
	}
	header := r.options.Forward(ctx)
	if maps.EqualFunc(header, r.options.Forward(r.ctx), slices.Equal) {
		return ""
	}
	return fmt.Sprintf(" for %x", sha256.Sum256(fmt.Append(nil, header))) // a client decides how long it is
}

// forwarding adds the headers that a request's context leads to. The request is its own: it was cloned.
type forwarding struct {
	http.RoundTripper
	headers func(ctx context.Context) http.Header
}

// RoundTrip implements [http.RoundTripper].
func (t forwarding) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.headers != nil {
		for name, values := range t.headers(req.Context()) {
			req.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	return t.RoundTripper.RoundTrip(req)
}
