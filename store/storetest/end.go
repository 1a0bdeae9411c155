package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// endTests prove that uploads which were abandoned end, and no other ones.
func endTests() []metadataTest {
	return []metadataTest{
		{"OfAnAbandonedUploadCondemnsItsKeys", endAbandoned},
		{"FencesItsWriterOff", endFences},
		{"ComesToWhatIsIdleOnly", endIdle},
		{"ComesToWhatIsTooOldInAll", endTotal},
		{"ComesToTombstones", endTombstones},
		{"NeverComesToALifeWithoutEnd", endNever},
		{"ComesInPages", endPages},
		{"ComesToFewAtOnceThatHaveManyParts", endLarge},
		{"IsDueWhenASessionHasOutlivedItsLife", endDue},
	}
}

// sessionLife is that of the tests of ends.
var sessionLife = store.Life{Idle: time.Hour, Total: 6 * time.Hour, Tombstone: 2 * time.Hour}

func (m *index) end(t *testing.T) store.Ended {
	t.Helper()
	ended, err := m.first.EndSessions(t.Context(), sessionLife, all)
	require.NoError(t, err)
	return ended
}

func (m *index) requireEnded(t *testing.T, id, message string) {
	t.Helper()
	_, err := m.last.Session(t.Context(), ref(id))
	require.ErrorIs(t, err, store.ErrSessionUnknown, message)
}

func endAbandoned(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Reserved: store.Reservation{Blob: store.NewBlobKey()}}
	save.Parts = []store.Part{{Number: 1, Size: 95, Tag: "a"}}
	save.Tail = &store.Tail{Key: s.Reserved.Tail, Size: 5}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	want := m.session(t, id)
	m.clock.Advance(sessionLife.Idle)
	ended := m.end(t)
	require.Zero(t, ended.Tombstones)
	require.Len(t, ended.Sessions, 1)
	want.Hash, want.PartsHash, want.Inline = nil, nil, nil
	requireSession(t, want, ended.Sessions[0], "an upload that ends is returned as it was, without its parts, hashes and inline bytes")
	m.requireEnded(t, id, "a session that has ended is unknown")
	m.requireGarbage(t, "every key that a session named is condemned", save.Multipart.Key, save.Tail.Key, save.Reserved.Blob)
	for _, key := range want.Keys() {
		g := m.requireCondemned(t, key, true, "an abandoned upload may still be written to")
		require.True(t, m.clock.Now().Equal(g.Condemned), "it is condemned as of its end")
	}
	require.Equal(t, store.Ended{}, m.end(t), "ending again finds nothing to do")
	m.requireNoContent(t, repository, text("x").Digest, "an upload that was abandoned is no content")
}

func endFences(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	m.clock.Advance(sessionLife.Idle)
	require.Len(t, m.end(t).Sessions, 1)
	require.ErrorIs(t, m.last.SaveSession(t.Context(), store.Save{ID: id, Version: s.Version, Progress: s.Progress}), store.ErrFenced, "a session that has ended fences its writer off")
	content := object("x")
	content.Key = s.Reserved.Blob
	require.ErrorIs(t, m.last.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content}), store.ErrFenced, "a session that has ended cannot be finished")
	_, err := m.last.ClaimSession(t.Context(), claimOf(id))
	require.ErrorIs(t, err, store.ErrSessionUnknown, "a session that has ended cannot be claimed")
	m.requireNoContent(t, repository, content.Digest, "a session that has ended becomes no content")
	m.requireGarbage(t, "a key of a session that has ended stays condemned", s.Keys()...)
}

func endIdle(t *testing.T, m *index) {
	idle, claimed, saved := m.create(t), m.create(t), m.create(t)
	s := m.claim(t, saved)
	m.clock.Advance(sessionLife.Idle - time.Second)
	require.Equal(t, store.Ended{}, m.end(t), "a session lives until it has been idle for so long")
	m.claim(t, claimed)
	require.NoError(t, m.first.SaveSession(t.Context(), store.Save{ID: saved, Version: s.Version, Progress: s.Progress, Reserved: s.Reserved}))
	m.clock.Advance(time.Second)
	ended := m.end(t)
	require.Len(t, ended.Sessions, 1)
	require.Equal(t, idle, ended.Sessions[0].ID, "only a session that nobody has touched for so long ends")
	m.session(t, claimed)
	m.session(t, saved)
	m.clock.Advance(sessionLife.Idle)
	require.Len(t, m.end(t).Sessions, 2, "what has been touched ends when it has been idle since")
}

func endTotal(t *testing.T, m *index) {
	id := m.create(t)
	for m.clock.Now().Sub(NewClock().Now()) < sessionLife.Total-30*time.Minute {
		m.clock.Advance(30 * time.Minute)
		m.claim(t, id)
		require.Equal(t, store.Ended{}, m.end(t), "a session that is touched again and again lives until its total is over")
	}
	m.clock.Advance(30 * time.Minute)
	require.Len(t, m.end(t).Sessions, 1, "a session ends after its total life, however busy it is")
	m.requireEnded(t, id, "a session ends after its total life, however busy it is")
}

