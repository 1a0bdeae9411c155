package gc

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// review decides on candidates. Those of repositories that cascade, whose manifest was deleted, come back from it: first what
// refers to them as its subject goes, and then the next review decides on them. One of which that fails is put off.
func (c *collector) review(ctx context.Context, limit int, done *Stats) (gain, error) {
	// What is put off comes back from every review, before all others, since it was touched the longest ago. It gets places of its
	// own in the batch: else it would take those of what is behind it, and if there are enough of them, for good.
	c.putOff.tidy()
	reviewed, err := c.meta.ReviewCandidates(ctx, store.Review{
		Grace: c.options.Grace, Limit: limit + len(c.putOff), Hold: c.policies.hold(),
	})
	if err != nil {
		return nothing, fmt.Errorf("review candidates: %w", err)
	}
	done.Candidates, done.Left = reviewed.Candidates, reviewed.Left
	done.Links, done.Contents, done.Bytes = reviewed.Links, reviewed.Contents, reviewed.Bytes
	settled, full := false, false
	var failed []error
	for _, held := range reviewed.Held {
		at := store.ManifestAt{Repository: held.Repository, Digest: held.Digest}
		if c.putOff.has(at) {
			continue
		}
		err := c.cascade(ctx, held, done)
		if err == nil {
			err = c.meta.SettleCandidate(ctx, held)
		}
		if err == nil {
			delete(c.putOff, at)
			settled = true
			continue
		}
		full = !c.putOff.add(at) || full
		failed = append(failed, fmt.Errorf("of subject %s in %s: %w", held.Digest, held.Repository, err))
	}
	if full { // the others of them come back at once
		return gainOf(reviewed.Candidates, limit-reviewed.Left), firstOf("cascade", failed)
	}
	if settled {
		return filled, inPart(firstOf("cascade", failed)) // the next review decides on it
	}
	// What somebody is busy with has taken places of this batch, too, and stays: more may be due if all of the others were filled.
	return gainOf(reviewed.Candidates+len(failed), limit-reviewed.Left), inPart(firstOf("cascade", failed))
}

// cascade deletes the referrers of a subject that was deleted. One that has a tag, or that another manifest needs, or that was
// pushed since the subject was deleted, stays, and all of them do if the subject has come back meanwhile. What it deletes is a
// candidate itself, so that its own referrers follow.
func (c *collector) cascade(ctx context.Context, subject store.Candidate, done *Stats) error {
	return eachReferrer(ctx, c.meta, subject, func(d digest.Digest) error {
		err := c.meta.ExpireManifest(ctx, store.ManifestExpiry{
			Repository: subject.Repository, Digest: d, Orphan: true, PushedBy: subject.Deleted,
		})
		switch {
		case err == nil:
			done.Manifests++
		case !refused(err):
			return fmt.Errorf("delete referrer %s: %w", d, err)
		}
		return nil
	})
}

// referrers is how many referrers are asked for at once.
const referrers = 100

// eachReferrer calls do for all that refers to a subject.
func eachReferrer(ctx context.Context, meta Index, subject store.Candidate, do func(digest.Digest) error) error {
	var after digest.Digest
	for {
		page, err := meta.Referrers(ctx, subject.Repository, subject.Digest, store.ReferrersPage{After: after, Limit: referrers})
		if err != nil {
			return fmt.Errorf("referrers of %s: %w", subject.Digest, err)
		}
		for i := range page {
			after = page[i].Digest
			if err := do(after); err != nil {
				return err
			}
		}
		if len(page) < referrers {
			return nil
		}
	}
}

// refused reports whether the index says that a manifest or tag may not expire, or is gone.
func refused(err error) bool {
	var referenced *store.ReferencedError
	return errors.Is(err, store.ErrConditionFailed) || errors.Is(err, store.ErrManifestUnknown) || errors.As(err, &referenced)
}
