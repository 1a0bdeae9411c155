package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// previewTests prove that a preview tells what reviews would do, and does nothing.
func previewTests() []metadataTest {
	return []metadataTest{
		{"ChangesNothing", previewChangesNothing},
		{"TellsWhatAReviewWouldTake", previewTells},
		{"CountsLinksThatAreDueAsGone", previewLinks},
		{"PagesAreInTheOrderOfReviews", previewPages},
		{"OfGarbageTakesNothing", previewGarbageTakesNothing},
		{"OfGarbageTellsWhatWouldBeTaken", previewGarbageTells},
		{"OfGarbageHasPagesInTheOrderOfTaking", previewGarbagePages},
		{"OfSessionsEndsNothing", previewSessionsEndsNothing},
		{"OfSessionsTellsWhichWouldEnd", previewSessionsTells},
		{"OfSessionsHasPagesInTheOrderOfEnding", previewSessionsPages},
	}
}

// preview returns what is due, by the place that it is at.
func (m *index) preview(t *testing.T) map[place]store.Preview {
	t.Helper()
	listed, err := m.last.PreviewCandidates(t.Context(), grace, store.Candidate{}, all)
	require.NoError(t, err)
	found := map[place]store.Preview{}
	for _, p := range listed {
		require.NotContains(t, found, place{p.Repository, p.Digest}, "a candidate is previewed once")
		found[place{p.Repository, p.Digest}] = p
	}
	return found
}

func previewChangesNothing(t *testing.T, m *index) {
	content := object("x")
	m.push(t, repository, content)
	garbage, candidates := m.garbage(t), m.candidates(t)
	m.clock.Advance(grace)
	for range 2 {
		require.Len(t, m.preview(t), 1, "a preview can be had again")
	}
	m.requireContent(t, repository, content, "a preview takes nothing")
	m.requireGarbage(t, "a preview condemns nothing", garbage...)
	require.Len(t, m.candidates(t), len(candidates), "a preview leaves the candidates")
	require.True(t, candidates[place{repository, content.Digest}].Equal(m.candidates(t)[place{repository, content.Digest}]), "a preview touches nothing")
}

func previewTells(t *testing.T, m *index) {
	free, needed, gone := object("free"), object("needed"), object("gone")
	for _, content := range []store.Content{free, needed, gone} {
		m.push(t, repository, content)
	}
	put := imageOf(repository, "image", needed.Digest)
	m.putManifest(t, put)
	m.push(t, repository, needed)
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, gone.Digest))
	deleted := m.putManifest(t, imageOf(repository, "deleted"))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, deleted, nil))
	touched := m.clock.Now()
	m.clock.Advance(grace - time.Second)
	require.Empty(t, m.preview(t), "what is not due is not previewed")
	m.clock.Advance(time.Second)
	late := object("late")
	m.push(t, repository, late)

	got := m.preview(t)
	require.Len(t, got, 4, "each candidate that is due is previewed, and no other")
	for name, want := range map[string]store.Preview{
		"what nothing needs":        {Candidate: store.Candidate{Digest: free.Digest}, Link: true, Content: true, Size: 4},
		"what a manifest refers to": {Candidate: store.Candidate{Digest: needed.Digest}},
		"what has no link any more": {Candidate: store.Candidate{Digest: gone.Digest}, Content: true, Size: 4},
		"a manifest that was":       {Candidate: store.Candidate{Digest: deleted, Deleted: touched}, Content: true, Size: 7},
	} {
		p := got[place{repository, want.Digest}]
		require.True(t, touched.Equal(p.Touched), "a preview tells when a candidate was touched: %s", name)
		require.True(t, want.Deleted.Equal(p.Deleted), "a preview is of the candidate: %s", name)
		require.Equal(t, want.Link, p.Link, "whether its link would go: %s", name)
		require.Equal(t, want.Content, p.Content, "whether its content would go: %s", name)
		if want.Content {
			require.Equal(t, want.Size, p.Size, "the size of the content: %s", name)
		}
	}
	done := m.review(t)
	require.Equal(t, []int{1, 3}, []int{done.Links, done.Contents}, "a review does what its preview told")
	require.EqualValues(t, 15, done.Bytes, "a review does what its preview told")
}

