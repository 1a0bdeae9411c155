package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// ledgerTests prove what the collector is told.
func ledgerTests() []metadataTest {
	return []metadataTest{
		{"IsEmptyAtFirst", emptyLedger},
		{"CandidatesAreDueTheLongestIdleFirst", candidatesDue},
		{"GarbageIsDueTheLongestAgoFirst", garbageDue},
		{"TouchingACandidatePutsItBack", touchedCandidate},
	}
}

func emptyLedger(t *testing.T, m *index) {
	require.Empty(t, m.candidates(t), "an empty index has no candidates")
	require.Empty(t, m.garbage(t), "an empty index has no garbage")
}

func candidatesDue(t *testing.T, m *index) {
	var want []store.Candidate
	for i := range 5 { // one a minute; the first is 4 minutes old in the end
		if i > 0 {
			m.clock.Advance(time.Minute)
		}
		name := fmt.Sprintf("team/%d", 9-i)
		want = append(want, store.Candidate{Repository: name, Digest: m.putText(t, name, "x"), Touched: m.clock.Now()})
	}
	for _, test := range []struct {
		idle  time.Duration
		limit int
		want  int
	}{
		{0, 10, 5}, {0, 3, 3}, {0, 0, 0}, {time.Second, 10, 4}, {time.Minute, 10, 4}, {time.Minute + time.Second, 10, 3},
		{4 * time.Minute, 10, 1}, {4*time.Minute + time.Second, 10, 0}, {time.Minute, 2, 2}, {24 * time.Hour, 10, 0},
	} {
		got, err := m.last.Candidates(t.Context(), test.idle, test.limit)
		require.NoError(t, err)
		message := fmt.Sprintf("candidates that were last touched at least %v ago, at most %d, the longest ago first", test.idle, test.limit)
		require.Len(t, got, test.want, message)
		for i, c := range got {
			require.True(t, want[i].Touched.Equal(c.Touched), message)
			c.Touched = want[i].Touched
			require.Equal(t, want[i], c, message)
		}
	}
}

func garbageDue(t *testing.T, m *index) {
	var want []store.Garbage
	id := m.create(t)
	var reserved store.Key
	for i := range 6 { // the first claim condemns nothing, each later one the key of the one before
		if i > 1 {
			m.clock.Advance(time.Minute)
		}
		claim := store.Claim{SessionRef: ref(id), Reserve: store.Reservation{Blob: store.NewBlobKey()}}
		_, err := m.first.ClaimSession(t.Context(), claim)
		require.NoError(t, err)
		if i > 0 {
			want = append(want, store.Garbage{Key: reserved, Condemned: m.clock.Now(), Unfinished: true})
		}
		reserved = claim.Reserve.Blob
	}
	for _, test := range []struct {
		age   time.Duration
		limit int
		want  int
	}{
		{0, 10, 5}, {0, 3, 3}, {0, 0, 0}, {time.Second, 10, 4}, {time.Minute, 10, 4}, {time.Minute + time.Second, 10, 3},
		{4 * time.Minute, 10, 1}, {4*time.Minute + time.Second, 10, 0}, {time.Minute, 2, 2}, {24 * time.Hour, 10, 0},
	} {
		got, err := m.last.Garbage(t.Context(), test.age, test.limit)
		require.NoError(t, err)
		message := fmt.Sprintf("keys that were condemned at least %v ago, at most %d, the longest ago first", test.age, test.limit)
		require.Len(t, got, test.want, message)
		for i, g := range got {
			require.True(t, want[i].Condemned.Equal(g.Condemned), message)
			g.Condemned = want[i].Condemned
			require.Equal(t, want[i], g, message)
		}
	}
}

func touchedCandidate(t *testing.T, m *index) {
	first := m.putText(t, repository, "first")
	m.clock.Advance(time.Hour)
	second := m.putText(t, repository, "second")
	m.clock.Advance(time.Hour)
	_, err := m.first.RenewContent(t.Context(), repository, first, time.Hour)
	require.NoError(t, err)
	got, err := m.last.Candidates(t.Context(), 0, all)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, []digest.Digest{second, first}, []digest.Digest{got[0].Digest, got[1].Digest}, "a candidate that was touched is due after those that were not")
	got, err = m.last.Candidates(t.Context(), time.Minute, all)
	require.NoError(t, err)
	require.Len(t, got, 1, "a candidate that was just touched is not due")
	require.Equal(t, second, got[0].Digest)
}
