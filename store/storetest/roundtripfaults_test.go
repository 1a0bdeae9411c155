package storetest_test

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// roundTripFaults are mistakes that only show between two round trips of a call, by what a store with them does: what should be one
// transaction is several. m calls before ahead of each call.
func roundTripFaults() map[string]metadataFault {
	var reserved sync.Map
	return map[string]metadataFault{
		"looks for keys in one place, and then in another": {"RoundTrips/FinishOfWhatAnAuditLooksAt", plants(func(m collecting) store.Metadata { return &looksInTurn{m, &reserved} })},
		"forgets what a manifest refers to":                {"RoundTrips/ManifestPut", func(m store.Metadata) store.Metadata { return &forgetsEdges{m} }},
		"reviews what it looked at earlier":                {"RoundTrips/Head", func(m store.Metadata) store.Metadata { return &looksThenReviews{m} }},
		"expires the manifest that it looked at":           {"RoundTrips/PutOfAManifestThatExpires", func(m store.Metadata) store.Metadata { return &looksAndExpires{m} }},
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
