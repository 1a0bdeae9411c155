package storetest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// sessionTests prove how an upload goes from its creation to its tombstone.
func sessionTests() []metadataTest {
	return []metadataTest{
		{"BeginsEmptyAndUnclaimed", createSession},
		{"IsKnownInItsRepositoryOnly", sessionOfAnotherRepository},
		{"CreatedAgainIsUnchanged", createAgain},
		{"ClaimBumpsVersionAndReservesNumbers", claimSession},
		{"ClaimWithTheWrongOffsetChangesNothing", claimWrongOffset},
		{"SaveKeepsAllProgress", saveSession},
		{"SavedAgainIsUnchanged", saveAgain},
		{"PartsComeInNumberOrderAndOnlyWhenAsked", sessionParts},
		{"TailsComeInOrderAndAreJoined", sessionTails},
		{"WhatWasHandedInMayBeReused", sessionOwnsItsBytes},
		{"CompletingTakesNoMoreBytes", completingSession},
		{"FinishMakesContentAndATombstone", finishSession},
		{"FinishAgainIsIdempotent", finishAgain},
		{"FinishInlineContent", finishInline},
		{"DropReturnsTheSessionAndCondemnsItsKeys", dropSession},
		{"ExpiresWhenIdle", expiresIdle},
		{"ExpiresInAll", expiresTotal},
		{"TombstoneExpires", tombstoneExpires},
	}
}

func createSession(t *testing.T, m *index) {
	id := store.NewID()
	require.NoError(t, m.first.CreateSession(t.Context(), id, repository, digest.SHA512), "a session's repository need not exist")
	now := m.clock.Now()
	requireSession(t, store.Session{ID: id, Repository: repository, Algorithm: digest.SHA512, Started: now, Touched: now}, m.session(t, id),
		"a session begins at offset 0, unclaimed, and another replica knows it")
	m.requireGarbage(t, "a new session condemns nothing")
	names, err := m.last.Repositories(t.Context(), "", all)
	require.NoError(t, err)
	require.Empty(t, names, "a session does not make a repository; its first link does")
}

func sessionOfAnotherRepository(t *testing.T, m *index) {
	id := m.create(t)
	for name, ref := range map[string]store.SessionRef{
		"another repository": {ID: id, Repository: "team/other"},
		"no repository":      {ID: id},
		"another id":         {ID: store.NewID(), Repository: repository},
	} {
		_, err := m.last.Session(t.Context(), ref)
		require.ErrorIs(t, err, store.ErrSessionUnknown, "a session is known by its id in its own repository only: %s", name)
		claim := claimOf(id)
		claim.SessionRef = ref
		_, err = m.last.ClaimSession(t.Context(), claim)
		require.ErrorIs(t, err, store.ErrSessionUnknown, "a session is claimed by its id in its own repository only: %s", name)
		_, err = m.last.DropSession(t.Context(), ref)
		require.ErrorIs(t, err, store.ErrSessionUnknown, "a session is dropped by its id in its own repository only: %s", name)
	}
	require.Zero(t, m.session(t, id).Version, "a session is not touched through another repository")
	m.requireGarbage(t, "a claim that failed records no key")
}

func createAgain(t *testing.T, m *index) {
	id := m.create(t)
	require.NoError(t, m.last.CreateSession(t.Context(), id, repository, ""), "creating the same session again, since the answer was lost, succeeds")
	claimed := m.claim(t, id)
	_ = m.last.CreateSession(t.Context(), id, repository, "") // may be refused, now
	requireSession(t, claimed, m.session(t, id), "a repeated creation that comes late does not change the session")
}

func claimSession(t *testing.T, m *index) {
	id := m.create(t)
	started := m.clock.Now()
	m.clock.Advance(time.Minute)
	want := store.Session{ID: id, Repository: repository, Started: started}
	for version := range int64(3) {
		claim := claimOf(id)
		claim.Offset = 0
		got, err := m.first.ClaimSession(t.Context(), claim)
		require.NoError(t, err)
		want.Version, want.Touched, want.Reserved = version+1, m.clock.Now(), claim.Reserve
		want.LastPart += claim.PartCount
		requireSession(t, want, got, "a claim bumps the version, touches the session, records its keys, and reserves part numbers after those of earlier claims")
		requireSession(t, want, m.session(t, id), "a claim returns the session as it then is")
		m.clock.Advance(time.Minute)
	}
}

