package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// garbageTests prove when objects are to be deleted, and that each is somebody's to delete until it is forgotten.
func garbageTests() []metadataTest {
	return []metadataTest{
		{"IsTakenAfterItsDelay", takeDelay},
		{"WaitsLongerWhileWritesMayReachIt", takeUnfinished},
		{"IsTakenTheLongestCondemnedFirstUpToALimit", takePages},
		{"IsSomebodyElsesAfterAWhile", takeAgain},
		{"IsForgotten", forgetGarbage},
		{"IsFinishedOnlyFromAReview", garbageUnfinished},
		{"IsNotWhatNobodyWroteUnder", unusedKeys},
		{"IsTakenByOneOfSeveral", takersAtOnce},
		{"IsDueWhenItMayBeTaken", garbageDueWork},
		{"TellsItsSizeWhereThatIsKnown", garbageSize},
	}
}

const (
	delay      = 10 * time.Minute
	unfinished = 30 * time.Minute
)

func takeOf(limit int) store.Take {
	return store.Take{Delay: delay, Unfinished: unfinished, Again: 5 * time.Minute, Limit: limit}
}

// take takes garbage that is due.
func (m *index) take(t *testing.T, limit int) []store.Garbage {
	t.Helper()
	taken, err := m.first.TakeGarbage(t.Context(), takeOf(limit))
	require.NoError(t, err)
	return taken
}

// condemn makes finished garbage of n new objects, and forgets whatever else was condemned on the way.
func (m *index) condemn(t *testing.T, n int) []store.Key {
	t.Helper()
	before := map[store.Key]bool{}
	for _, key := range m.garbage(t) {
		before[key] = true
	}
	keys := make([]store.Key, n)
	for i := range n {
		content := object(string(store.NewBlobKey()))
		m.push(t, "team/condemned", content)
		require.NoError(t, m.first.DeleteContent(t.Context(), "team/condemned", content.Digest))
		keys[i], before[content.Key] = content.Key, true
	}
	done, err := m.first.ReviewCandidates(t.Context(), store.Review{Limit: all})
	require.NoError(t, err)
	require.GreaterOrEqual(t, done.Contents, n)
	var others []store.Key
	for _, key := range m.garbage(t) {
		if !before[key] {
			others = append(others, key)
		}
	}
	require.NoError(t, m.first.ForgetGarbage(t.Context(), others))
	return keys
}

func takenKeys(garbage []store.Garbage) []store.Key {
	keys := []store.Key{}
	for _, g := range garbage {
		keys = append(keys, g.Key)
	}
	return keys
}

func takeDelay(t *testing.T, m *index) {
	require.Empty(t, m.take(t, all), "an empty index has no garbage")
	keys := m.condemn(t, 2)
	condemned := m.clock.Now()
	m.clock.Advance(delay - time.Second)
	require.Empty(t, m.take(t, all), "garbage is not taken before its delay has passed")
	m.clock.Advance(time.Second)
	taken := m.take(t, all)
	require.ElementsMatch(t, keys, takenKeys(taken), "garbage is taken once its delay has passed")
	for _, g := range taken {
		require.Equal(t, 1, g.Tries, "who takes garbage learns how often it was taken, this time too")
		require.False(t, g.Unfinished, "content that was reviewed was finished")
		require.True(t, condemned.Equal(g.Condemned), "who takes garbage for the first time learns when it was condemned")
	}
}

func takeUnfinished(t *testing.T, m *index) {
	keys := m.condemn(t, 1)
	id := m.create(t)
	dropped := m.claim(t, id)
	_, err := m.first.DropSession(t.Context(), ref(id))
	require.NoError(t, err)
	m.clock.Advance(delay)
	require.Equal(t, keys, takenKeys(m.take(t, all)), "what writes may still reach is not taken with the rest")
	require.NoError(t, m.first.ForgetGarbage(t.Context(), keys))
	m.clock.Advance(unfinished - delay - time.Second)
	require.Empty(t, m.take(t, all), "what writes may still reach waits for take.Unfinished")
	m.clock.Advance(time.Second)
	taken := m.take(t, all)
	require.ElementsMatch(t, dropped.Keys(), takenKeys(taken), "what writes could reach is taken in the end")
	for _, g := range taken {
		require.True(t, g.Unfinished, "who takes it learns that it may be unfinished")
		require.Equal(t, 1, g.Tries)
	}
	require.Empty(t, m.take(t, all), "what was taken is put off")
	m.clock.Advance(5 * time.Minute)
	require.Len(t, m.take(t, all), 2, "what writes could reach is put off by take.Again, like the rest")
}

func takePages(t *testing.T, m *index) {
	var want []store.Key
	for range 5 {
		want = append(want, m.condemn(t, 1)...)
		m.clock.Advance(time.Second)
	}
	m.clock.Advance(delay)
	require.Empty(t, m.take(t, 0), "a limit of none takes none")
	require.Equal(t, want[:1], takenKeys(m.take(t, 1)), "what was condemned the longest ago is taken first")
	require.Equal(t, want[1:3], takenKeys(m.take(t, 2)), "what was taken is passed over")
	require.Equal(t, want[3:], takenKeys(m.take(t, 3)), "less than the limit is taken when no more is due")
}