func previewLinks(t *testing.T, m *index) {
	both, other := object("both"), object("other")
	for _, name := range []string{"team/a", "team/b"} {
		m.push(t, name, both)
		m.push(t, name, other)
	}
	m.clock.Advance(grace)
	_, err := m.first.RenewContent(t.Context(), "team/b", other.Digest, grace)
	require.NoError(t, err)
	got := m.preview(t)
	require.Len(t, got, 3)
	for _, name := range []string{"team/a", "team/b"} {
		p := got[place{name, both.Digest}]
		require.True(t, p.Link, "a link that nothing needs would go")
		require.True(t, p.Content, "content goes with the last of the links that are due")
	}
	p := got[place{"team/a", other.Digest}]
	require.True(t, p.Link, "a link that nothing needs would go")
	require.False(t, p.Content, "content stays while a link that is not due is left")
}

func previewPages(t *testing.T, m *index) {
	for i, name := range []string{"e", "c", "c", "a", "b", "d"} {
		if i == 2 || i == 4 {
			m.clock.Advance(time.Second)
		}
		m.putText(t, name, fmt.Sprint("content ", i))
	}
	m.clock.Advance(grace)
	want, err := m.last.Candidates(t.Context(), grace, all)
	require.NoError(t, err)
	require.Len(t, want, 6)
	for limit := 1; limit <= 7; limit++ {
		var got []store.Preview
		for after := (store.Candidate{}); ; {
			page, err := m.last.PreviewCandidates(t.Context(), grace, after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit, "a page has up to limit candidates")
			got = append(got, page...)
			require.LessOrEqual(t, len(got), len(want), "pages meet each candidate once")
			if len(page) < limit {
				break
			}
			after = page[limit-1].Candidate
		}
		require.Len(t, got, len(want), "pages of %d candidates together are all candidates", limit)
		for i := range want {
			require.Equal(t, place{want[i].Repository, want[i].Digest}, place{got[i].Repository, got[i].Digest},
				"pages of %d are in the order of touched, repository and digest", limit)
		}
	}
}

// previewGarbage returns what would be taken now.
func (m *index) previewGarbage(t *testing.T) []store.Garbage {
	t.Helper()
	found, err := m.last.PreviewGarbage(t.Context(), takeOf(all), store.Garbage{})
	require.NoError(t, err)
	return inUTC(found)
}

// inUTC returns garbage whose times compare by ==.
func inUTC(garbage []store.Garbage) []store.Garbage {
	for i := range garbage {
		garbage[i].Condemned = garbage[i].Condemned.UTC()
	}
	return garbage
}

// drop claims a new session and drops it, and returns the keys that this condemns.
func (m *index) drop(t *testing.T) []store.Key {
	t.Helper()
	id := m.create(t)
	s := m.claim(t, id)
	_, err := m.first.DropSession(t.Context(), ref(id))
	require.NoError(t, err)
	return s.Keys()
}

func previewGarbageTakesNothing(t *testing.T, m *index) {
	require.Empty(t, m.previewGarbage(t), "an empty index has no garbage")
	keys := m.condemn(t, 2)
	m.clock.Advance(delay)
	for range 3 {
		found := m.previewGarbage(t)
		require.ElementsMatch(t, keys, takenKeys(found), "a preview of garbage can be had again: it puts nothing off")
		for _, g := range found {
			require.Zero(t, g.Tries, "a preview of garbage is no try")
		}
	}
	work, err := m.last.Due(t.Context(), store.Deadlines{Grace: 1000 * grace, Delay: delay, Unfinished: unfinished})
	require.NoError(t, err)
	require.True(t, work.Garbage, "garbage that was previewed is due")
	require.ElementsMatch(t, keys, takenKeys(m.take(t, all)), "garbage that was previewed is taken")
}

