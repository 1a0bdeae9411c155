package storetest_test

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// collecting is an index with the collector's methods.
type collecting interface {
	store.Metadata
	store.Collector
	store.Auditor
	store.Retention
}

// plants makes the planting of a fault that needs the collector's methods.
func plants(plant func(m collecting) store.Metadata) func(store.Metadata) store.Metadata {
	return func(correct store.Metadata) store.Metadata { return plant(correct.(collecting)) }
}

// collectorFaults returns mistakes of collectors, by what a store with them does.
func collectorFaults() map[string]metadataFault {
	return map[string]metadataFault{
		"reviews without a look at edges":               {"Review/LeavesWhatAManifestRefersTo", plants(func(m collecting) store.Metadata { return &reviewsBlindly{collecting: m} })},
		"reviews and forgets to condemn":                {"Review/TakesWhatNothingNeeds", plants(func(m collecting) store.Metadata { return &forgetsToCondemn{m} })},
		"reviews before the grace":                      {"Review/WaitsForTheGrace", plants(func(m collecting) store.Metadata { return &reviewsEarly{m} })},
		"holds nothing back":                            {"Review/HoldsBackDeletedManifests", plants(func(m collecting) store.Metadata { return &holdsNothing{m} })},
		"previews by doing":                             {"Preview/ChangesNothing", plants(func(m collecting) store.Metadata { return &previewsByDoing{m} })},
		"previews garbage by taking it":                 {"Preview/OfGarbageTakesNothing", plants(func(m collecting) store.Metadata { return &previewsByTaking{m} })},
		"previews sessions by ending them":              {"Preview/OfSessionsEndsNothing", plants(func(m collecting) store.Metadata { return &previewsByEnding{m} })},
		"forgets how large garbage is":                  {"Garbage/TellsItsSizeWhereThatIsKnown", plants(func(m collecting) store.Metadata { return &forgetsSizes{m} })},
		"renews a deletion with its content":            {"Review/TellsWhenAManifestWasDeleted", plants(func(m collecting) store.Metadata { return &renewsDeletions{m} })},
		"gives garbage to several":                      {"Garbage/IsTakenByOneOfSeveral", plants(func(m collecting) store.Metadata { return &looksThenTakes{m} })},
		"gives garbage again at once":                   {"Garbage/IsSomebodyElsesAfterAWhile", plants(func(m collecting) store.Metadata { return &takesAtOnce{m} })},
		"takes what may be written":                     {"Garbage/WaitsLongerWhileWritesMayReachIt", plants(func(m collecting) store.Metadata { return &takesUnfinished{m} })},
		"ends sessions and forgets their keys":          {"End/OfAnAbandonedUploadCondemnsItsKeys", plants(func(m collecting) store.Metadata { return &endsAndForgets{m} })},
		"ends sessions that are busy":                   {"End/ComesToWhatIsIdleOnly", plants(func(m collecting) store.Metadata { return &endsBusy{m} })},
		"ends uploads of any size at once":              {"End/ComesToFewAtOnceThatHaveManyParts", plants(func(m collecting) store.Metadata { return &endsAll{m} })},
		"drains and keeps no candidates":                {"Drain/LeavesContentToReview", plants(func(m collecting) store.Metadata { return &drainsForGood{m} })},
		"reads missing content as present":              {"Audit/ReadsMissingContentAsAbsent", plants(func(m collecting) store.Metadata { return &readsMissing{collecting: m} })},
		"looks for keys place by place":                 {"Audit/NeverCondemnsWhatIsBeingFinished", plants(func(m collecting) store.Metadata { return &looksInTurn{collecting: m, reserved: &sync.Map{}} })},
		"expires what was just pushed":                  {"Expiry/OfAManifestWaitsForQuiet", plants(func(m collecting) store.Metadata { return &expiresLoud{m} })},
		"expires what was pushed since it was decided":  {"Expiry/OfAManifestThatWasPushedLaterFails", plants(func(m collecting) store.Metadata { return &expiresLate{m} })},
		"expires what has moved":                        {"Expiry/OfATagThatHasMovedFails", plants(func(m collecting) store.Metadata { return &expiresMoved{m} })},
		"answers HEAD without renewing":                 {"Interleaving/HeadInEveryOrder", plants(func(m collecting) store.Metadata { return &neverRenews{m} })},
		"names objects by their digest":                 {"Interleaving/ContentPushedBetweenDecisionAndDeletionSurvives", plants(func(m collecting) store.Metadata { return &keysAreDigests{collecting: m} })},
		"leaves candidates of deleted images untouched": {"Interleaving/ManifestDeleteInEveryOrder", plants(func(m collecting) store.Metadata { return &deletesUntouched{m} })},
	}
}

// reviewsBlindly unlinks content that a manifest refers to.
type reviewsBlindly struct {
	collecting
	gone sync.Map
}

