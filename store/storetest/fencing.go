package storetest

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// fencingTests prove that a session's last claim owns it, at once, and that whoever claimed it earlier changes nothing any more.
func fencingTests() []metadataTest {
	return []metadataTest{
		{"LastClaimWinsAtOnce", lastClaimWins},
		{"SupersededReservationIsCondemned", supersededReservation},
		{"StaleSaveChangesNothing", staleSave},
		{"StaleFinishChangesNothing", staleFinish},
		{"StaleSaveCannotReopenACompletingSession", staleSaveOfCompleting},
		{"SaveOfAFinishedSessionIsFenced", saveOfFinished},
		{"UnknownSessionIsFenced", unknownSessionFenced},
		{"SaveThatClaimsNeedsTheSessionAsItWasRead", savingClaim},
		{"SaveThatClaimsIsFencedByAnyWriter", savingClaimFenced},
		{"FinishWithoutAClaimIsFencedByAnyClaim", finishWithoutClaim},
	}
}

func lastClaimWins(t *testing.T, m *index) {
	id := m.create(t)
	zombie := m.claim(t, id)
	owner, err := m.last.ClaimSession(t.Context(), claimOf(id))
	require.NoError(t, err, "a claim waits for nobody: there are no leases")
	require.Greater(t, owner.Version, zombie.Version, "each claim has a higher version than those before")
	require.GreaterOrEqual(t, owner.LastPart, zombie.LastPart+4, "the numbers of a claim that has not released the session stay reserved for it")

	save := store.Save{ID: id, Version: zombie.Version, Progress: zombie.Progress, Reserved: zombie.Reserved}
	require.ErrorIs(t, m.first.SaveSession(t.Context(), save), store.ErrFenced, "a save with an earlier version fails with ErrFenced")
	save.Version = owner.Version + 1
	require.ErrorIs(t, m.first.SaveSession(t.Context(), save), store.ErrFenced, "a save with a version that no claim had fails with ErrFenced")
	save = store.Save{ID: id, Version: owner.Version, Progress: owner.Progress, Reserved: owner.Reserved}
	require.NoError(t, m.first.SaveSession(t.Context(), save), "the last claim's save succeeds")
}

func supersededReservation(t *testing.T, m *index) {
	id := m.create(t)
	first := m.claim(t, id)
	second := m.claim(t, id)
	m.requireGarbage(t, "a claim condemns the reservation of the claim that it supersedes", first.Reserved.Blob, first.Reserved.Tail)

	// What the second claim used stays; what it did not goes.
	save := store.Save{ID: id, Version: second.Version, Progress: second.Progress, Reserved: second.Reserved}
	save.Multipart = store.Multipart{Key: second.Reserved.Blob, ID: "m"}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	third := m.claim(t, id)
	m.requireGarbage(t, "a key that the session still names is not condemned", first.Reserved.Blob, first.Reserved.Tail, second.Reserved.Tail)
	require.Equal(t, save.Multipart, third.Multipart, "the multipart upload outlives the claim that began it")

	again := claimOf(id)
	again.Reserve = third.Reserved
	_, err := m.last.ClaimSession(t.Context(), again)
	require.NoError(t, err)
	m.requireGarbage(t, "a claim that is sent again with the same keys condemns none of them", first.Reserved.Blob, first.Reserved.Tail, second.Reserved.Tail)
}

// overtaken is a session with some progress, whose first claim was superseded.
func overtaken(t *testing.T, m *index) (zombie, owner store.Session) {
	id := m.create(t)
	zombie = m.claim(t, id)
	save := store.Save{ID: id, Version: zombie.Version, Progress: progressOf(zombie, 100), Reserved: zombie.Reserved}
	save.Parts = []store.Part{{Number: 1, Size: 95, Tag: "owner's"}}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	claim := claimOf(id)
	claim.Parts = true
	owner, err := m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err)
	return zombie, owner
}

// requireUntouched requires that the session is as its owner knows it.
func requireUntouched(t *testing.T, m *index, owner store.Session, message string) {
	t.Helper()
	claim := claimOf(owner.ID)
	claim.Offset, claim.Parts, claim.PartCount, claim.Reserve, claim.Finish = owner.Offset, true, 0, owner.Reserved, true
	got, err := m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err, message)
	require.Equal(t, owner.Version+1, got.Version, message)
	got.Version, got.Touched = owner.Version, owner.Touched
	requireSession(t, owner, got, message)
}

func staleSave(t *testing.T, m *index) {
	zombie, owner := overtaken(t, m)
	garbage := m.garbage(t)
	m.clock.Advance(time.Minute)
	save := store.Save{ID: zombie.ID, Version: zombie.Version, Progress: progressOf(zombie, 500)}
	save.Parts = []store.Part{{Number: 1, Size: 95, Tag: "zombie's"}, {Number: 2, Size: 1, Tag: "zombie's"}}
	save.Tail = &store.Tail{Key: zombie.Reserved.Tail, Size: 5}
	save.Joined, save.Complete, save.Digest = true, true, digest.FromString("x")
	require.ErrorIs(t, m.first.SaveSession(t.Context(), save), store.ErrFenced, "a stale save fails with ErrFenced")
	require.True(t, owner.Touched.Equal(m.session(t, owner.ID).Touched), "a stale save does not touch the session")
	m.requireGarbage(t, "a stale save condemns nothing", garbage...)
	requireUntouched(t, m, owner, "a stale save changes nothing, neither progress nor parts, tails or state")
}