func previewGarbageTells(t *testing.T, m *index) {
	finished := m.condemn(t, 1)
	dropped := m.drop(t)
	condemned := m.clock.Now()
	m.clock.Advance(delay - time.Second)
	require.Empty(t, m.previewGarbage(t), "garbage is not previewed before its delay has passed")
	m.clock.Advance(time.Second)
	found := m.previewGarbage(t)
	require.Equal(t, finished, takenKeys(found), "what writes may still reach is not previewed with the rest")
	require.False(t, found[0].Unfinished, "a preview tells that garbage is finished")
	require.True(t, condemned.Equal(found[0].Condemned), "a preview tells when garbage was condemned")

	taken := m.take(t, all)
	require.Equal(t, finished, takenKeys(taken))
	require.Empty(t, m.previewGarbage(t), "what was taken is put off, and not previewed")
	m.clock.Advance(5 * time.Minute)
	again := takeOf(all)
	again.Again = 1000 * time.Hour
	found, err := m.last.PreviewGarbage(t.Context(), again, store.Garbage{})
	require.NoError(t, err)
	require.Equal(t, finished, takenKeys(found), "what was taken and not forgotten is previewed when it would be taken again")
	require.Equal(t, 1, found[0].Tries, "a preview tells how often garbage was taken so far")

	m.clock.Advance(unfinished - delay - 5*time.Minute - time.Second)
	require.Equal(t, finished, takenKeys(m.previewGarbage(t)), "what writes may still reach waits for take.Unfinished")
	m.clock.Advance(time.Second)
	found = m.previewGarbage(t)
	require.ElementsMatch(t, append(dropped, finished...), takenKeys(found), "what writes could reach is previewed in the end")
	taken = m.take(t, all)
	for i := range taken {
		taken[i].Tries--
	}
	require.Equal(t, found, inUTC(taken), "what a preview of garbage tells is taken then")
}

func previewGarbagePages(t *testing.T, m *index) {
	m.drop(t)
	m.clock.Advance(time.Second)
	m.condemn(t, 3)
	m.drop(t)
	m.clock.Advance(time.Second)
	m.condemn(t, 1)
	m.clock.Advance(unfinished)
	want := m.previewGarbage(t)
	require.Len(t, want, 8)
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []store.Garbage
		for after := (store.Garbage{}); ; {
			page, err := m.last.PreviewGarbage(t.Context(), takeOf(limit), after)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit, "a page has up to limit objects")
			got = append(got, page...)
			require.LessOrEqual(t, len(got), len(want), "pages meet each object once")
			if len(page) < limit {
				break
			}
			after = page[limit-1]
		}
		require.Equal(t, want, inUTC(got), "pages of %d together are all that is due, in its order", limit)
	}
	none, err := m.last.PreviewGarbage(t.Context(), takeOf(0), store.Garbage{})
	require.NoError(t, err)
	require.Empty(t, none, "a page of none has none")
	for len(want) > 0 {
		taken := m.take(t, 3)
		require.Equal(t, takenKeys(want[:min(3, len(want))]), takenKeys(taken), "garbage is taken in the order of its preview")
		want = want[len(taken):]
	}
}

// previewSessions returns which sessions would end now.
func (m *index) previewSessions(t *testing.T, life store.Life) []store.Outlived {
	t.Helper()
	found, err := m.last.PreviewSessions(t.Context(), life, store.Outlived{}, all)
	require.NoError(t, err)
	return outlivedInUTC(found)
}

// outlivedInUTC returns sessions whose times compare by ==.
func outlivedInUTC(sessions []store.Outlived) []store.Outlived {
	for i := range sessions {
		sessions[i].Started, sessions[i].Touched = sessions[i].Started.UTC(), sessions[i].Touched.UTC()
	}
	return sessions
}

func previewSessionsEndsNothing(t *testing.T, m *index) {
	require.Empty(t, m.previewSessions(t, sessionLife), "an empty index has no sessions")
	id := m.create(t)
	m.claim(t, id)
	m.push(t, repository, object("x"))
	before, garbage := m.session(t, id), m.garbage(t)
	m.clock.Advance(sessionLife.Tombstone)
	for range 3 {
		require.Len(t, m.previewSessions(t, sessionLife), 2, "a preview of sessions can be had again")
	}
	requireSession(t, before, m.session(t, id), "a preview leaves a session as it is")
	m.requireGarbage(t, "a preview condemns nothing", garbage...)
	m.claim(t, id) // by somebody who gives it a longer life
	found := m.previewSessions(t, sessionLife)
	require.Len(t, found, 1, "a session that was claimed since is not previewed")
	require.Equal(t, store.SessionFinished, found[0].State)
	require.Equal(t, store.Ended{Tombstones: 1}, m.end(t), "a tombstone that was previewed goes")
}