func endTombstones(t *testing.T, m *index) {
	m.clock.Advance(time.Minute)
	id := m.create(t)
	s := m.claim(t, id)
	m.clock.Advance(sessionLife.Idle - time.Second)
	content := object("x")
	content.Key = s.Reserved.Blob
	require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content}))
	garbage := m.garbage(t)
	m.clock.Advance(sessionLife.Tombstone - time.Second)
	require.Equal(t, store.Ended{}, m.end(t), "a tombstone's life counts from the finish, and only it counts")
	m.clock.Advance(time.Second)
	require.Equal(t, store.Ended{Tombstones: 1}, m.end(t), "a tombstone that is over just goes, and counts")
	m.requireEnded(t, id, "a tombstone that is over is unknown")
	m.requireContent(t, repository, content, "content stays when its upload's tombstone goes")
	m.requireGarbage(t, "a tombstone names no keys", garbage...)
}

func endNever(t *testing.T, m *index) {
	open := m.create(t)
	m.push(t, repository, object("x"))
	m.clock.Advance(10_000 * time.Hour)
	for _, life := range []store.Life{{}, {Tombstone: 20_000 * time.Hour}, {Idle: 20_000 * time.Hour}, {Total: 20_000 * time.Hour}} {
		ended, err := m.first.EndSessions(t.Context(), life, all)
		require.NoError(t, err)
		require.Equal(t, store.Ended{}, ended, "a duration of zero means without end")
	}
	m.session(t, open)
	ended, err := m.first.EndSessions(t.Context(), store.Life{Tombstone: time.Hour}, all)
	require.NoError(t, err)
	require.Equal(t, store.Ended{Tombstones: 1}, ended, "each duration counts alone")
	ended, err = m.first.EndSessions(t.Context(), store.Life{Total: time.Hour}, all)
	require.NoError(t, err)
	require.Len(t, ended.Sessions, 1, "each duration counts alone")
}

func endPages(t *testing.T, m *index) {
	living := map[string]bool{}
	for i := range 7 {
		id := m.create(t)
		living[id] = true
		if i%2 == 0 {
			s := m.claim(t, id)
			require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: text("x")}))
		}
		m.clock.Advance(time.Second)
	}
	m.clock.Advance(sessionLife.Tombstone)
	ended, err := m.first.EndSessions(t.Context(), sessionLife, 0)
	require.NoError(t, err)
	require.Equal(t, store.Ended{}, ended, "a page of none ends none")
	sessions, tombstones := 0, 0
	for _, want := range []int{3, 3, 1} {
		ended, err := m.first.EndSessions(t.Context(), sessionLife, 3)
		require.NoError(t, err)
		require.Equal(t, want, len(ended.Sessions)+ended.Tombstones, "a page ends up to limit sessions, tombstones too")
		require.Equal(t, want == 3, ended.More, "a page that stopped at its limit is not the last one")
		sessions, tombstones = sessions+len(ended.Sessions), tombstones+ended.Tombstones
	}
	require.Equal(t, []int{3, 4}, []int{sessions, tombstones}, "pages meet each session once")
	for id := range living {
		m.requireEnded(t, id, "pages meet each session")
	}
}

func endLarge(t *testing.T, m *index) {
	var want []string
	for i, last := range []int32{4000, 6000, 1, 10_000, 5000, 4999, 1, 1} {
		id := m.create(t)
		s := m.claim(t, id)
		save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100)}
		save.LastPart, save.Parts = last, []store.Part{{Number: last, Size: 95, Tag: "a"}}
		if i == 5 {
			save.Tail = &store.Tail{Key: s.Reserved.Tail, Size: 5}
		}
		require.NoError(t, m.first.SaveSession(t.Context(), save))
		want = append(want, id)
		m.clock.Advance(time.Second)
	}
	m.clock.Advance(sessionLife.Idle)
	for _, n := range []int{2, 2, 2, 2} {
		ended, err := m.first.EndSessions(t.Context(), sessionLife, all)
		require.NoError(t, err)
		require.Equal(t, want[:n], endedIDs(ended), "no other session ends with some that have 10,000 parts and tails together")
		want = want[n:]
		require.Equal(t, len(want) > 0, ended.More, "what is left is told of")
		for _, id := range want {
			m.session(t, id)
		}
	}
}

func endDue(t *testing.T, m *index) {
	due := func() bool {
		work, err := m.last.Due(t.Context(), store.Deadlines{Grace: 1000 * grace, Delay: 1000 * grace, Unfinished: 1000 * grace, Life: sessionLife})
		require.NoError(t, err)
		require.Equal(t, store.Work{Sessions: work.Sessions}, work, "nothing else is due")
		return work.Sessions
	}
	require.False(t, due(), "nothing is due in an empty index")
	m.create(t)
	m.clock.Advance(sessionLife.Idle - time.Second)
	require.False(t, due(), "a session that lives is not due")
	m.clock.Advance(time.Second)
	require.True(t, due(), "a session that has outlived its life is due")
	m.end(t)
	require.False(t, due(), "a session that has ended is not due")
	m.push(t, repository, object("x"))
	m.clock.Advance(sessionLife.Tombstone)
	require.True(t, due(), "a tombstone that has outlived its life is due")
	m.end(t)
	require.False(t, due(), "a tombstone that has gone is not due")
}
