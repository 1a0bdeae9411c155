package memory

import (
	"context"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// Referrers implements [store.Catalog].
func (m *Metadata) Referrers(ctx context.Context, repository string, subject digest.Digest, p store.ReferrersPage) (found []ocispec.Descriptor, err error) {
	err = m.look(ctx, "list referrers", func() error {
		r, ok := m.repositories[repository]
		if !ok {
			return nil
		}
		for _, d := range page(r.referrers[subject], p.After, len(r.referrers[subject])) {
			entry := r.manifests[d]
			if len(found) == p.Limit {
				break
			}
			if len(p.ArtifactTypes) > 0 && !slices.Contains(p.ArtifactTypes, entry.ArtifactType) {
				continue
			}
			found = append(found, ocispec.Descriptor{
				MediaType:    entry.MediaType,
				Digest:       d,
				Size:         int64(len(entry.Bytes)),
				ArtifactType: entry.ArtifactType,
				Annotations:  maps.Clone(entry.Annotations),
			})
		}
		return nil
	})
	return found, err
}