func (m *reviewsBlindly) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	due, err := m.Candidates(ctx, review.Grace, review.Limit)
	if err != nil {
		return store.Reviewed{}, err
	}
	for _, c := range due {
		m.gone.Store(c.Digest, true)
	}
	return m.collecting.ReviewCandidates(ctx, review)
}

func (m *reviewsBlindly) Content(ctx context.Context, repository string, d digest.Digest) (store.Content, error) {
	if _, gone := m.gone.Load(d); gone {
		return store.Content{}, store.ErrContentUnknown
	}
	return m.collecting.Content(ctx, repository, d)
}

type forgetsToCondemn struct{ collecting }

func (m *forgetsToCondemn) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	done, err := m.collecting.ReviewCandidates(ctx, review)
	if err != nil {
		return done, err
	}
	garbage, err := m.Garbage(ctx, 0, 1<<20)
	for _, g := range garbage {
		if !g.Unfinished {
			err = m.ForgetGarbage(ctx, []store.Key{g.Key})
		}
	}
	return done, err
}

type reviewsEarly struct{ collecting }

func (m *reviewsEarly) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	review.Grace = 0
	return m.collecting.ReviewCandidates(ctx, review)
}

type holdsNothing struct{ collecting }

func (m *holdsNothing) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	review.Hold = nil
	return m.collecting.ReviewCandidates(ctx, review)
}

type previewsByDoing struct{ collecting }

func (m *previewsByDoing) PreviewCandidates(ctx context.Context, grace time.Duration, after store.Candidate, limit int) ([]store.Preview, error) {
	previews, err := m.collecting.PreviewCandidates(ctx, grace, after, limit)
	if err != nil {
		return nil, err
	}
	_, err = m.ReviewCandidates(ctx, store.Review{Grace: grace, Limit: limit})
	return previews, err
}

// renewsDeletions knows no other time of a deletion than when its candidate was last touched.
type renewsDeletions struct{ collecting }

func (m *renewsDeletions) Candidates(ctx context.Context, idle time.Duration, limit int) ([]store.Candidate, error) {
	listed, err := m.collecting.Candidates(ctx, idle, limit)
	for i := range listed {
		if !listed[i].Deleted.IsZero() {
			listed[i].Deleted = listed[i].Touched
		}
	}
	return listed, err
}

type previewsByTaking struct{ collecting }

func (m *previewsByTaking) PreviewGarbage(ctx context.Context, take store.Take, after store.Garbage) ([]store.Garbage, error) {
	found, err := m.collecting.PreviewGarbage(ctx, take, after)
	if err != nil {
		return nil, err
	}
	_, err = m.TakeGarbage(ctx, take)
	return found, err
}

type previewsByEnding struct{ collecting }

func (m *previewsByEnding) PreviewSessions(ctx context.Context, life store.Life, after store.Outlived, limit int) ([]store.Outlived, error) {
	found, err := m.collecting.PreviewSessions(ctx, life, after, limit)
	if err != nil {
		return nil, err
	}
	_, err = m.EndSessions(ctx, life, limit)
	return found, err
}

type forgetsSizes struct{ collecting }

func (m *forgetsSizes) TakeGarbage(ctx context.Context, take store.Take) ([]store.Garbage, error) {
	taken, err := m.collecting.TakeGarbage(ctx, take)
	for i := range taken {
		taken[i].Size = 0
	}
	return taken, err
}

// looksThenTakes gives what it found before it took it.
type looksThenTakes struct{ collecting }

func (m *looksThenTakes) TakeGarbage(ctx context.Context, take store.Take) ([]store.Garbage, error) {
	found, err := m.Garbage(ctx, take.Delay, take.Limit)
	if err != nil {
		return nil, err
	}
	yield()
	if _, err := m.collecting.TakeGarbage(ctx, take); err != nil {
		return nil, err
	}
	for i := range found {
		found[i].Tries++
	}
	return found, nil
}

type takesAtOnce struct{ collecting }

func (m *takesAtOnce) TakeGarbage(ctx context.Context, take store.Take) ([]store.Garbage, error) {
	take.Again = 0
	return m.collecting.TakeGarbage(ctx, take)
}

type takesUnfinished struct{ collecting }

func (m *takesUnfinished) TakeGarbage(ctx context.Context, take store.Take) ([]store.Garbage, error) {
	take.Unfinished = take.Delay
	return m.collecting.TakeGarbage(ctx, take)
}

type endsAndForgets struct{ collecting }

func (m *endsAndForgets) EndSessions(ctx context.Context, life store.Life, limit int) (store.Ended, error) {
	ended, err := m.collecting.EndSessions(ctx, life, limit)
	for i := range ended.Sessions {
		err = m.ForgetGarbage(ctx, ended.Sessions[i].Keys())
	}
	return ended, err
}

// endsAll ends sessions however many parts they have.
type endsAll struct{ collecting }