func claimWrongOffset(t *testing.T, m *index) {
	id := m.create(t)
	first := m.claim(t, id)
	save := store.Save{ID: id, Version: first.Version, Progress: first.Progress, Reserved: first.Reserved}
	save.Offset, save.Inline, save.Parts = 3, []byte("abc"), []store.Part{{Number: 1, Size: 3, Tag: "t"}}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	before := m.session(t, id)
	m.clock.Advance(time.Minute)
	for _, offset := range []int64{0, 2, 4, 1 << 40} {
		for _, finish := range []bool{false, true} {
			claim := claimOf(id)
			claim.Offset, claim.Finish, claim.Parts = offset, finish, true
			_, err := m.last.ClaimSession(t.Context(), claim)
			var wrong *store.OffsetError
			require.ErrorAs(t, err, &wrong, "a claim at another offset than the durable one (%d, not 3) fails with *OffsetError", offset)
			requireSession(t, before, wrong.Session, "an *OffsetError carries the session as it stands, without its parts")
		}
	}
	requireSession(t, before, m.session(t, id), "a claim with the wrong offset changes nothing")
	m.requireGarbage(t, "a claim with the wrong offset condemns nothing, and records no key")
	require.NoError(t, m.first.SaveSession(t.Context(), save), "a claim with the wrong offset leaves the earlier claim in force")

	claim := claimOf(id)
	claim.Offset = 3
	_, err := m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err, "a claim at the durable offset succeeds")
	claim.Offset = -1
	_, err = m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err, "a claim at offset -1 takes whatever the offset is")
}

// progressOf is some progress in which every field differs from zero.
func progressOf(s store.Session, offset int64) store.Progress {
	return store.Progress{
		Offset: offset, PartsEnd: offset - 5, Hash: []byte(fmt.Sprint("hash at ", offset)), PartsHash: []byte{0, 1, 2, 255},
		Multipart: store.Multipart{Key: s.Reserved.Blob, ID: "upload id / with & any bytes'\""}, PartSize: 16 << 20, LastPart: s.LastPart + 3,
		Inline: []byte{0, 'i', 'n', 255, 0},
	}
}

func saveSession(t *testing.T, m *index) {
	id := m.create(t)
	want := m.claim(t, id)
	m.clock.Advance(time.Minute)
	save := store.Save{ID: id, Version: want.Version, Progress: progressOf(want, 1<<40)}
	save.Reserved = store.Reservation{Blob: store.NewBlobKey(), Tail: want.Reserved.Tail}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	want.Progress, want.Reserved, want.Touched = save.Progress, save.Reserved, m.clock.Now()
	requireSession(t, want, m.session(t, id), "a save records all progress and the new reservation, and touches the session")
	m.requireGarbage(t, "a key that becomes the multipart upload's is still named")

	save.Progress = store.Progress{Offset: 1<<40 + 1, Multipart: save.Multipart}
	save.Reserved = store.Reservation{}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	dropped := want.Reserved
	want.Progress, want.Reserved = save.Progress, save.Reserved
	requireSession(t, want, m.session(t, id), "all progress is written by each save; a zero reservation releases the session")
	m.requireGarbage(t, "a save condemns the keys of a reservation that it does not keep", dropped.Blob, dropped.Tail)

	want.LastPart += 4
	require.Equal(t, want.LastPart, m.claim(t, id).LastPart, "a claim reserves numbers after the last part that was saved")
}

func saveAgain(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100)}
	save.Parts = []store.Part{{Number: 1, Size: 95, Tag: "a"}}
	save.Tail = &store.Tail{Key: s.Reserved.Tail, Size: 5}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	before := m.session(t, id)
	require.NoError(t, m.last.SaveSession(t.Context(), save), "saving the same again succeeds")
	requireSession(t, before, m.session(t, id), "saving the same again changes nothing")
	m.requireGarbage(t, "saving the same again condemns nothing")

	save.Joined, save.Tail, save.Parts = true, nil, []store.Part{{Number: 2, Offset: 95, Size: 5, Tag: "b"}}
	for range 2 {
		require.NoError(t, m.last.SaveSession(t.Context(), save), "saving the same again succeeds")
		m.requireGarbage(t, "saving the same again condemns nothing more", s.Reserved.Tail)
	}
	claim := claimOf(id)
	claim.Parts = true
	s, err := m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err)
	require.Len(t, s.Parts, 2, "saving the same again adds no part")
	require.Empty(t, s.Tails, "saving the same again adds no tail")
}