func staleFinish(t *testing.T, m *index) {
	zombie, owner := overtaken(t, m)
	garbage := m.garbage(t)
	content := object("x")
	content.Key = zombie.Reserved.Blob
	require.ErrorIs(t, m.first.FinishSession(t.Context(), store.Finish{ID: zombie.ID, Version: zombie.Version, Content: content}), store.ErrFenced, "a stale finish fails with ErrFenced")
	m.requireNoContent(t, repository, content.Digest, "a stale finish records no content")
	m.requireNoCandidate(t, repository, content.Digest, "a stale finish makes no candidate")
	m.requireGarbage(t, "a stale finish condemns nothing", garbage...)
	names, err := m.last.Repositories(t.Context(), "", all)
	require.NoError(t, err)
	require.Empty(t, names, "a stale finish makes no repository")
	requireUntouched(t, m, owner, "a stale finish changes nothing")
}

func staleSaveOfCompleting(t *testing.T, m *index) {
	zombie, owner := overtaken(t, m)
	save := store.Save{ID: owner.ID, Version: owner.Version, Progress: owner.Progress, Complete: true, Digest: digest.FromString("x")}
	require.NoError(t, m.last.SaveSession(t.Context(), save))
	stale := store.Save{ID: zombie.ID, Version: zombie.Version, Progress: progressOf(zombie, 7)}
	require.ErrorIs(t, m.first.SaveSession(t.Context(), stale), store.ErrFenced, "a stale save fails with ErrFenced")
	owner.State, owner.Digest, owner.Reserved = store.SessionCompleting, save.Digest, store.Reservation{}
	requireUntouched(t, m, owner, "a stale save changes nothing of a completing session")
}

func saveOfFinished(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	content := object("x")
	content.Key = s.Reserved.Blob
	require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content}))
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 7), Reserved: store.Reservation{Blob: store.NewBlobKey()}}
	save.Parts = []store.Part{{Number: 1, Size: 2, Tag: "late"}}
	require.ErrorIs(t, m.last.SaveSession(t.Context(), save), store.ErrFenced, "a save of a finished session fails with ErrFenced, also with its last version")
	m.requireGarbage(t, "a save that was fenced off condemns nothing", s.Reserved.Tail)
	require.Equal(t, store.SessionFinished, m.session(t, id).State, "a save does not bring back a finished session")
	m.requireContent(t, repository, content, "a save does not change finished content")
}

func unknownSessionFenced(t *testing.T, m *index) {
	id := store.NewID()
	require.ErrorIs(t, m.first.SaveSession(t.Context(), store.Save{ID: id}), store.ErrFenced, "a save of a session that is not there fails with ErrFenced")
	require.ErrorIs(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Content: object("x")}), store.ErrFenced, "a finish of a session that is not there fails with ErrFenced")
	m.requireNoContent(t, repository, object("x").Digest, "a finish that was fenced off records nothing")
}

func savingClaim(t *testing.T, m *index) {
	id := m.create(t)
	read := m.session(t, id)
	save := store.Save{ID: id, Version: read.Version, Claim: true, Progress: store.Progress{Offset: 3, Inline: []byte("abc"), Hash: []byte("h")}}
	require.NoError(t, m.first.SaveSession(t.Context(), save), "a save claims a session that nobody writes to")
	saved := m.session(t, id)
	require.Greater(t, saved.Version, read.Version, "a save that claims bumps the version")
	require.True(t, saved.Released(), "a save that claims releases the session")
	require.Equal(t, save.Offset, saved.Offset)
	require.Equal(t, save.Inline, saved.Inline)

	save.Offset, save.Inline = 5, []byte("other")
	require.ErrorIs(t, m.last.SaveSession(t.Context(), save), store.ErrFenced, "of two saves that claim the same version, the second is fenced")
	requireSession(t, saved, m.session(t, id), "a save that is fenced changes nothing")
}

func savingClaimFenced(t *testing.T, m *index) {
	id := m.create(t)
	read := m.session(t, id)
	writer := m.claim(t, id)
	for _, version := range []int64{read.Version, writer.Version} {
		save := store.Save{ID: id, Version: version, Claim: true, Progress: store.Progress{Offset: 1, Inline: []byte("x")}}
		require.ErrorIs(t, m.last.SaveSession(t.Context(), save), store.ErrFenced, "a save cannot claim a session that somebody writes to")
	}
	require.Equal(t, writer.Version, m.session(t, id).Version)
	m.requireGarbage(t, "a save that is fenced condemns nothing")
}

func finishWithoutClaim(t *testing.T, m *index) {
	content := text("finished without a claim")
	id, other := m.create(t), m.create(t)
	read := m.session(t, id)
	m.claim(t, id)
	finish := store.Finish{ID: id, Version: read.Version, Content: content}
	require.ErrorIs(t, m.last.FinishSession(t.Context(), finish), store.ErrFenced, "a claim fences whoever read the session before it")
	m.requireNoContent(t, repository, content.Digest, "a finish that is fenced makes nothing visible")

	finish = store.Finish{ID: other, Version: m.session(t, other).Version, Content: content}
	require.NoError(t, m.last.FinishSession(t.Context(), finish), "a session that nobody writes to is finished at the version that was read")
	m.requireContent(t, repository, content, "what was finished is visible")
}
