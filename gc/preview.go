package gc

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Preview tells what [Once] would do now, and changes nothing: each is called for everything that would go, and an error of
// it ends the preview. The stats count the uploads that would be ended, and the tombstones that would go, which are only
// counted; the links, contents and their bytes that a review would take; the objects that would be deleted, whose content has gone
// already, and their bytes as far as they are known; the tags and manifests that policies would let go, and the manifests that
// would be evicted. That repositories which were deleted would be taken apart is told once, and not counted. What would only follow
// later is not told: contents of manifests and repositories that go now have a grace to come, and objects of contents and uploads that
// go now a delay.
//
// It holds a page at a time, and beside it the digests of contents that several repositories, or none any more, had a link to,
// of referrers that go with their subject, and of manifests that would be evicted.
func Preview(ctx context.Context, meta Index, opts *Options, each func(Finding) error) (Stats, error) {
	c, err := newCollector(meta, nil, opts, false)
	if err != nil {
		return Stats{}, err
	}
	p := preview{collector: c, each: each, now: time.Now(), counted: map[digest.Digest]struct{}{}, follow: map[store.ManifestAt]struct{}{}}
	for _, look := range []func(context.Context) error{p.sessions, p.candidates, p.deleted, p.garbage, p.repositories, p.evictions} {
		if err := look(ctx); err != nil {
			return p.stats, err
		}
	}
	return p.stats, nil
}

type preview struct {
	*collector
	each    func(Finding) error
	now     time.Time
	counted map[digest.Digest]struct{}    // contents that several candidates may tell of
	follow  map[store.ManifestAt]struct{} // referrers that go with their subject
}

// candidates looks at all candidates that are due.
func (p *preview) candidates(ctx context.Context) error {
	hold := p.policies.hold()
	var after store.Candidate
	for {
		page, err := p.meta.PreviewCandidates(ctx, p.options.Grace, after, p.options.Batch)
		if err != nil {
			return fmt.Errorf("preview candidates: %w", err)
		}
		for _, found := range page {
			after = found.Candidate
			if !found.Deleted.IsZero() && hold != nil && hold(found.Repository) {
				if err := p.cascades(ctx, found.Candidate); err != nil {
					return err
				}
			}
			if err := p.candidate(ctx, found); err != nil {
				return err
			}
		}
		if len(page) < p.options.Batch {
			return nil
		}
	}
}

// candidate tells what would become of one. Content that would go is told of once.
func (p *preview) candidate(ctx context.Context, found store.Preview) error {
	p.stats.Candidates++
	finding := Finding{Kind: FindLink, Repository: found.Repository, Digest: found.Digest, Reason: "no manifest of the repository refers to it"}
	if found.Link {
		p.stats.Links++
	}
	goes := false
	if found.Content {
		var err error
		if goes, err = p.first(ctx, found); err != nil {
			return err
		}
	}
	switch {
	case goes:
		p.stats.Contents++
		p.stats.Bytes += found.Size
		finding.Kind, finding.Size = FindContent, found.Size
		if !found.Link {
			finding.Reason = "no repository links to it"
		}
	case !found.Link:
		return nil
	}
	return p.tell(finding)
}

// first reports whether content that would go has not been told of. Content that one repository links to is told of with
// that link, so it need not be remembered.
func (p *preview) first(ctx context.Context, found store.Preview) (bool, error) {
	holders, err := p.meta.Holders(ctx, found.Digest, "", 2)
	if err != nil {
		return false, fmt.Errorf("repositories that link to %s: %w", found.Digest, err)
	}
	if len(holders) == 1 {
		return found.Link, nil
	}
	_, counted := p.counted[found.Digest]
	p.counted[found.Digest] = struct{}{}
	return !counted, nil
}

// cascades tells which referrers would go with a subject that was deleted.
func (p *preview) cascades(ctx context.Context, subject store.Candidate) error {
	if _, err := p.meta.Manifest(ctx, subject.Repository, store.ManifestRef{Digest: subject.Digest}); err == nil {
		return nil // it has come back
	} else if !refused(err) {
		return fmt.Errorf("look for subject %s: %w", subject.Digest, err)
	}
	return eachReferrer(ctx, p.meta, subject, func(d digest.Digest) error {
		record, err := p.record(ctx, subject.Repository, d)
		if err != nil || record.Digest != d || record.Tagged || record.Parent || record.Pushed.After(subject.Deleted) {
			return err
		}
		p.stats.Manifests++
		p.follow[store.ManifestAt{Repository: subject.Repository, Digest: d}] = struct{}{}
		return p.tell(Finding{
			Kind: FindManifest, Repository: subject.Repository, Digest: d, Size: record.Size,
			Reason: fmt.Sprintf("its subject %s was deleted", subject.Digest),
		})
	})
}

// record looks one manifest up.
func (p *preview) record(ctx context.Context, repository string, d digest.Digest) (store.ManifestRecord, error) {
	page, err := p.meta.ManifestRecords(ctx, repository, d[:len(d)-1], 1) // nothing is between
	if err != nil {
		return store.ManifestRecord{}, fmt.Errorf("look at manifest %s: %w", d, err)
	}
	if len(page) == 0 {
		return store.ManifestRecord{}, nil
	}
	return page[0], nil
}

// repositories tells what the policies would let go.
func (p *preview) repositories(ctx context.Context) error {
	if len(p.policies) == 0 {
		return nil
	}
	left, after := p.policies.unmatched(), ""
	for {
		page, err := p.meta.Repositories(ctx, after, records)
		if err != nil {
			return fmt.Errorf("list repositories: %w", err)
		}
		for _, repository := range page {
			if store.IsMirror(repository) { // and so are all that come after it
				page = nil
				break
			}
			after = repository
			if err := p.repository(ctx, repository, left.see(repository)); err != nil {
				return err
			}
		}
		if len(page) < records {
			break
		}
	}
	for _, finding := range left.findings() {
		if err := p.tell(finding); err != nil {
			return err
		}
	}
	return nil
}

func (p *preview) repository(ctx context.Context, repository string, seeTag func(string)) error {
	policy := p.policies.of(repository)
	if policy == nil {
		return nil
	}
	j := judgement{
		meta: p.meta, policy: policy, repository: repository, now: p.now, immutable: p.options.Immutable, seeTag: seeTag,
		tag: func(_ context.Context, expiry store.TagExpiry, reason string) error {
			p.stats.Tags++
			return p.tell(Finding{Kind: FindTag, Repository: repository, Digest: expiry.Digest, Tag: expiry.Tag, Reason: reason})
		},
		manifest: func(_ context.Context, expiry store.ManifestExpiry, size int64, reason string) error {
			if _, told := p.follow[store.ManifestAt{Repository: repository, Digest: expiry.Digest}]; told {
				return nil
			}
			p.stats.Manifests++
			return p.tell(Finding{Kind: FindManifest, Repository: repository, Digest: expiry.Digest, Size: size, Reason: reason})
		},
	}
	return j.run(ctx)
}

func (p *preview) tell(finding Finding) error {
	if p.each == nil {
		return nil
	}
	return p.each(finding)
}