func takeAgain(t *testing.T, m *index) {
	keys := m.condemn(t, 1)
	m.clock.Advance(delay)
	for tries := 1; tries <= 4; tries++ {
		taken := m.take(t, all)
		require.Equal(t, keys, takenKeys(taken), "what was taken and not forgotten is somebody else's after take.Again")
		require.Equal(t, tries, taken[0].Tries, "each time that garbage is taken counts")
		require.False(t, taken[0].Unfinished)
		m.clock.Advance(5*time.Minute - time.Second)
		require.Empty(t, m.take(t, all), "what was taken is nobody else's before take.Again has passed")
		m.clock.Advance(time.Second)
	}
	listed, err := m.last.Garbage(t.Context(), 0, all)
	require.NoError(t, err)
	require.Equal(t, keys, takenKeys(listed), "what was taken is garbage until it is forgotten")
	require.Equal(t, 4, listed[0].Tries)
}

func forgetGarbage(t *testing.T, m *index) {
	keys := m.condemn(t, 3)
	live := object("live")
	m.push(t, repository, live)
	require.NoError(t, m.first.ForgetGarbage(t.Context(), nil), "no keys can be forgotten")
	require.NoError(t, m.first.ForgetGarbage(t.Context(), []store.Key{keys[0], keys[2], live.Key, store.NewBlobKey(), keys[0]}),
		"keys that are no garbage are passed over")
	require.Contains(t, m.garbage(t), keys[1], "only what is named is forgotten")
	require.NotContains(t, m.garbage(t), keys[0], "what was forgotten is no garbage")
	require.NotContains(t, m.garbage(t), keys[2], "what was forgotten is no garbage")
	m.requireContent(t, repository, live, "forgetting changes nothing but garbage")
	require.NoError(t, m.last.ForgetGarbage(t.Context(), keys), "forgetting again is no error")
	m.clock.Advance(unfinished)
	require.NotContains(t, takenKeys(m.take(t, all)), keys[1], "what was forgotten is not taken")
}

func garbageUnfinished(t *testing.T, m *index) {
	id := m.create(t)
	claimed := m.claim(t, id)
	again := m.claim(t, id)
	m.requireCondemned(t, claimed.Reserved.Blob, true, "a claim that another one has replaced may still be writing")
	save := store.Save{ID: id, Version: again.Version, Progress: progressOf(again, 100)}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	m.requireCondemned(t, again.Reserved.Tail, true, "a save that releases a key")
	save.Multipart = store.Multipart{Key: again.Reserved.Blob, ID: "other"}
	content := object("x")
	require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: again.Version, Content: content}))
	m.requireCondemned(t, save.Multipart.Key, true, "an upload that ended as something else")
	newer := object("x")
	m.push(t, repository, newer)
	m.requireCondemned(t, content.Key, true, "an object that a newer one has replaced")
	m.putText(t, repository, "x")
	m.requireCondemned(t, newer.Key, true, "an object that inline content has replaced")

	reviewed := object("y")
	m.push(t, repository, reviewed)
	m.clock.Advance(grace)
	m.review(t)
	m.requireCondemned(t, reviewed.Key, false, "content that was reviewed")
}

func unusedKeys(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	stale := store.Save{ID: id, Version: s.Version - 1, Progress: s.Progress, Unused: s.Keys()}
	require.ErrorIs(t, m.first.SaveSession(t.Context(), stale), store.ErrFenced)
	again := m.claim(t, id)
	m.requireGarbage(t, "who was fenced off has no say in what was unused", s.Keys()...)

	save := store.Save{ID: id, Version: again.Version, Progress: progressOf(again, 100), Reserved: store.Reservation{Blob: store.NewBlobKey(), Tail: store.NewUploadKey(id)}}
	save.Unused = []store.Key{again.Reserved.Tail, store.NewBlobKey()}
	for range 2 {
		require.NoError(t, m.first.SaveSession(t.Context(), save))
		m.requireGarbage(t, "a key that its only writer never used need not be collected", s.Keys()...)
	}
	require.Equal(t, save.Unused, m.unknownKeys(t, save.Unused...), "a key that was never used is forgotten at once")

	content := object("x")
	content.Key = save.Multipart.Key
	require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{
		ID: id, Version: again.Version, Unused: []store.Key{save.Reserved.Tail}, Content: content,
	}))
	m.requireGarbage(t, "of what a finish releases only what may have been used is garbage", append(s.Keys(), save.Reserved.Blob)...)
	m.requireContent(t, repository, content, "an upload is content whatever it left unused")
}

