package storetest_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// roundTripFaults are mistakes that only show between two round trips of a call, by what a store with them does: what should be one
// transaction is several. m calls before ahead of each call.
func roundTripFaults() map[string]metadataFault {
	var reserved, deleted sync.Map
	byName := func(m store.Metadata) store.Metadata { return &goesByName{m, &deleted} }
	return map[string]metadataFault{
		"looks for keys in one place, and then in another": {"RoundTrips/FinishOfWhatAnAuditLooksAt", plants(func(m collecting) store.Metadata { return &looksInTurn{m, &reserved} })},
		"forgets what a manifest refers to":                {"RoundTrips/ManifestPut", func(m store.Metadata) store.Metadata { return &forgetsEdges{m} }},
		"reviews what it looked at earlier":                {"RoundTrips/Head", func(m store.Metadata) store.Metadata { return &looksThenReviews{m} }},
		"expires the manifest that it looked at":           {"RoundTrips/PutOfAManifestThatExpires", func(m store.Metadata) store.Metadata { return &looksAndExpires{m} }},
		"expires a tag of whoever has the name":            {"RoundTrips/EveryEventBesideATagsExpiry", byName},
		"evicts from whoever has the name":                 {"RoundTrips/EveryEventBesideAnEviction", byName},
		"looks for a subject before it lets go":            {"RoundTrips/EveryPutBesideACascade", func(m store.Metadata) store.Metadata { return &looksForSubjects{m} }},
		"marks content wherever it is":                     {"RoundTrips/EveryEventBesideAMark", func(m store.Metadata) store.Metadata { return &marksByDigest{m} }},
		"expires the tag that it looked at":                {"RoundTrips/PutOfATagThatExpires", func(m store.Metadata) store.Metadata { return &looksThenExpires{m} }},
	}
}

// looksThenReviews reviews by digest what was due when it looked.
type looksThenReviews struct{ store.Metadata }

func (m *looksThenReviews) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	due, err := m.Candidates(ctx, review.Grace, review.Limit)
	if err != nil || len(due) == 0 {
		return store.Reviewed{}, err
	}
	review.Grace = 0
	return m.Metadata.ReviewCandidates(ctx, review)
}

type looksThenExpires struct{ store.Metadata }

func (m *looksThenExpires) ExpireTag(ctx context.Context, expiry store.TagExpiry) error {
	current, err := m.Manifest(ctx, expiry.Repository, store.ManifestRef{Tag: expiry.Tag})
	if err != nil {
		return err
	}
	if current.Digest != expiry.Digest {
		return store.ErrConditionFailed
	}
	return m.DeleteTag(ctx, expiry.Repository, expiry.Tag)
}

type looksAndExpires struct{ store.Metadata }

func (m *looksAndExpires) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	records, err := m.ManifestRecords(ctx, expiry.Repository, "", 1<<20)
	if err != nil {
		return err
	}
	for _, record := range records {
		if record.Digest == expiry.Digest && record.Tagged {
			return store.ErrConditionFailed
		}
	}
	return m.DeleteManifest(ctx, expiry.Repository, expiry.Digest, nil)
}

type forgetsEdges struct{ store.Metadata }

func (m *forgetsEdges) PutManifest(ctx context.Context, put store.ManifestPut) error {
	for _, reference := range put.References {
		if _, err := m.Content(ctx, put.Repository, reference.Digest); err != nil {
			return &store.MissingError{Digests: []digest.Digest{reference.Digest}}
		}
	}
	put.References = nil
	return m.Metadata.PutManifest(ctx, put)
}

// looksForSubjects lets go a referrer whose subject was not here when it looked.
type looksForSubjects struct{ store.Metadata }

func (m *looksForSubjects) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	if expiry.Orphan {
		referrer, err := m.Manifest(ctx, expiry.Repository, store.ManifestRef{Digest: expiry.Digest})
		if err != nil {
			return err
		}
		if _, err := m.Manifest(ctx, expiry.Repository, store.ManifestRef{Digest: referrer.Subject}); err == nil {
			return store.ErrConditionFailed
		}
		expiry.Orphan, expiry.PushedBy = false, time.Time{}
	}
	return m.Metadata.ExpireManifest(ctx, expiry)
}

// goesByName decides on a tag or a manifest of one repository, and carries that out in another one that has the name by then.
type goesByName struct {
	store.Metadata
	deleted *sync.Map // names of repositories that were deleted
}

func (m *goesByName) DeleteRepository(ctx context.Context, repository string) error {
	m.deleted.Store(repository, true)
	return m.Metadata.DeleteRepository(ctx, repository)
}

// overtaken reports whether a manifest was there, and its repository was deleted since that was seen.
func (m *goesByName) overtaken(ctx context.Context, repository string, ref store.ManifestRef, d digest.Digest) bool {
	found, err := m.Manifest(ctx, repository, ref)
	if err != nil || found.Digest != d {
		return false
	}
	_, before := m.deleted.Load(repository)
	_, _ = m.Manifest(ctx, repository, ref) // another round trip
	_, after := m.deleted.Load(repository)
	return after && !before
}

func (m *goesByName) ExpireTag(ctx context.Context, expiry store.TagExpiry) error {
	if m.overtaken(ctx, expiry.Repository, store.ManifestRef{Tag: expiry.Tag}, expiry.Digest) {
		return m.DeleteTag(ctx, expiry.Repository, expiry.Tag)
	}
	return m.Metadata.ExpireTag(ctx, expiry)
}

func (m *goesByName) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (int64, error) {
	if m.overtaken(ctx, eviction.Repository, store.ManifestRef{Digest: eviction.Digest}, eviction.Digest) {
		eviction.Quiet = 0
	}
	return m.Metadata.EvictManifest(ctx, eviction)
}

// marksByDigest marks content that had the key when it looked.
type marksByDigest struct{ store.Metadata }

func (m *marksByDigest) MarkContent(ctx context.Context, d digest.Digest, key store.Key, missing bool) (bool, error) {
	before, err := m.content(ctx, d)
	if err != nil || before.Key != key {
		return false, err
	}
	now, err := m.content(ctx, d)
	if err != nil {
		return false, err
	}
	return m.Metadata.MarkContent(ctx, d, now.Key, missing)
}

// content returns where content is.
func (m *marksByDigest) content(ctx context.Context, d digest.Digest) (store.StoredContent, error) {
	stored, err := m.StoredContents(ctx, "", 1<<20)
	if i := slices.IndexFunc(stored, func(s store.StoredContent) bool { return s.Digest == d }); i >= 0 {
		return stored[i], err
	}
	return store.StoredContent{}, err
}