func sessionParts(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	part := func(number int32, tag string) store.Part {
		return store.Part{Number: number, Offset: int64(number) << 35, Size: 1 << 33, Tag: tag}
	}
	save := store.Save{ID: id, Version: s.Version, Progress: s.Progress, Reserved: s.Reserved}
	save.Parts = []store.Part{part(10, "ten"), part(2, `"two"`), part(9999, "last")}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	save.Parts = []store.Part{part(1, "one"), part(10, "ten again"), part(100, "'hundred'")}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	save.Parts = nil
	require.NoError(t, m.first.SaveSession(t.Context(), save))

	require.Empty(t, m.session(t, id).Parts, "Session returns no parts")
	require.Empty(t, m.claim(t, id).Parts, "a claim returns no parts unless it asks for them")
	claim := claimOf(id)
	claim.Parts = true
	got, err := m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err)
	require.Equal(t, []store.Part{part(1, "one"), part(2, `"two"`), part(10, "ten again"), part(100, "'hundred'"), part(9999, "last")}, got.Parts,
		"a claim that asks for parts gets all that were saved, in number order, the newest for each number")

	other := m.create(t)
	claim = claimOf(other)
	claim.Parts = true
	got, err = m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err)
	require.Empty(t, got.Parts, "a session has no other session's parts")
}

func sessionTails(t *testing.T, m *index) {
	id := m.create(t)
	var want []store.Tail
	for i := range int64(12) {
		s := m.claim(t, id)
		save := store.Save{ID: id, Version: s.Version, Progress: s.Progress}
		save.Offset = i + 1
		save.Tail = &store.Tail{Key: s.Reserved.Tail, Size: 1 << i}
		want = append(want, *save.Tail)
		require.NoError(t, m.first.SaveSession(t.Context(), save))
		require.Equal(t, want, m.session(t, id).Tails, "tails come in the order in which they were saved")
	}
	condemned := m.garbage(t)
	require.Len(t, condemned, 12, "the blob keys that each claim reserved and did not use")

	s := m.claim(t, id)
	require.Equal(t, want, s.Tails, "a claim returns the tails")
	save := store.Save{ID: id, Version: s.Version, Progress: s.Progress, Joined: true}
	save.Tail = &store.Tail{Key: s.Reserved.Tail, Size: 7}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	require.Equal(t, []store.Tail{*save.Tail}, m.session(t, id).Tails, "a save that joins the tails leaves only its own")
	condemned = append(condemned, s.Reserved.Blob)
	for _, tail := range want {
		condemned = append(condemned, tail.Key)
	}
	m.requireGarbage(t, "joined tails are condemned, and the new one is not", condemned...)
}

func sessionOwnsItsBytes(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Reserved: s.Reserved}
	save.Parts = []store.Part{{Number: 1, Size: 95, Tag: "a"}}
	hash, partsHash, inline := bytes.Clone(save.Hash), bytes.Clone(save.PartsHash), bytes.Clone(save.Inline)
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	clear(save.Hash)
	clear(save.PartsHash)
	clear(save.Inline)
	clear(save.Parts)
	claim := claimOf(id)
	claim.Parts = true
	s, err := m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err)
	const message = "slices that were handed in may be reused by the caller"
	requireBytes(t, hash, s.Hash, message)
	requireBytes(t, partsHash, s.PartsHash, message)
	requireBytes(t, inline, s.Inline, message)
	require.Equal(t, []store.Part{{Number: 1, Size: 95, Tag: "a"}}, s.Parts, message)
}

func completingSession(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	want := s
	d := digest.FromString("what was announced")
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Complete: true, Digest: d}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	want.Progress, want.Reserved, want.State, want.Digest = save.Progress, store.Reservation{}, store.SessionCompleting, d
	requireSession(t, want, m.session(t, id), "a save that completes keeps the digest that the bytes were compared with")

	for _, offset := range []int64{-1, 100, 7} {
		claim := claimOf(id)
		claim.Offset = offset
		_, err := m.last.ClaimSession(t.Context(), claim)
		var completing *store.OffsetError
		require.ErrorAs(t, err, &completing, "a completing session takes no more bytes: a claim that does not finish fails with *OffsetError (offset %d)", offset)
		requireSession(t, want, completing.Session, "an *OffsetError carries the session as it stands")
	}
	requireSession(t, want, m.session(t, id), "a claim that a completing session refuses changes nothing")

	claim := claimOf(id)
	claim.Finish, claim.Offset = true, 100
	s, err := m.last.ClaimSession(t.Context(), claim)
	require.NoError(t, err, "a claim that finishes may take over a completing session")
	want.Version, want.Reserved, want.LastPart = want.Version+1, claim.Reserve, want.LastPart+claim.PartCount
	requireSession(t, want, s, "a claim that finishes returns the completing session")
}

