package registry

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// Referrers implements [Lister].
//
// Manifests that clients list in an index under the fallback tag (distribution-spec, "Referrers Tag Schema") need no second look: one that names the
// subject and was pushed here is among the referrers already, since every manifest's subject is recorded, however it came.
func (l *Local) Referrers(ctx context.Context, repository string, subject digest.Digest, page ReferrersPage) ([]ocispec.Descriptor, error) {
	found, err := l.meta.Referrers(ctx, repository, subject, store.ReferrersPage(page))
	return found, translate(err)
}

// Repositories implements [Lister]. What was pulled through from upstreams is not among it: nobody pushed that here.
func (l *Local) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	names, err := l.meta.Repositories(ctx, after, limit)
	return withoutMirrors(names), translate(err)
}

// withoutMirrors cuts mirrored repositories off, which come last.
func withoutMirrors(names []string) []string {
	at, _ := slices.BinarySearch(names, store.MirrorPrefix)
	return names[:at]
}
