package storetest_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// mirrorFaults returns mistakes with what was pulled through, by what a store with them does.
func mirrorFaults() map[string]metadataFault {
	return map[string]metadataFault{
		"confirms whatever a tag points to":      {"Mirror/ConfirmsNoTagThatHasMoved", func(m store.Metadata) store.Metadata { return &confirmsMoved{m} }},
		"keeps the time of a tag to the minute":  {"Mirror/ConfirmsATagThatIsStillTheSame", func(m store.Metadata) store.Metadata { return &confirmsLazily{m} }},
		"lets everybody fetch":                   {"Mirror/LetsOneFetchAtATime", func(m store.Metadata) store.Metadata { return &claimsForAll{m} }},
		"looks who fetches, then claims":         {"Mirror/HasOneWinnerOfSeveralClaims", func(m store.Metadata) store.Metadata { return &looksThenFetches{Metadata: m} }},
		"releases what others fetch":             {"Mirror/ReleasesOnlyTheHoldersFetch", func(m store.Metadata) store.Metadata { return &releasesAny{Metadata: m} }},
		"adds up every link":                     {"Mirror/AddsUpEachContentOnce", func(m store.Metadata) store.Metadata { return &addsEveryLink{m} }},
		"evicts what was just pulled":            {"Evict/WaitsForQuiet", func(m store.Metadata) store.Metadata { return &evictsLoud{m} }},
		"evicts what was pushed":                 {"Evict/LeavesWhatWasPushed", func(m store.Metadata) store.Metadata { return &evictsPushed{m} }},
		"tells that all of a manifest was freed": {"Evict/TellsWhatItFrees", func(m store.Metadata) store.Metadata { return &freesAll{m} }},
	}
}

type confirmsMoved struct{ store.Metadata }

func (m *confirmsMoved) ConfirmTag(ctx context.Context, repository, tag string, _ digest.Digest) error {
	current, err := m.Manifest(ctx, repository, store.ManifestRef{Tag: tag})
	if err != nil {
		return err
	}
	return m.Metadata.ConfirmTag(ctx, repository, tag, current.Digest)
}

type confirmsLazily struct{ store.Metadata }

func (m *confirmsLazily) ConfirmTag(ctx context.Context, repository, tag string, d digest.Digest) error {
	if current, err := m.MirroredTag(ctx, repository, tag); err == nil && current.Age < time.Minute {
		return nil
	}
	return m.Metadata.ConfirmTag(ctx, repository, tag, d)
}

type claimsForAll struct{ store.Metadata }

func (m *claimsForAll) ClaimFetch(ctx context.Context, d digest.Digest, holder string, life time.Duration) (bool, error) {
	_, err := m.Metadata.ClaimFetch(ctx, d, holder, life)
	return true, err
}

// looksThenFetches tells by what it has seen before it claimed.
type looksThenFetches struct {
	store.Metadata
	claims atomic.Int64
}

func (m *looksThenFetches) ClaimFetch(ctx context.Context, d digest.Digest, holder string, life time.Duration) (bool, error) {
	seen := m.claims.Load()
	yield()
	claimed, err := m.Metadata.ClaimFetch(ctx, d, holder, life)
	meanwhile := m.claims.Add(1)-1 != seen
	return claimed || meanwhile, err
}

// releasesAny remembers who has claimed, and releases it for whomever.
type releasesAny struct {
	store.Metadata
	holders sync.Map
}

func (m *releasesAny) ClaimFetch(ctx context.Context, d digest.Digest, holder string, life time.Duration) (bool, error) {
	claimed, err := m.Metadata.ClaimFetch(ctx, d, holder, life)
	if claimed {
		m.holders.Store(d, holder)
	}
	return claimed, err
}

func (m *releasesAny) ReleaseFetch(ctx context.Context, d digest.Digest, holder string) error {
	if current, ok := m.holders.Load(d); ok {
		holder = current.(string)
	}
	return m.Metadata.ReleaseFetch(ctx, d, holder)
}

// addsEveryLink counts what several repositories have several times.
type addsEveryLink struct{ store.Metadata }

func (m *addsEveryLink) MirroredSize(ctx context.Context, after store.ManifestAt, limit int) (store.MirroredPage, error) {
	page, err := m.Metadata.MirroredSize(ctx, after, limit)
	if err == nil && page.Last != after {
		page.Contents = max(page.Contents, 1)
	}
	return page, err
}

type evictsLoud struct{ store.Metadata }

func (m *evictsLoud) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (int64, error) {
	eviction.Quiet = 0
	return m.Metadata.EvictManifest(ctx, eviction)
}

type evictsPushed struct{ store.Metadata }

func (m *evictsPushed) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (int64, error) {
	if !store.IsMirror(eviction.Repository) {
		return 0, m.DeleteManifest(ctx, eviction.Repository, eviction.Digest, nil)
	}
	return m.Metadata.EvictManifest(ctx, eviction)
}

type freesAll struct{ store.Metadata }

func (m *freesAll) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (int64, error) {
	freed, err := m.Metadata.EvictManifest(ctx, eviction)
	if err != nil {
		return 0, err
	}
	return freed + 1, nil
}