func finishSession(t *testing.T, m *index) {
	id := m.create(t)
	started := m.clock.Now()
	s := m.claim(t, id)
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Reserved: store.Reservation{Tail: s.Reserved.Tail}}
	save.Parts = []store.Part{{Number: 1, Size: 95, Tag: "a"}}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	m.clock.Advance(time.Minute)
	content := store.Content{Digest: digest.FromString("x"), Size: 1 << 40, Key: s.Reserved.Blob}
	require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content}))

	m.requireContent(t, repository, content, "finishing an upload records the content and links it to the session's repository")
	m.requireCandidate(t, repository, content.Digest, "content that was just pushed is a candidate, touched now")
	m.requireGarbage(t, "finishing condemns what the session named, but for the content's key", s.Reserved.Tail)
	tombstone := store.Session{
		ID: id, Repository: repository, State: store.SessionFinished, Version: s.Version, Digest: content.Digest,
		Started: started, Touched: m.clock.Now(),
	}
	requireTombstone(t, tombstone, m.session(t, id))

	for _, offset := range []int64{-1, 0, 100, 7} {
		for _, finish := range []bool{false, true} {
			claim := claimOf(id)
			claim.Offset, claim.Finish, claim.Parts = offset, finish, true
			got, err := m.last.ClaimSession(t.Context(), claim)
			require.NoError(t, err, "a claim of a finished session returns its tombstone, whatever the offset")
			requireTombstone(t, tombstone, got)
		}
	}
	m.requireGarbage(t, "a claim that finds a tombstone records no key", s.Reserved.Tail)
}

// requireTombstone compares what a tombstone holds: ID, Repository, Version and Digest, nothing else.
func requireTombstone(t *testing.T, want, got store.Session) {
	t.Helper()
	want.Started, want.Touched = got.Started, got.Touched
	requireSession(t, want, got, "a tombstone has the id, repository, version and digest, nothing else, and is not claimed")
}

func finishAgain(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	content := object("x")
	content.Key = s.Reserved.Blob
	finish := store.Finish{ID: id, Version: s.Version, Content: content}
	require.NoError(t, m.first.FinishSession(t.Context(), finish))
	for range 2 {
		require.NoError(t, m.last.FinishSession(t.Context(), finish), "finishing again with the same version and digest succeeds")
	}
	m.requireContent(t, repository, content, "finishing again changes nothing")
	m.requireGarbage(t, "finishing again condemns nothing", s.Reserved.Tail)

	other := object("y")
	require.ErrorIs(t, m.last.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: other}), store.ErrFenced, "finishing again with another digest fails with ErrFenced")
	m.requireNoContent(t, repository, other.Digest, "a finish that was fenced off records nothing")
	require.ErrorIs(t, m.last.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version + 1, Content: content}), store.ErrFenced, "finishing again with another version fails with ErrFenced")
	_, err := m.last.DropSession(t.Context(), ref(id))
	require.ErrorIs(t, err, store.ErrSessionUnknown, "a finished session cannot be dropped")
	m.requireContent(t, repository, content, "a finished session that is dropped loses nothing")
}

func finishInline(t *testing.T, m *index) {
	for _, content := range []store.Content{text(""), text("{}"), text("\x00binary\xff")} {
		id := m.create(t)
		s := m.claim(t, id)
		before := m.garbage(t)
		require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content}))
		m.requireContent(t, repository, content, "an upload may end as inline content, also empty")
		m.requireGarbage(t, "an upload that ends inline leaves every key it named in the garbage", append(before, s.Reserved.Blob, s.Reserved.Tail)...)
	}
}

func dropSession(t *testing.T, m *index) {
	id, kept := m.create(t), m.create(t)
	m.claim(t, kept)
	s := m.claim(t, id)
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Reserved: store.Reservation{Blob: store.NewBlobKey()}}
	save.Tail = &store.Tail{Key: s.Reserved.Tail, Size: 5}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	before := m.session(t, id)
	dropped, err := m.first.DropSession(t.Context(), ref(id))
	require.NoError(t, err)
	requireSession(t, before, dropped, "DropSession returns the session as it was")
	m.requireGarbage(t, "DropSession condemns every key that the session named", save.Multipart.Key, save.Tail.Key, save.Reserved.Blob)

	_, err = m.last.Session(t.Context(), ref(id))
	require.ErrorIs(t, err, store.ErrSessionUnknown, "a session that was dropped is unknown")
	_, err = m.last.DropSession(t.Context(), ref(id))
	require.ErrorIs(t, err, store.ErrSessionUnknown, "dropping again finds ErrSessionUnknown")
	_, err = m.last.ClaimSession(t.Context(), claimOf(id))
	require.ErrorIs(t, err, store.ErrSessionUnknown, "a session that was dropped cannot be claimed")
	require.ErrorIs(t, m.last.SaveSession(t.Context(), save), store.ErrFenced, "a save of a session that is gone fails with ErrFenced")
	require.ErrorIs(t, m.last.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: object("x")}), store.ErrFenced, "a finish of a session that is gone fails with ErrFenced")
	require.EqualValues(t, 1, m.session(t, kept).Version, "dropping a session leaves others alone")
}

