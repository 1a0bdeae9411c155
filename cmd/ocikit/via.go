package main

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store"
)

// via is what this process calls itself in Via. Each process adds its name to those of the ones that a request has come through, and so
// do the requests upstream that are its consequence: whoever finds its own name there has been led in a circle, over however many others.
type via string

// How many registries a request may have come through, with this one: nobody lines up so many mirrors.
const maxHops = 8

const viaPrefix = "ocikit-"

func newVia() via { return via(viaPrefix + store.NewID()) }

// isVia matches the names that newVia makes, and nothing else that somebody may send.
var isVia = regexp.MustCompile(`^` + viaPrefix + `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString

// hopsKey is of the value in a request's context that says through whom it has come.
type hopsKey struct{}

// follow has the context of each request know through whom it has come.
func (v via) follow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hops := hopsOf(r.Header); len(hops) > 0 {
			r = r.WithContext(context.WithValue(r.Context(), hopsKey{}, hops))
		}
		next.ServeHTTP(w, r)
	})
}

// headers are those of a request upstream.
func (v via) headers(ctx context.Context) http.Header {
	hops, _ := ctx.Value(hopsKey{}).([]string)
	return http.Header{"Via": {"1.1 " + strings.Join(append(slices.Clip(hops), string(v)), ", 1.1 ")}}
}

// hopsOf returns the registries of our kind among those that a request has come through, in their order (RFC 9110, section 7.6.3). Other
// proxies, and what else stands there, are nobody's business upstream.
func hopsOf(header http.Header) []string {
	var hops []string
	for _, value := range header["Via"] {
		for one := range strings.SplitSeq(value, ",") {
			if words := strings.Fields(one); len(words) > 1 && isVia(words[1]) {
				hops = append(hops, words[1])
			}
		}
	}
	return hops
}

// authorization is what decides about requests.
type authorization = func(*http.Request, []registry.Access) (func(registry.Access) bool, error)

// refuseLoops also refuses what has come through this process already, or through more than anybody means it to. Whoever asked takes
// that for a no, at once, where waiting for itself would take until somebody has had enough. It is for who has upstreams: no request goes
// round through others, who may therefore be the last of any chain.
func (v via) refuseLoops(next authorization) authorization {
	return func(r *http.Request, want []registry.Access) (func(registry.Access) bool, error) {
		hops := hopsOf(r.Header)
		if slices.Contains(hops, string(v)) {
			return nil, registry.ErrDenied.With("this registry is its own upstream")
		}
		if len(hops) >= maxHops { // a longer chain is sent to nobody: a no would be remembered, and told to all
			return nil, registry.ErrDenied.With("this request has come through %d registries: one of them may be its own upstream", len(hops))
		}
		if next == nil {
			return func(registry.Access) bool { return true }, nil
		}
		return next(r, want)
	}
}
