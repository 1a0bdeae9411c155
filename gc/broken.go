package gc

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

const (
	// mostDependents is how large pages of dependents become. The cost of a page grows with what comes after it, too, so that who has
	// a million is asked for in large ones.
	mostDependents = 16 * records

	// parents is how many manifests above one are asked for at once: few have more, and what is of other repositories is thrown away.
	parents = 50

	// remembered is how many batches of manifests are known to be told, in one repository.
	remembered = 100
)

// breakage is what content that is missing, wrong or unreadable breaks.
type breakage struct {
	*audit
	row        store.StoredContent
	repository string // that is looked at
	told       recent // manifests of it
}

// dependents reports the manifests that content which is missing, wrong or unreadable breaks: those that refer to it, or are it, and the
// indexes above them. It holds a page of them, and the digests of those that were told last.
func (a *audit) dependents(ctx context.Context, row store.StoredContent) error {
	b := breakage{audit: a, row: row}
	after := store.ManifestAt{}
	for limit := records; ; limit = min(4*limit, mostDependents) {
		page, err := b.page(ctx, row.Digest, after, limit)
		if err != nil {
			return err
		}
		for _, after = range page {
			if after.Repository != b.repository {
				b.repository, b.told = after.Repository, recent{most: remembered * a.options.Batch}
			}
			if err := b.climb(ctx, after.Digest); err != nil {
				return err
			}
		}
		if len(page) < limit {
			return nil
		}
	}
}

func (b *breakage) page(ctx context.Context, d digest.Digest, after store.ManifestAt, limit int) ([]store.ManifestAt, error) {
	page, err := b.meta.Dependents(ctx, d, after, limit)
	if err != nil {
		return nil, fmt.Errorf("manifests that refer to %s: %w", d, err)
	}
	return page, nil
}

// rung is a manifest that has been told, whose parents are to be told from one on.
type rung struct{ of, after digest.Digest }

// climb reports a manifest, and all above it, unless they have been told. It holds at most parents for each level of indexes.
func (b *breakage) climb(ctx context.Context, from digest.Digest) error {
	var ladder []rung
	tell := func(d digest.Digest) error {
		if !b.told.add(d) {
			return nil
		}
		ladder = append(ladder, rung{of: d})
		return b.find(AuditFinding{Kind: AuditBroken, Key: b.row.Key, Digest: b.row.Digest, Repository: b.repository, Manifest: d})
	}
	if err := tell(from); err != nil {
		return err
	}
	for len(ladder) > 0 {
		top := ladder[len(ladder)-1]
		ladder = ladder[:len(ladder)-1]
		page, err := b.page(ctx, top.of, store.ManifestAt{Repository: b.repository, Digest: top.after}, parents)
		if err != nil {
			return err
		}
		if len(page) == parents && page[parents-1].Repository == b.repository {
			ladder = append(ladder, rung{of: top.of, after: page[parents-1].Digest})
		}
		for _, at := range page {
			if at.Repository != b.repository { // and so are all that come after it
				break
			}
			if at.Digest == top.of {
				continue
			}
			if err := tell(at.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

// recent is a set that forgets what has not been asked for lately, so that it holds at most so many.
type recent struct {
	most       int
	young, old map[digest.Digest]struct{} // half of them each
}

// add adds one, and reports whether it is not known to have been there.
func (r *recent) add(d digest.Digest) bool {
	if _, ok := r.young[d]; ok {
		return false
	}
	_, known := r.old[d]
	if r.young == nil || len(r.young) >= r.most/2 {
		r.young, r.old = map[digest.Digest]struct{}{}, r.young
	}
	r.young[d] = struct{}{}
	return !known
}
