package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
)

// mirrorFlags say where what is not here comes from. Every command that reads through them has them.
type mirrorFlags struct {
	Upstream  map[string]string `placeholder:"NAME=URL" mapsep:";" help:"Pull NAME/… through from another registry, and keep it. More, such as logins, rewriting and fall-through, in --config."`
	SpoolDir  string            `type:"path" placeholder:"DIR" help:"Where content lies that is on its way from upstreams (the folder for temporary files)."`
	SpoolSize size              `default:"4GiB" placeholder:"SIZE" help:"How much of it, at most (${default})."`
}

// mirrors are the upstreams as they are configured, checked as far as that can be without asking anybody.
type mirrors struct {
	upstreams map[string]*upstreamSettings
	routes    []routeConfig
}

type upstreamSettings struct {
	url       *url.URL
	namespace string
	named     bool // somebody has chosen the namespace
	options   upstream.Options
}

// check reads flags and file, and returns everything that is wrong with them, with keys.
func (c *mirrorFlags) check(file *configFile) (mirrors, []error) {
	var errs []error
	m := mirrors{upstreams: map[string]*upstreamSettings{}}
	configs := c.merge(file)
	if c.SpoolSize < 1 {
		errs = append(errs, errors.New("--spool-size: must be at least 1 byte"))
	}
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		key := "upstreams." + name
		if name == localName || !registry.ValidRepository(name) || strings.Contains(name, "/") {
			errs = append(errs, fmt.Errorf("%s: want a name of lower-case letters and digits other than %q", key, localName))
			continue
		}
		config := configs[name]
		settings, problems := config.read()
		for _, err := range problems {
			errs = append(errs, fmt.Errorf("%s.%w", key, err))
		}
		if other := m.named(settings.namespace); other != "" {
			errs = append(errs, fmt.Errorf("%s.namespace: %q is that of upstreams.%s, too: say which is meant by it", key, settings.namespace, other))
		}
		m.upstreams[name] = settings
	}
	if len(configs) == 0 && len(file.Routes) > 0 {
		return m, append(errs, errors.New("routes: there is no upstream to lead to, and all is local: add upstreams, or leave routes out"))
	}
	routes, problems := m.readRoutes(file.Routes)
	m.routes = routes
	return m, append(errs, problems...)
}

// merge returns the file's upstreams, with the URLs of the flags.
func (c *mirrorFlags) merge(file *configFile) map[string]upstreamConfig {
	configs := map[string]upstreamConfig{}
	maps.Copy(configs, file.Upstreams)
	for name, address := range c.Upstream {
		config := configs[name]
		config.URL = address
		configs[name] = config
	}
	return configs
}

// named returns the upstream that mirrors' clients call so, or "".
func (m *mirrors) named(namespace string) string {
	for _, name := range slices.Sorted(maps.Keys(m.upstreams)) {
		if m.upstreams[name].namespace == namespace && namespace != "" {
			return name
		}
	}
	return ""
}

// opened are the upstreams of a process.
type opened struct {
	registries map[string]*upstream.Registry
	spool      *upstream.Spool
}

func (o *opened) close() {
	for _, r := range o.registries {
		_ = r.Close() // never fails
	}
}

// open makes the upstreams' registries over the stores. kept is for what they keep.
func (c *mirrorFlags) open(m mirrors, s *stores, kept registry.LocalOptions, log *slog.Logger, via via, observe func(upstream.Event)) (*opened, error) {
	o := &opened{registries: map[string]*upstream.Registry{}}
	if len(m.upstreams) == 0 {
		return o, nil
	}
	var err error
	if o.spool, err = upstream.NewSpool(c.SpoolDir, int64(c.SpoolSize)); err != nil {
		return nil, fmt.Errorf("--spool-dir: %w", err)
	}
	for name, settings := range m.upstreams {
		options := settings.options
		options.Kept, options.Spool, options.Logger, options.Observe = kept, o.spool, log, observe
		options.Forward = via.headers
		r, err := upstream.New(name, settings.url.String(), s.meta, s.objects, &options)
		if err != nil {
			o.close()
			return nil, fmt.Errorf("upstreams.%s: %w", name, err)
		}
		o.registries[name] = r
	}
	return o, nil
}

// route returns what all names lead to; nil if there are no upstreams, and all is local.
func (o *opened) route(m mirrors, local registry.Registry) (*registry.Route, error) {
	if len(o.registries) == 0 {
		return nil, nil
	}
	var children []registry.Child
	for _, route := range m.routes {
		var sources []registry.Source
		var writable registry.Registry
		for _, name := range route.To {
			if name == localName {
				writable = local
				continue
			}
			r := o.registries[name].Under(route.Prefix)
			sources = append(sources, registry.Source{Registry: r, Link: r.Link})
		}
		child := registry.Child{Prefix: route.Prefix, Registry: writable}
		switch {
		case writable == nil && len(sources) == 1:
			child.Registry = sources[0].Registry
		case len(sources) > 0:
			child.Registry = registry.NewFallThrough(writable, sources, &registry.FallThroughOptions{Mix: route.Mix})
		}
		children = append(children, child)
	}
	return registry.NewRoute(children...)
}

// namespace returns what turns the names of mirrors' clients into those that they have here, or nil: below the first route that leads
// to that upstream and to nothing else. What could be pushed here as well, and came first, would be another registry's image to all
// clients of the mirror.
func (m *mirrors) namespace(routes *registry.Route) func(namespace, repository string) (string, bool) {
	if routes == nil {
		return nil
	}
	alone := map[string]routeConfig{}
	for _, route := range m.routes {
		if name, ok := route.only(); ok {
			namespace := m.upstreams[name].namespace
			if _, ok := alone[namespace]; !ok {
				alone[namespace] = route
			}
		}
	}
	return func(namespace, repository string) (string, bool) {
		route, ok := alone[namespace]
		name := strings.TrimPrefix(route.Prefix+"/"+repository, "/")
		child, _ := routes.Child(name)
		return name, ok && child.Prefix == route.Prefix // else a longer prefix leads elsewhere
	}
}

// describe tells what is pulled through from where.
func (m *mirrors) describe() []string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(m.upstreams)) {
		texts = append(texts, name+"="+m.upstreams[name].url.String())
	}
	return texts
}
