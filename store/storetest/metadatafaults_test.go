package storetest_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// metadataFault is a mistake that somebody's implementation of [store.Metadata] may have.
type metadataFault struct {
	caughtBy string // group and behaviour
	plant    func(correct store.Metadata) store.Metadata
}

// metadataFaults returns the planted faults by what a store with them does.
func metadataFaults() map[string]metadataFault {
	return map[string]metadataFault{
		"saves with a stale version":            {"Fencing/StaleSaveChangesNothing", func(m store.Metadata) store.Metadata { return &staleSaves{m} }},
		"claims at any offset":                  {"Session/ClaimWithTheWrongOffsetChangesNothing", func(m store.Metadata) store.Metadata { return &anyOffset{m} }},
		"finishes once only":                    {"Session/FinishAgainIsIdempotent", func(m store.Metadata) store.Metadata { return &finishesOnce{Metadata: m} }},
		"knows sessions in every repository":    {"Session/IsKnownInItsRepositoryOnly", func(m store.Metadata) store.Metadata { return &anyRepository{Metadata: m} }},
		"lets sessions live for ever":           {"Session/ExpiresWhenIdle", func(m store.Metadata) store.Metadata { return &endlessLife{m} }},
		"creates a session once only":           {"LostAnswer/OfEveryEventOfAnUpload", func(m store.Metadata) store.Metadata { return &createsOnce{Metadata: m} }},
		"forgets condemned tails":               {"Keys/AreNamedOrGarbage", func(m store.Metadata) store.Metadata { return &forgetsTails{m} }},
		"saves and claims without a lock":       {"Race/ClaimsAtAnOffsetSucceedOnlyBeforeItMoves", func(m store.Metadata) store.Metadata { return &looksThenClaims{m} }},
		"shows content to who knows the digest": {"Content/IsVisibleOnlyWhereItIsLinked", func(m store.Metadata) store.Metadata { return &digestIsAccess{m} }},
		"renews always":                         {"Content/RenewTouchesACandidateInItsSecondHalf", func(m store.Metadata) store.Metadata { return &renewsAlways{m} }},
		"takes empty content for none":          {"Content/InlineIsKeptExactly", func(m store.Metadata) store.Metadata { return &emptyIsNone{m} }},
		"sorts what is missing":                 {"Manifest/MissingReferencesAreNamedInOrderOnce", func(m store.Metadata) store.Metadata { return &sortsMissing{m} }},
		"takes blobs for manifests":             {"Manifest/ABlobDoesNotDoForAManifest", func(m store.Metadata) store.Metadata { return &blobsForManifests{m} }},
		"looks, then puts":                      {"Race/ManifestAndDeletionOfItsLayerExclude", func(m store.Metadata) store.Metadata { return &looksThenPuts{m} }},
		"moves locked tags":                     {"Tag/LockedMayBeCreatedNotMoved", func(m store.Metadata) store.Metadata { return &movesLocked{m} }},
		"tests one tag only":                    {"Tag/ConditionHoldsForEachTag", func(m store.Metadata) store.Metadata { return &testsOneTag{m} }},
		"tests, then tags":                      {"Race/ConditionalPutsHaveOneWinner", func(m store.Metadata) store.Metadata { return &testsThenTags{m} }},
		"sorts tags as a language does":         {"Tag/PagesAreInByteOrder", func(m store.Metadata) store.Metadata { return &foldsCase{m} }},
		"filters a page after cutting it":       {"Referrer/AreFilteredByArtifactType", func(m store.Metadata) store.Metadata { return &filtersLate{m} }},
		"deletes what a manifest needs":         {"Delete/ContentThatAManifestNeedsIsRefused", func(m store.Metadata) store.Metadata { return &ignoresEdges{Metadata: m} }},
		"keeps tags of deleted manifests":       {"Delete/ManifestTakesItsTagsAndLink", func(m store.Metadata) store.Metadata { return &keepsTags{m} }},
		"mounts from anywhere":                  {"Repository/MountOfWhatIsNotLinkedIsUnknown", func(m store.Metadata) store.Metadata { return &mountsAnything{m} }},
		"lists the newest garbage first":        {"Ledger/GarbageIsDueTheLongestAgoFirst", func(m store.Metadata) store.Metadata { return &newestFirst{m} }},
		"deletes although the context ended":    {"Cancelled/BeforeAnEventChangesNothing", func(m store.Metadata) store.Metadata { return &deafDelete{m} }},
	}
}

type staleSaves struct{ store.Metadata }

func (m *staleSaves) SaveSession(ctx context.Context, save store.Save) error {
	err := m.Metadata.SaveSession(ctx, save)
	for version := save.Version; errors.Is(err, store.ErrFenced) && version < save.Version+5; version++ {
		newer := save
		newer.Version = version
		err = m.Metadata.SaveSession(ctx, newer)
	}
	return err
}

