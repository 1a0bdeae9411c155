package storetest_test

import (
	"context"

	"github.com/ocikit/ocikit/store"
)

// roundTripFaults are mistakes that only show between two round trips of a call, by what a store with them does: what should be one
// transaction is several. m calls before ahead of each call.
func roundTripFaults() map[string]metadataFault {
	return map[string]metadataFault{
		"reviews what it looked at earlier":      {"RoundTrips/Head", func(m store.Metadata) store.Metadata { return &looksThenReviews{m} }},
		"expires the manifest that it looked at": {"RoundTrips/PutOfAManifestThatExpires", func(m store.Metadata) store.Metadata { return &looksAndExpires{m} }},
		"expires the tag that it looked at":      {"RoundTrips/PutOfATagThatExpires", func(m store.Metadata) store.Metadata { return &looksThenExpires{m} }},
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
