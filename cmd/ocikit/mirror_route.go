package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ocikit/ocikit/registry"
)

// routeConfig says which registries a prefix leads to: one, or the local one first and what it falls through to.
type routeConfig struct {
	Prefix string   `yaml:"prefix"`
	To     []string `yaml:"to"`
	Mix    bool     `yaml:"mix"`
}

// only returns the upstream that a route leads to, if it leads to nothing else.
func (r routeConfig) only() (string, bool) {
	if len(r.To) != 1 || r.To[0] == localName {
		return "", false
	}
	return r.To[0], true
}

// localName is what routes call the registry itself.
const localName = "local"

// readRoutes checks the routes, or makes those that nobody wrote: each upstream under its name, and all else local.
func (m *mirrors) readRoutes(routes []routeConfig) ([]routeConfig, []error) {
	if len(routes) == 0 {
		for _, name := range slices.Sorted(maps.Keys(m.upstreams)) {
			routes = append(routes, routeConfig{Prefix: name, To: []string{name}})
		}
		routes = append(routes, routeConfig{To: []string{localName}})
	}
	var errs []error
	seen := map[string]int{}
	for i, route := range routes {
		wrong := func(key, format string, args ...any) {
			errs = append(errs, fmt.Errorf("routes[%d].%s: "+format, append([]any{i, key}, args...)...))
		}
		if before, ok := seen[route.Prefix]; ok {
			wrong("prefix", "%q is that of routes[%d], too: put what both lead to into one", route.Prefix, before)
		}
		seen[route.Prefix] = i
		if route.Prefix != "" && !registry.ValidRepository(route.Prefix) {
			wrong("prefix", "%q cannot begin a repository's name", route.Prefix)
		}
		if len(route.To) == 0 {
			wrong("to", "leads nowhere: name %q or an upstream", localName)
		}
		if len(route.To) == 1 && route.Mix {
			wrong("mix", "there is nothing to mix with %q: name another one in to, or leave it out", route.To[0])
		}
		used := map[string]bool{}
		for at, name := range route.To {
			switch {
			case used[name]:
				wrong("to", "%q is there twice", name)
			case name == localName && at > 0:
				wrong("to", "%q must come first: what is here is never hidden by an upstream", localName)
			case name != localName && m.upstreams[name] == nil:
				wrong("to", "there is no upstream %q: want %q or one of upstreams", name, localName)
			}
			used[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.upstreams)) {
		leads := slices.ContainsFunc(routes, func(r routeConfig) bool { return slices.Contains(r.To, name) })
		alone := slices.ContainsFunc(routes, func(r routeConfig) bool { return slices.Equal(r.To, []string{name}) })
		switch {
		case !leads:
			errs = append(errs, fmt.Errorf("upstreams.%s: no route leads to it: add one to routes, or leave it out", name))
		case !alone && m.upstreams[name].named:
			errs = append(errs, fmt.Errorf("upstreams.%s.namespace: %q must lead to this upstream alone, and no route does: add one like "+
				"{prefix: %s, to: [%s]} to routes, or leave it out", name, m.upstreams[name].namespace, name, name))
		}
	}
	return routes, errs
}

// refuseLoops returns an error for each upstream that is this registry itself.
func (m *mirrors) refuseLoops(listening net.Addr, externalURL string) error {
	var errs []error
	external, err := url.Parse(externalURL)
	if err != nil {
		external = &url.URL{} // it was checked before
	}
	for _, name := range slices.Sorted(maps.Keys(m.upstreams)) {
		u := m.upstreams[name].url
		if external.Host != "" && isSame(u, external) || listensAt(listening, u) {
			errs = append(errs, fmt.Errorf("upstreams.%s.url: %s is this registry itself: name another one", name, u))
		}
	}
	return errors.Join(errs...)
}

// isSame reports whether two URLs lead to the same registry: a host may have several, each below a path.
func isSame(a, b *url.URL) bool {
	return strings.EqualFold(a.Hostname()+":"+portOf(a), b.Hostname()+":"+portOf(b)) && strings.TrimRight(a.Path, "/") == strings.TrimRight(b.Path, "/")
}

// listensAt reports whether a URL leads to where this process listens, as far as names that every machine knows tell.
func listensAt(listening net.Addr, u *url.URL) bool {
	at, ok := listening.(*net.TCPAddr)
	if !ok || portOf(u) != strconv.Itoa(at.Port) {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		ip = net.IPv4(127, 0, 0, 1)
	}
	switch {
	case ip == nil:
		name, err := os.Hostname()
		return err == nil && strings.EqualFold(name, host)
	case !at.IP.IsUnspecified():
		return ip.Equal(at.IP)
	case ip.IsLoopback() || ip.IsUnspecified():
		return true
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addresses, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.IP.Equal(ip)
	})
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}
