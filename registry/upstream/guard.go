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
	netip.MustParsePrefix("100.64.0.0/10"),    // between carriers and their customers
	netip.MustParsePrefix("192.0.0.0/24"),     // protocol assignments
	netip.MustParsePrefix("198.18.0.0/15"),    // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),      // reserved
	netip.MustParsePrefix("168.63.129.16/32"), // looks public, and is a cloud's own
	netip.MustParsePrefix("100::/64"),         // discarded
	netip.MustParsePrefix("2001::/32"),        // tunnels
	netip.MustParsePrefix("3fff::/20"),        // documentation
	netip.MustParsePrefix("64:ff9b:1::/48"),   // local translation
	netip.MustParsePrefix("2001:db8::/32"),    // documentation
	netip.MustParsePrefix("fec0::/10"),        // site-local
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
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12},
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
	if g.isOwn(req) {
		return nil
	}
	own := strings.EqualFold(hostPort(req.URL), hostPort(g.base))
	secret := req.Header.Get("Authorization") != "" || req.Body != nil && req.Body != http.NoBody
	if req.URL.Scheme != "https" && (g.base.Scheme == "https" || secret) {
		return fmt.Errorf("%w: %s is not https", errForbidden, req.URL.Redacted())
	}
	if !own && !g.mayName(req.URL.Hostname()) {
		return fmt.Errorf("%w: %s", errForbidden, req.URL.Redacted())
	}
	return nil
}

// mayName reports whether a redirect may lead to a host of that name, as far as can be told without resolving it. What looks like an
// address in an old form, 127.1 or 0x7f.1, is none that anybody has to write.
func (g *guard) mayName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if address, err := netip.ParseAddr(host); err == nil {
		return g.mayReach(address)
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	return last != "" && strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(strings.ToLower(last), "0x")
}

// isOwn reports whether a request goes to the upstream itself.
func (g *guard) isOwn(req *http.Request) bool {
	return req.URL.Scheme == g.base.Scheme && strings.EqualFold(hostPort(req.URL), hostPort(g.base))
}

// isElsewhere reports whether the upstream has sent a request to somebody else, who does not speak for it. Whoever gives tokens does.
func (g *guard) isElsewhere(req *http.Request) bool {
	return req.Response != nil && !g.isOwn(req)
}

// guarded checks each request, those that redirects lead to and those for tokens, too. What is the upstream's alone, headers and a
// client's certificate, goes to it alone.
type guarded struct {
	guard  *guard
	header http.Header
	own    http.RoundTripper
	others http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.guard.check(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	if !t.guard.isOwn(req) {
		return t.others.RoundTrip(req)
	}
	req = req.Clone(req.Context()) // a RoundTripper must not change what it is given
	for name, values := range t.header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	return t.own.RoundTrip(req)
}
