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
		"a manifest that was":       {Candidate: store.Candidate{Digest: deleted, Deleted: true}, Content: true, Size: 7},
	} {
		p := got[place{repository, want.Digest}]
		require.True(t, touched.Equal(p.Touched), "a preview tells when a candidate was touched: %s", name)
		require.Equal(t, want.Deleted, p.Deleted, "a preview is of the candidate: %s", name)
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
