package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// guard keeps an upstream, which decides where its redirects and token realms lead, from having us send requests to what only this
// machine can reach, or passwords to whoever listens. What must stay true: a connection is made to the upstream's own address, to
// the proxy, to a public address, or to one that was allowed; and what was asked for over TLS never goes on without it.
type guard struct {
	base    *url.URL
	allowed []netip.Prefix
	proxy   func(*http.Request) (*url.URL, error)
}

// errForbidden is what a redirect or realm gets that leads where it must not. It is never tried again.
var errForbidden = errors.New("the upstream leads to an address that it must not lead to")

// Prefixes that are neither private nor loopback by their flags, and lead to no public host all the same.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),  // between carriers and their customers
	netip.MustParsePrefix("192.0.0.0/24"),   // protocol assignments
	netip.MustParsePrefix("198.18.0.0/15"),  // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),    // reserved
	netip.MustParsePrefix("64:ff9b:1::/48"), // local translation
	netip.MustParsePrefix("2001:db8::/32"),  // documentation
	netip.MustParsePrefix("fec0::/10"),      // site-local
	netip.MustParsePrefix("255.255.255.255/32"),
}

// Prefixes whose addresses carry an IPv4 address, and at which byte.
var carriers = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("::/96"), 12},
}

// mayReach reports whether a redirect may lead to an address.
func (g *guard) mayReach(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, prefix := range g.allowed {
		if prefix.Contains(address) {
			return true
		}
	}
	for _, carrier := range carriers {
		if carrier.prefix.Contains(address) {
			raw := address.As16()
			return g.mayReach(netip.AddrFrom4([4]byte(raw[carrier.at : carrier.at+4])))
		}
	}
	for _, prefix := range special {
		if prefix.Contains(address) {
			return false
		}
	}
	return address.IsGlobalUnicast() && !address.IsPrivate()
}

// dial connects, and looks at the address that a name has led to just before: what a name means may change between two looks.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if !g.trusted(address) {
		dialer.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			parsed, err := netip.ParseAddrPort(resolved)
			if err != nil || !g.mayReach(parsed.Addr()) {
				return fmt.Errorf("%w: %s is %s", errForbidden, address, resolved)
			}
			return nil
		}
	}
	return dialer.DialContext(ctx, network, address)
}

// trusted reports whether somebody has configured this host and port: the upstream's, or that of a proxy, of which there may be one for
// each scheme.
func (g *guard) trusted(address string) bool {
	if strings.EqualFold(address, hostPort(g.base)) {
		return true
	}
	for _, u := range []*url.URL{g.base, {Scheme: "http", Host: "registry.example.com"}, {Scheme: "https", Host: "registry.example.com"}} {
		proxy, err := g.proxy(&http.Request{URL: u})
		if err == nil && proxy != nil && strings.EqualFold(address, hostPort(proxy)) {
			return true
		}
	}
	return false
}

// hostPort returns where a URL's host listens.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// check refuses what must not be sent, before it is.
func (g *guard) check(req *http.Request) error {
	own := strings.EqualFold(hostPort(req.URL), hostPort(g.base))
	if own && req.URL.Scheme == g.base.Scheme {
		return nil
	}
	if req.URL.Scheme != "https" && (g.base.Scheme == "https" || req.Header.Get("Authorization") != "") {
		return fmt.Errorf("%w: %s is not https", errForbidden, req.URL.Redacted())
	}
	if address, err := netip.ParseAddr(req.URL.Hostname()); err == nil && !own && !g.mayReach(address) {
		return fmt.Errorf("%w: %s", errForbidden, req.URL.Redacted())
	}
	return nil
}

// guarded checks each request, those that redirects lead to and those for tokens, too.
type guarded struct {
	guard *guard
	next  http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.guard.check(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	return t.next.RoundTrip(req)
}