func (m *endsAll) EndSessions(ctx context.Context, life store.Life, limit int) (ended store.Ended, err error) {
	for more := true; more && err == nil && len(ended.Sessions)+ended.Tombstones < limit; {
		var next store.Ended
		next, err = m.collecting.EndSessions(ctx, life, limit-len(ended.Sessions)-ended.Tombstones)
		ended.Sessions, ended.Tombstones = append(ended.Sessions, next.Sessions...), ended.Tombstones+next.Tombstones
		more, ended.More = next.More, next.More
	}
	return ended, err
}

type endsBusy struct{ collecting }

func (m *endsBusy) EndSessions(ctx context.Context, life store.Life, limit int) (store.Ended, error) {
	life.Total = life.Idle
	return m.collecting.EndSessions(ctx, life, limit)
}

type drainsForGood struct{ collecting }

func (m *drainsForGood) DrainRepositories(ctx context.Context, limit int) (int, error) {
	drained, err := m.collecting.DrainRepositories(ctx, limit)
	if err != nil {
		return 0, err
	}
	_, err = m.ReviewCandidates(ctx, store.Review{Limit: 1 << 20})
	return drained, err
}

// readsMissing remembers content that was marked, and shows it still.
type readsMissing struct {
	collecting
	marked sync.Map
}

func (m *readsMissing) MarkContent(ctx context.Context, d digest.Digest, key store.Key, missing bool) (bool, error) {
	names, err := m.Holders(ctx, d, "", 1)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if content, err := m.Content(ctx, name, d); err == nil {
			m.marked.Store(d, content)
		}
	}
	return m.collecting.MarkContent(ctx, d, key, missing)
}

func (m *readsMissing) Content(ctx context.Context, repository string, d digest.Digest) (store.Content, error) {
	if content, ok := m.marked.Load(d); ok {
		return content.(store.Content), nil
	}
	return m.collecting.Content(ctx, repository, d)
}

// looksInTurn looks for a key among contents first, and among sessions second.
type looksInTurn struct {
	collecting
	reserved *sync.Map // keys, of all handles
}

func (m *looksInTurn) ClaimSession(ctx context.Context, claim store.Claim) (store.Session, error) {
	m.reserved.Store(claim.Reserve.Blob, true)
	return m.collecting.ClaimSession(ctx, claim)
}

func (m *looksInTurn) FinishSession(ctx context.Context, finish store.Finish) error {
	err := m.collecting.FinishSession(ctx, finish)
	if err == nil {
		m.reserved.Delete(finish.Content.Key)
	}
	return err
}

func (m *looksInTurn) CondemnKeys(ctx context.Context, keys []store.Key) (condemned []store.Key, err error) {
	stored, err := m.StoredContents(ctx, "", 1<<20)
	if err != nil {
		return nil, err
	}
	named := map[store.Key]bool{}
	for _, content := range stored {
		named[content.Key] = true
	}
	for range 20 {
		yield()
	}
	if _, err := m.Garbage(ctx, 0, 1); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if _, reserved := m.reserved.Load(key); !reserved && !named[key] {
			condemned = append(condemned, key)
		}
	}
	return condemned, nil
}

type expiresLoud struct{ collecting }

func (m *expiresLoud) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	expiry.Quiet = 0
	return m.collecting.ExpireManifest(ctx, expiry)
}

type expiresLate struct{ collecting }

func (m *expiresLate) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	expiry.PushedBy = time.Time{}
	return m.collecting.ExpireManifest(ctx, expiry)
}

type expiresMoved struct{ collecting }

func (m *expiresMoved) ExpireTag(ctx context.Context, expiry store.TagExpiry) error {
	if current, err := m.Manifest(ctx, expiry.Repository, store.ManifestRef{Tag: expiry.Tag}); err == nil {
		expiry.Digest = current.Digest
	}
	return m.collecting.ExpireTag(ctx, expiry)
}

type neverRenews struct{ collecting }

func (m *neverRenews) RenewContent(ctx context.Context, repository string, d digest.Digest, _ time.Duration) (store.Content, error) {
	return m.Content(ctx, repository, d)
}

// keysAreDigests has one object for each digest, for ever.
type keysAreDigests struct {
	collecting
	keys sync.Map
}

func (m *keysAreDigests) FinishSession(ctx context.Context, finish store.Finish) error {
	key, _ := m.keys.LoadOrStore(finish.Content.Digest, finish.Content.Key)
	finish.Content.Key = key.(store.Key)
	return m.collecting.FinishSession(ctx, finish)
}

// deletesUntouched leaves what a deleted manifest referred to as due as it was.
type deletesUntouched struct{ collecting }

func (m *deletesUntouched) DeleteManifest(ctx context.Context, repository string, d digest.Digest, locked func(tag string) bool) error {
	err := m.collecting.DeleteManifest(ctx, repository, d, locked)
	if err != nil {
		return err
	}
	_, err = m.ReviewCandidates(ctx, store.Review{Limit: 1 << 20}) // as if its grace had passed long ago
	return err
}
