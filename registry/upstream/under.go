package upstream

import (
	"context"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// Under is a [Registry] whose repositories stand below a prefix: under "hub", hub/library/alpine is what the registry calls
// library/alpine. Any number of them share the registry, what it keeps, and what is on its way to it. There is nothing to close.
type Under struct {
	registry.Unsupported
	registry *Registry
	prefix   string // with a slash at its end; "" is none
}

var _ registry.Registry = Under{}

// Under returns the registry below a prefix, in whole path segments. "" is none.
func (r *Registry) Under(prefix string) Under {
	if prefix != "" {
		prefix += "/"
	}
	return Under{registry: r, prefix: prefix}
}

// cut returns what the registry calls a repository. What is not below the prefix gets a name that no repository has.
func (u Under) cut(repository string) string {
	name, ok := strings.CutPrefix(repository, u.prefix)
	if !ok {
		return ""
	}
	return name
}

// Blob implements [registry.Reader].
func (u Under) Blob(ctx context.Context, repository string, d digest.Digest) (registry.Blob, error) {
	return u.registry.Blob(ctx, u.cut(repository), d)
}

// StatBlob implements [registry.Reader].
func (u Under) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	return u.registry.StatBlob(ctx, u.cut(repository), d)
}

// Manifest implements [registry.Reader].
func (u Under) Manifest(ctx context.Context, repository string, ref registry.Reference) (registry.Manifest, error) {
	return u.registry.Manifest(ctx, u.cut(repository), ref)
}

// Tags implements [registry.Lister].
func (u Under) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	return u.registry.Tags(ctx, u.cut(repository), after, limit)
}

// Referrers implements [registry.Lister].
func (u Under) Referrers(ctx context.Context, repository string, subject digest.Digest, page registry.ReferrersPage) ([]ocispec.Descriptor, error) {
	return u.registry.Referrers(ctx, u.cut(repository), subject, page)
}

// Repositories implements [registry.Lister].
func (u Under) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	below, ok := strings.CutPrefix(after, u.prefix)
	switch {
	case ok:
	case after < u.prefix:
		below = ""
	default:
		return nil, nil
	}
	names, err := u.registry.Repositories(ctx, below, limit)
	for i := range names {
		names[i] = u.prefix + names[i]
	}
	return names, err
}

// Holders implements [registry.Lister]: nothing can be mounted from here.
func (u Under) Holders(context.Context, digest.Digest, string, int) ([]string, error) {
	return nil, nil
}

// Link is [Registry.Link].
func (u Under) Link(ctx context.Context, repository string, d digest.Digest, to string) error {
	return u.registry.Link(ctx, u.cut(repository), d, to)
}

// Prefetch is [Registry.Prefetch].
func (u Under) Prefetch(ctx context.Context, repository string, ref registry.Reference, opts *PrefetchOptions) error {
	return u.registry.Prefetch(ctx, u.cut(repository), ref, opts)
}