// requireExpired requires that a session is unknown by that life, and that an unknown session is not changed.
func requireExpired(t *testing.T, m *index, id string, life store.Life, message string) {
	t.Helper()
	ref := store.SessionRef{ID: id, Repository: repository, Life: life}
	_, err := m.last.Session(t.Context(), ref)
	require.ErrorIs(t, err, store.ErrSessionUnknown, message)
	claim := claimOf(id)
	claim.SessionRef = ref
	_, err = m.last.ClaimSession(t.Context(), claim)
	require.ErrorIs(t, err, store.ErrSessionUnknown, message)
	_, err = m.last.DropSession(t.Context(), ref)
	require.ErrorIs(t, err, store.ErrSessionUnknown, message)
}

// requireAlive requires that a session is known by that life.
func requireAlive(t *testing.T, m *index, id string, life store.Life, message string) {
	t.Helper()
	_, err := m.last.Session(t.Context(), store.SessionRef{ID: id, Repository: repository, Life: life})
	require.NoError(t, err, message)
}

func expiresIdle(t *testing.T, m *index) {
	life := store.Life{Idle: time.Hour, Tombstone: time.Second}
	id := m.create(t)
	m.clock.Advance(59 * time.Minute)
	requireAlive(t, m, id, life, "a session lives until it has been idle for so long")
	m.clock.Advance(2 * time.Minute)
	requireExpired(t, m, id, life, "a session is unknown once it has been idle for so long; looking at it does not touch it")
	requireAlive(t, m, id, store.Life{Idle: 2 * time.Hour}, "a session's life is what the caller says it is")
	requireAlive(t, m, id, store.Life{}, "a duration of zero means without end")

	s := m.claim(t, id)
	m.clock.Advance(59 * time.Minute)
	requireAlive(t, m, id, life, "a claim touches the session")
	require.NoError(t, m.first.SaveSession(t.Context(), store.Save{ID: id, Version: s.Version, Progress: s.Progress, Reserved: s.Reserved}))
	m.clock.Advance(59 * time.Minute)
	requireAlive(t, m, id, life, "a save touches the session")
	m.clock.Advance(2 * time.Minute)
	requireExpired(t, m, id, life, "a session is unknown once it has been idle for so long")
	m.requireGarbage(t, "expiry alone condemns nothing: the session still names its keys")
}

func expiresTotal(t *testing.T, m *index) {
	life := store.Life{Idle: time.Hour, Total: 3 * time.Hour, Tombstone: time.Second}
	id := m.create(t)
	for range 5 {
		m.claim(t, id)
		m.clock.Advance(30 * time.Minute)
		requireAlive(t, m, id, life, "a session that is touched again and again lives until its total is over")
	}
	m.claim(t, id)
	m.clock.Advance(31 * time.Minute)
	requireExpired(t, m, id, life, "a session is unknown after its total life, however busy it is")
	requireAlive(t, m, id, store.Life{Idle: time.Hour}, "a duration of zero means without end")
}

func tombstoneExpires(t *testing.T, m *index) {
	life := store.Life{Idle: time.Minute, Total: time.Minute, Tombstone: 24 * time.Hour}
	id := m.create(t)
	s := m.claim(t, id)
	m.clock.Advance(48 * time.Hour)
	content := object("x")
	content.Key = s.Reserved.Blob
	finish := store.Finish{ID: id, Version: s.Version, Content: content}
	require.NoError(t, m.first.FinishSession(t.Context(), finish))
	m.clock.Advance(23 * time.Hour)
	requireAlive(t, m, id, life, "a tombstone's life counts from the finish, and only it counts")
	m.clock.Advance(2 * time.Hour)
	requireExpired(t, m, id, life, "a tombstone that is over is unknown")
	m.requireContent(t, repository, content, "content stays when its upload's tombstone is over")
}
