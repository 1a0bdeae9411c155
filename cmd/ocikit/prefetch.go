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
	routes, err := upstreams.route(m, registry.NewLocal(s.meta, s.objects, nil))
	if err != nil {
		return err
	}
	var errs []error
	for i, image := range images {
		if err := c.fetch(ctx, out, routes, c.Images[i], image); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Images[i], err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// fetch fetches an image from the upstream that would be pulled through.
func (c *prefetchCommand) fetch(ctx context.Context, out output, routes *registry.Route, text string, image imageName) error {
	fetch := func(source registry.Registry) error {
		under, ok := source.(upstream.Under)
		if !ok {
			return errNoUpstream
		}
		progress := newProgress(out)
		defer progress.end()
		err := under.Prefetch(ctx, image.repository, image.ref, &upstream.PrefetchOptions{
			Platforms: c.Platform, Progress: func(p upstream.Progress) {
				progress.show(func() string {
					return fmt.Sprintf("%s: %d of %d blobs, %s of %s",
						text, p.Blobs, p.AllBlobs, units.BytesSize(float64(p.Bytes)), units.BytesSize(float64(p.AllBytes)))
				})
			},
		})
		if errors.Is(err, registry.ErrManifestUnknown) {
			if _, unknown := source.Manifest(ctx, image.repository, image.ref); unknown == nil { // so the next one's is another image
				return fmt.Errorf("not all of it is there: %s", err.Error())
			}
		}
		return err
	}
	child, _ := routes.Child(image.repository)
	var err error
	if through, ok := child.Registry.(*registry.FallThrough); ok {
		err = through.Search(ctx, image.repository, image.ref, fetch)
	} else {
		err = fetch(child.Registry)
	}
	if err == nil {
		_, err = fmt.Fprintf(out.stdout, "%s is here\n", text)
	}
	return err
}

var errNoUpstream = errors.New("no route leads from there to an upstream")

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