func takersAtOnce(t *testing.T, m *index) {
	const takers, keys = 6, 30
	for range rounds / 10 {
		condemned := m.condemn(t, keys)
		m.clock.Advance(delay)
		taken := make([][]store.Garbage, takers)
		each(t, takers, takers, func(i int) error {
			for range keys + 1 {
				got, err := m.handle(i).TakeGarbage(t.Context(), takeOf(4))
				if err != nil {
					return fmt.Errorf("take: %w", err)
				}
				taken[i] = append(taken[i], got...)
				if len(got) == 0 {
					return nil
				}
			}
			return nil
		})
		seen := map[store.Key]int{}
		for _, got := range taken {
			for _, g := range got {
				seen[g.Key]++
				require.Equal(t, 1, g.Tries, "garbage that was taken once counts one try")
			}
		}
		for m.take(t, all); len(seen) < keys; { // what one of them held when the others looked
			m.clock.Advance(5 * time.Minute)
			for _, g := range m.take(t, all) {
				seen[g.Key]++
			}
		}
		for _, key := range condemned {
			require.Equal(t, 1, min(seen[key], 2), "each key is taken by one of several takers at once, until it is put off no more")
		}
		require.NoError(t, m.first.ForgetGarbage(t.Context(), condemned))
	}
}

func garbageDueWork(t *testing.T, m *index) {
	due := func() bool {
		work, err := m.last.Due(t.Context(), store.Deadlines{Grace: 1000 * grace, Delay: delay, Unfinished: unfinished})
		require.NoError(t, err)
		require.Equal(t, store.Work{Garbage: work.Garbage}, work, "nothing else is due")
		return work.Garbage
	}
	require.False(t, due(), "nothing is due in an empty index")
	keys := m.condemn(t, 1)
	m.clock.Advance(delay - time.Second)
	require.False(t, due(), "garbage is not due before its delay has passed")
	m.clock.Advance(time.Second)
	require.True(t, due(), "garbage is due once its delay has passed")
	require.Len(t, m.take(t, all), 1)
	require.False(t, due(), "garbage that was taken is not due")
	m.clock.Advance(5 * time.Minute)
	require.True(t, due(), "garbage that was taken and not forgotten is due again")
	require.NoError(t, m.first.ForgetGarbage(t.Context(), keys))
	require.False(t, due(), "garbage that was forgotten is not due")

	id := m.create(t)
	m.claim(t, id)
	_, err := m.first.DropSession(t.Context(), ref(id))
	require.NoError(t, err)
	m.clock.Advance(unfinished - time.Second)
	require.False(t, due(), "what writes may still reach is not due before its own delay has passed")
	m.clock.Advance(time.Second)
	require.True(t, due(), "what writes could reach is due in the end")
}

func garbageSize(t *testing.T, m *index) {
	// saves claims a session, and saves a tail of so many bytes; joined if it takes the place of those before.
	saves := func(id string, size int64, joined bool) store.Session {
		s := m.claim(t, id)
		save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Joined: joined, Tail: &store.Tail{Key: s.Reserved.Tail, Size: size}}
		require.NoError(t, m.first.SaveSession(t.Context(), save))
		return s
	}
	finished, dropped, abandoned := m.create(t), m.create(t), m.create(t)
	joined, left, last := saves(finished, 5, false), saves(finished, 7, true), saves(finished, 11, false)
	replaced, newest, inline := object("four"), object("four"), object("a")
	require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: finished, Version: last.Version, Content: replaced}))
	m.push(t, repository, newest)
	m.push(t, repository, inline)
	m.putText(t, repository, "a")
	tail := saves(dropped, 13, false).Reserved.Tail
	_, err := m.first.DropSession(t.Context(), ref(dropped))
	require.NoError(t, err)
	other := saves(abandoned, 17, false).Reserved.Tail
	m.clock.Advance(grace + sessionLife.Idle)
	m.end(t)
	m.review(t)
	orphan := store.NewBlobKey()
	_, err = m.first.CondemnKeys(t.Context(), []store.Key{orphan})
	require.NoError(t, err)
	m.clock.Advance(unfinished)

	listed, err := m.last.Garbage(t.Context(), 0, all)
	require.NoError(t, err)
	for which, garbage := range map[string][]store.Garbage{"listed": listed, "previewed": m.previewGarbage(t), "taken": m.take(t, all)} {
		sizes := map[store.Key]int64{}
		for _, g := range garbage {
			sizes[g.Key] = g.Size
		}
		for name, want := range map[string]struct {
			key  store.Key
			size int64
		}{
			"a tail that was joined":                   {joined.Reserved.Tail, 5},
			"a tail that a finish leaves":              {left.Reserved.Tail, 7},
			"another one":                              {last.Reserved.Tail, 11},
			"a tail of an upload that was dropped":     {tail, 13},
			"a tail of an upload that was abandoned":   {other, 17},
			"content that newer content has replaced":  {replaced.Key, 4},
			"content that inline content has replaced": {inline.Key, 1},
			"content that was reviewed":                {newest.Key, 4},
			"the key of a multipart upload":            {joined.Reserved.Blob, 0},
			"what nobody knows":                        {orphan, 0},
		} {
			require.Contains(t, sizes, want.key)
			require.Equal(t, want.size, sizes[want.key], "garbage that is %s tells the size of %s", which, name)
		}
	}
}
