package gc

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// breakage is what content that is missing or wrong breaks.
type breakage struct {
	*audit
	row        store.StoredContent
	repository string                     // that is looked at
	told       map[digest.Digest]struct{} // manifests of it
}

// dependents reports the manifests that content which is missing or wrong breaks: those that refer to it, or are it, and the
// indexes above them. It holds the digests of one repository's.
func (a *audit) dependents(ctx context.Context, row store.StoredContent) error {
	b := breakage{audit: a, row: row}
	return b.each(ctx, row.Digest, "", func(at store.ManifestAt) error {
		if at.Repository != b.repository {
			b.repository, b.told = at.Repository, map[digest.Digest]struct{}{}
		}
		return b.climb(ctx, at.Digest)
	})
}

// climb reports a manifest, and all above it, unless they have been told.
func (b *breakage) climb(ctx context.Context, from digest.Digest) error {
	for broken := []digest.Digest{from}; len(broken) > 0; {
		d := broken[len(broken)-1]
		broken = broken[:len(broken)-1]
		if _, told := b.told[d]; told {
			continue
		}
		b.told[d] = struct{}{}
		err := b.find(AuditFinding{Kind: AuditBroken, Key: b.row.Key, Digest: b.row.Digest, Repository: b.repository, Manifest: d})
		if err != nil {
			return err
		}
		err = b.each(ctx, d, b.repository, func(at store.ManifestAt) error {
			if _, told := b.told[at.Digest]; !told {
				broken = append(broken, at.Digest)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls do for the manifests that refer to content, or are it: all, or those of one repository.
func (b *breakage) each(ctx context.Context, d digest.Digest, repository string, do func(store.ManifestAt) error) error {
	after := store.ManifestAt{Repository: repository}
	for {
		page, err := b.meta.Dependents(ctx, d, after, records)
		if err != nil {
			return fmt.Errorf("manifests that refer to %s: %w", d, err)
		}
		for _, after = range page {
			if repository != "" && after.Repository != repository { // and so are all that come after it
				return nil
			}
			if err := do(after); err != nil {
				return err
			}
		}
		if len(page) < records {
			return nil
		}
	}
}