type anyOffset struct{ store.Metadata }

func (m *anyOffset) ClaimSession(ctx context.Context, claim store.Claim) (store.Session, error) {
	claim.Offset = -1
	return m.Metadata.ClaimSession(ctx, claim)
}

type finishesOnce struct {
	store.Metadata
	done sync.Map
}

func (m *finishesOnce) FinishSession(ctx context.Context, finish store.Finish) error {
	if _, again := m.done.Load(finish.ID); again {
		return store.ErrFenced
	}
	err := m.Metadata.FinishSession(ctx, finish)
	if err == nil {
		m.done.Store(finish.ID, true)
	}
	return err
}

type anyRepository struct {
	store.Metadata
	repositories sync.Map
}

func (m *anyRepository) CreateSession(ctx context.Context, id, repository string, algorithm digest.Algorithm) error {
	m.repositories.Store(id, repository)
	return m.Metadata.CreateSession(ctx, id, repository, algorithm)
}

func (m *anyRepository) Session(ctx context.Context, ref store.SessionRef) (store.Session, error) {
	if repository, ok := m.repositories.Load(ref.ID); ok {
		ref.Repository = repository.(string)
	}
	return m.Metadata.Session(ctx, ref)
}

type endlessLife struct{ store.Metadata }

func (m *endlessLife) ClaimSession(ctx context.Context, claim store.Claim) (store.Session, error) {
	claim.Life = store.Life{}
	return m.Metadata.ClaimSession(ctx, claim)
}

type createsOnce struct {
	store.Metadata
	done sync.Map
}

func (m *createsOnce) CreateSession(ctx context.Context, id, repository string, algorithm digest.Algorithm) error {
	if _, again := m.done.LoadOrStore(id, true); again {
		return errors.New("duplicate id")
	}
	return m.Metadata.CreateSession(ctx, id, repository, algorithm)
}

type forgetsTails struct{ store.Metadata }

func (m *forgetsTails) Garbage(ctx context.Context, age time.Duration, limit int) ([]store.Garbage, error) {
	garbage, err := m.Metadata.Garbage(ctx, age, limit)
	return slices.DeleteFunc(garbage, func(g store.Garbage) bool { return strings.HasPrefix(string(g.Key), store.UploadPrefix) }), err
}

// yield lets others run between two steps that should be one.
func yield() {
	for range 50 {
		runtime.Gosched()
	}
}

type looksThenClaims struct{ store.Metadata }

func (m *looksThenClaims) ClaimSession(ctx context.Context, claim store.Claim) (store.Session, error) {
	s, err := m.Session(ctx, claim.SessionRef)
	if err != nil {
		return s, err
	}
	if claim.Offset >= 0 && s.Offset != claim.Offset {
		return store.Session{}, &store.OffsetError{Session: s}
	}
	yield()
	claim.Offset = -1
	return m.Metadata.ClaimSession(ctx, claim)
}

type digestIsAccess struct{ store.Metadata }

func (m *digestIsAccess) Content(ctx context.Context, repository string, d digest.Digest) (store.Content, error) {
	if holders, err := m.Holders(ctx, d, "", 1); err == nil && len(holders) > 0 {
		repository = holders[0]
	}
	return m.Metadata.Content(ctx, repository, d)
}

type renewsAlways struct{ store.Metadata }

func (m *renewsAlways) RenewContent(ctx context.Context, repository string, d digest.Digest, _ time.Duration) (store.Content, error) {
	return m.Metadata.RenewContent(ctx, repository, d, 0)
}

type emptyIsNone struct{ store.Metadata }

func (m *emptyIsNone) Content(ctx context.Context, repository string, d digest.Digest) (store.Content, error) {
	content, err := m.Metadata.Content(ctx, repository, d)
	if err == nil && content.Key == "" && len(content.Inline) == 0 {
		return store.Content{}, store.ErrContentUnknown
	}
	return content, err
}

type sortsMissing struct{ store.Metadata }

func (m *sortsMissing) PutManifest(ctx context.Context, put store.ManifestPut) error {
	err := m.Metadata.PutManifest(ctx, put)
	var missing *store.MissingError
	if errors.As(err, &missing) {
		slices.Sort(missing.Digests)
	}
	return err
}

type blobsForManifests struct{ store.Metadata }

func (m *blobsForManifests) PutManifest(ctx context.Context, put store.ManifestPut) error {
	put.References = slices.Clone(put.References)
	for i := range put.References {
		put.References[i].Manifest = false
	}
	return m.Metadata.PutManifest(ctx, put)
}

