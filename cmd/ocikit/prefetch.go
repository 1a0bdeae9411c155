package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
)

// prefetchCommand pulls images through before anybody needs them.
type prefetchCommand struct {
	storeFlags
	mirrorFlags
	Platform []string `placeholder:"OS/ARCH" help:"Which images of those that are for several platforms (all)."`
	Images   []string `arg:"" name:"image" help:"Images, as clients of this registry call them, without its host: hub/library/alpine:3.22."`
}

// Run fetches the images, one after the other, and tells how far that has come.
func (c *prefetchCommand) Run(ctx context.Context, out output, file *configFile) error {
	m, problems := c.mirrorFlags.check(file)
	if len(m.upstreams) == 0 && problems == nil {
		problems = append(problems, errors.New("--upstream: there is none to fetch from: set --upstream NAME=URL, or --config with upstreams"))
	}
	images := make([]imageName, len(c.Images))
	for i, text := range c.Images {
		var err error
		if images[i], err = parseImage(text); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	s, err := c.openLasting(ctx, out, changing)
	if err != nil {
		return err
	}
	defer s.close(nil)
	metrics := newMetrics(staging.NewBudget(0))
	upstreams, err := c.mirrorFlags.open(m, s, registry.LocalOptions{}, warnings(out), newVia(), metrics.pulledThrough)
	if err != nil {
		return err
	}
	defer upstreams.close()
	for i, image := range images {
		if err := m.hidden(ctx, s, image.repository); err != nil {
			return fmt.Errorf("%s: %w", c.Images[i], err)
		}
		if err := c.fetch(ctx, out, c.Images[i], image, upstreams.behind(m, image.repository)); err != nil {
			return err
		}
	}
	return nil
}

// fetch fetches an image from the first of the upstreams that has it.
func (c *prefetchCommand) fetch(ctx context.Context, out output, text string, image imageName, sources []upstream.Under) error {
	if len(sources) == 0 {
		return fmt.Errorf("%s: no route leads from there to an upstream", text)
	}
	var failed error
	for _, source := range sources {
		progress := newProgress(out)
		err := source.Prefetch(ctx, image.repository, image.ref, &upstream.PrefetchOptions{
			Platforms: c.Platform, Progress: func(p upstream.Progress) {
				progress.show(func() string {
					return fmt.Sprintf("%s: %d of %d blobs, %s of %s",
						text, p.Blobs, p.AllBlobs, units.BytesSize(float64(p.Bytes)), units.BytesSize(float64(p.AllBytes)))
				})
			},
		})
		progress.end()
		if err == nil {
			_, err = fmt.Fprintf(out.stdout, "%s is here\n", text)
			return err
		}
		if failed == nil || errors.Is(failed, registry.ErrManifestUnknown) {
			failed = err
		}
	}
	return fmt.Errorf("%s: %w", text, failed)
}

// find returns the route of a repository: the one with the longest prefix.
func (m *mirrors) find(repository string) (found routeConfig) {
	for _, route := range m.routes {
		fits := route.Prefix == "" || repository == route.Prefix || strings.HasPrefix(repository, route.Prefix+"/")
		if fits && len(route.Prefix) >= len(found.Prefix) {
			found = route
		}
	}
	return found
}

// hidden returns an error if a local repository hides the upstreams behind it.
func (m *mirrors) hidden(ctx context.Context, s *stores, repository string) error {
	route := m.find(repository)
	if len(route.To) == 0 || route.To[0] != localName || route.Mix {
		return nil
	}
	_, err := s.meta.Tags(ctx, repository, "", 1)
	switch {
	case err == nil:
		return errors.New("it is a local repository, which hides what is behind it")
	case errors.Is(err, store.ErrRepositoryUnknown):
		return nil
	}
	return err
}

// behind returns the upstreams to which a repository leads, in their order.
func (o *opened) behind(m mirrors, repository string) []upstream.Under {
	route := m.find(repository)
	var found []upstream.Under
	for _, name := range route.To {
		if r, ok := o.registries[name]; ok {
			found = append(found, r.Under(route.Prefix))
		}
	}
	return found
}

// imageName is what somebody calls an image.
type imageName struct {
	repository string
	ref        registry.Reference
}

// parseImage reads REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST.
func parseImage(text string) (imageName, error) {
	name, d, hasDigest := strings.Cut(text, "@")
	name, tag, hasTag := strings.Cut(name, ":")
	image := imageName{repository: name, ref: registry.Reference{Tag: "latest"}}
	if hasTag {
		image.ref.Tag = tag
	}
	if hasDigest {
		parsed, err := cas.ParseDigest(d)
		if err != nil {
			return image, fmt.Errorf("%s: %w", text, err)
		}
		image.ref = registry.Reference{Digest: parsed}
	}
	if !registry.ValidRepository(name) || image.ref.Tag != "" && !registry.ValidTag(image.ref.Tag) {
		return image, fmt.Errorf("%s: want something like hub/library/alpine:3.22, without the registry's host", text)
	}
	return image, nil
}