func previewSessionsTells(t *testing.T, m *index) {
	const half = 30 * time.Minute
	began := m.clock.Now().UTC()
	at := func(halves int) time.Time { return began.Add(time.Duration(halves) * half) }
	until := func(halves int) { m.clock.Advance(at(halves).Sub(m.clock.Now())) }
	busy := m.create(t)
	var done, idle string
	for i := 1; i <= 11; i++ {
		until(i)
		m.claim(t, busy)
		switch i {
		case 7:
			done = m.create(t)
			s := m.claim(t, done)
			require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: done, Version: s.Version, Content: text("x")}))
		case 9:
			idle = m.create(t)
			s := m.claim(t, idle)
			require.NoError(t, m.first.SaveSession(t.Context(), store.Save{ID: idle, Version: s.Version, Progress: progressOf(s, 100), Reserved: s.Reserved}))
		case 10:
			m.create(t)
			m.push(t, repository, object("y"))
			m.clock.Advance(half - time.Second)
			require.Empty(t, m.previewSessions(t, sessionLife), "a session that lives is not previewed")
		}
	}
	for _, life := range []store.Life{{}, {Idle: 1000 * time.Hour}, {Total: 1000 * time.Hour}, {Tombstone: 1000 * time.Hour}} {
		require.Empty(t, m.previewSessions(t, life), "a duration of zero means without end")
	}
	wantDone := store.Outlived{ID: done, Repository: repository, State: store.SessionFinished, Started: at(7), Touched: at(7)}
	wantIdle := store.Outlived{ID: idle, Repository: repository, Started: at(9), Touched: at(9), Size: 100}
	require.Equal(t, []store.Outlived{wantDone, wantIdle}, m.previewSessions(t, sessionLife),
		"a preview tells of uploads that nobody has touched for so long, with their durable bytes, and of tombstones")
	require.Equal(t, []store.Outlived{wantDone}, m.previewSessions(t, store.Life{Tombstone: sessionLife.Tombstone}), "each duration counts alone")

	until(12)
	want := m.previewSessions(t, sessionLife)
	require.Len(t, want, 4)
	require.Equal(t, store.Outlived{ID: busy, Repository: repository, Started: began, Touched: at(11)}, want[0],
		"a preview tells of uploads that are too old in all, however busy they are")
	ended := m.end(t)
	require.Equal(t, 1, ended.Tombstones, "a session that a preview tells of ends then")
	require.Equal(t, []string{want[0].ID, want[2].ID, want[3].ID}, endedIDs(ended), "a session that a preview tells of ends then")
	require.Empty(t, m.previewSessions(t, sessionLife), "a session that has ended is not previewed")
}

func endedIDs(ended store.Ended) (ids []string) {
	for i := range ended.Sessions {
		ids = append(ids, ended.Sessions[i].ID)
	}
	return ids
}

func previewSessionsPages(t *testing.T, m *index) {
	for i := range 7 {
		id := m.create(t)
		if i%2 == 0 {
			s := m.claim(t, id)
			require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: text("x")}))
		}
		if i%3 == 2 { // some have begun at the same time
			m.clock.Advance(time.Second)
		}
	}
	m.clock.Advance(sessionLife.Tombstone)
	want := m.previewSessions(t, sessionLife)
	require.Len(t, want, 7)
	for limit := 1; limit <= 8; limit++ {
		var got []store.Outlived
		for after := (store.Outlived{}); ; {
			page, err := m.last.PreviewSessions(t.Context(), sessionLife, after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit, "a page has up to limit sessions")
			got = append(got, page...)
			require.LessOrEqual(t, len(got), len(want), "pages meet each session once")
			if len(page) < limit {
				break
			}
			after = page[limit-1]
		}
		require.Equal(t, want, outlivedInUTC(got), "pages of %d together are all sessions that would end, in their order", limit)
	}
	none, err := m.last.PreviewSessions(t.Context(), sessionLife, store.Outlived{}, 0)
	require.NoError(t, err)
	require.Empty(t, none, "a page of none has none")
	for len(want) > 0 {
		page := want[:min(2, len(want))]
		want = want[len(page):]
		var underWay []string
		for _, s := range page {
			if s.State != store.SessionFinished {
				underWay = append(underWay, s.ID)
			}
		}
		ended, err := m.first.EndSessions(t.Context(), sessionLife, 2)
		require.NoError(t, err)
		require.Equal(t, underWay, endedIDs(ended), "sessions end in the order of their preview")
		require.Equal(t, len(page)-len(underWay), ended.Tombstones, "sessions end in the order of their preview")
	}
}