type looksThenPuts struct{ store.Metadata }

func (m *looksThenPuts) PutManifest(ctx context.Context, put store.ManifestPut) error {
	for _, ref := range put.References {
		if _, err := m.Content(ctx, put.Repository, ref.Digest); err != nil {
			return &store.MissingError{Digests: []digest.Digest{ref.Digest}}
		}
	}
	yield()
	put.AllowMissing = true
	return m.Metadata.PutManifest(ctx, put)
}

type movesLocked struct{ store.Metadata }

func (m *movesLocked) PutManifest(ctx context.Context, put store.ManifestPut) error {
	put.Locked = nil
	return m.Metadata.PutManifest(ctx, put)
}

type testsOneTag struct{ store.Metadata }

func (m *testsOneTag) PutManifest(ctx context.Context, put store.ManifestPut) error {
	tags := put.Tags
	put.Tags = tags[:min(len(tags), 1)]
	if err := m.Metadata.PutManifest(ctx, put); err != nil {
		return err
	}
	put.Tags, put.Condition = tags, store.TagCondition{}
	return m.Metadata.PutManifest(ctx, put)
}

type testsThenTags struct{ store.Metadata }

func (m *testsThenTags) PutManifest(ctx context.Context, put store.ManifestPut) error {
	for _, tag := range put.Tags {
		current, _ := m.Manifest(ctx, put.Repository, store.ManifestRef{Tag: tag})
		if !put.Condition.Met(current.Digest) {
			return store.ErrConditionFailed
		}
	}
	yield()
	put.Condition = store.TagCondition{}
	return m.Metadata.PutManifest(ctx, put)
}

type foldsCase struct{ store.Metadata }

func (m *foldsCase) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	tags, err := m.Metadata.Tags(ctx, repository, "", 1<<20)
	slices.SortFunc(tags, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	tags = slices.DeleteFunc(tags, func(tag string) bool { return strings.ToLower(tag) <= strings.ToLower(after) })
	return tags[:min(len(tags), limit)], err
}

type filtersLate struct{ store.Metadata }

func (m *filtersLate) Referrers(ctx context.Context, repository string, subject digest.Digest, page store.ReferrersPage) ([]ocispec.Descriptor, error) {
	types := page.ArtifactTypes
	page.ArtifactTypes = nil
	found, err := m.Metadata.Referrers(ctx, repository, subject, page)
	return slices.DeleteFunc(found, func(d ocispec.Descriptor) bool {
		return len(types) > 0 && !slices.Contains(types, d.ArtifactType)
	}), err
}

type ignoresEdges struct{ store.Metadata }

func (m *ignoresEdges) DeleteContent(ctx context.Context, repository string, d digest.Digest) error {
	err := m.Metadata.DeleteContent(ctx, repository, d)
	var referenced *store.ReferencedError
	if errors.As(err, &referenced) {
		return nil
	}
	return err
}

type keepsTags struct{ store.Metadata }

func (m *keepsTags) DeleteManifest(ctx context.Context, repository string, d digest.Digest, locked func(tag string) bool) error {
	gone, err := m.Manifest(ctx, repository, store.ManifestRef{Digest: d})
	if err != nil {
		return err
	}
	tags, err := m.Tags(ctx, repository, "", 1<<20)
	if err != nil {
		return err
	}
	pointed := []string{}
	for _, tag := range tags {
		if found, err := m.Manifest(ctx, repository, store.ManifestRef{Tag: tag}); err == nil && found.Digest == d {
			pointed = append(pointed, tag)
		}
	}
	if err := m.Metadata.DeleteManifest(ctx, repository, d, locked); err != nil {
		return err
	}
	return m.PutManifest(ctx, store.ManifestPut{Repository: repository, Manifest: gone, Tags: pointed})
}

type mountsAnything struct{ store.Metadata }

func (m *mountsAnything) Mount(ctx context.Context, d digest.Digest, from, to string) (store.Content, error) {
	if holders, err := m.Holders(ctx, d, "", 1); err == nil && len(holders) > 0 {
		from = holders[0]
	}
	return m.Metadata.Mount(ctx, d, from, to)
}

type newestFirst struct{ store.Metadata }

func (m *newestFirst) Garbage(ctx context.Context, age time.Duration, limit int) ([]store.Garbage, error) {
	garbage, err := m.Metadata.Garbage(ctx, age, 1<<20)
	slices.Reverse(garbage)
	return garbage[:min(len(garbage), limit)], err
}

type deafDelete struct{ store.Metadata }

func (m *deafDelete) DeleteContent(ctx context.Context, repository string, d digest.Digest) error {
	return m.Metadata.DeleteContent(context.WithoutCancel(ctx), repository, d)
}
