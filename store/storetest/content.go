package storetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// contentTests prove where content is visible, and which bytes it has.
func contentTests() []metadataTest {
	return []metadataTest{
		{"IsVisibleOnlyWhereItIsLinked", contentVisibility},
		{"InlineIsKeptExactly", inlineContent},
		{"PutAgainIsUnchanged", putContentAgain},
		{"PutMakesACandidate", putContentCandidate},
		{"NewestKeyWinsAndTheOtherIsGarbage", newestKeyWins},
		{"InlineReplacesAKeyAndTheOtherWay", inlineReplacesKey},
		{"AnyAlgorithmWorks", sha512Content},
		{"RenewTouchesACandidateInItsSecondHalf", renewContent},
		{"RenewMakesNoCandidate", renewNoCandidate},
	}
}

func contentVisibility(t *testing.T, m *index) {
	d := m.putText(t, repository, "x")
	m.requireContent(t, repository, text("x"), "content is visible where it was put")
	for _, other := range []string{"team/other", "team", "team/app/x", "TEAM/APP", "team_app", "team%", ""} {
		m.requireNoContent(t, other, d, "knowing a digest is not access to it: content is visible only in repositories that link to it: "+other)
	}
	m.requireNoContent(t, repository, digest.FromString("y"), "content that was never put is unknown")

	big := object("big")
	m.push(t, "team/other", big)
	m.requireContent(t, "team/other", big, "content is visible where it was pushed")
	m.requireNoContent(t, repository, big.Digest, "content that was pushed to another repository is not visible in this one")
}

func inlineContent(t *testing.T, m *index) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, body := range []string{"", "{}", "\x00", string(every), string(bytesOf(1, 64<<10))} {
		content := text(body)
		handed := bytes.Clone(content.Inline)
		content.Inline = handed
		require.NoError(t, m.first.PutContent(t.Context(), repository, content))
		clear(handed)
		m.requireContent(t, repository, text(body), "inline content is kept exactly, also empty, and is not the caller's slice")
	}
}

func putContentAgain(t *testing.T, m *index) {
	content := text("x")
	for _, handle := range []store.Metadata{m.first, m.first, m.last} {
		require.NoError(t, handle.PutContent(t.Context(), repository, content), "putting content again succeeds")
		m.requireContent(t, repository, content, "putting content again changes nothing")
	}
	m.requireGarbage(t, "putting inline content again condemns nothing")
	require.Len(t, m.candidates(t), 1, "putting content again makes no other candidate")
	names, err := m.last.Holders(t.Context(), content.Digest, "", all)
	require.NoError(t, err)
	require.Equal(t, []string{repository}, names, "putting content again makes no other link")
}

func putContentCandidate(t *testing.T, m *index) {
	m.clock.Advance(time.Hour)
	d := m.putText(t, repository, "x")
	m.requireCandidate(t, repository, d, "content that was just put: nothing refers to it yet")
	m.requireNoCandidate(t, "team/other", d, "content is a candidate only where it was put")
}

func newestKeyWins(t *testing.T, m *index) {
	first, second, third := object("x"), object("x"), object("x")
	m.push(t, repository, first)
	unused := m.garbage(t)
	m.push(t, "team/other", second)
	m.requireContent(t, repository, second, "the newest verified key wins, for every repository that links to the content")
	m.requireContent(t, "team/other", second, "the newest verified key wins")
	require.Subset(t, m.garbage(t), append(unused, first.Key), "a key that content is not under any more is garbage")
	m.push(t, repository, third)
	m.requireContent(t, "team/other", third, "the newest verified key wins")
	require.Contains(t, m.garbage(t), second.Key, "a key that content is not under any more is garbage")
	require.NotContains(t, m.garbage(t), third.Key, "the key that content is under is not garbage")
}

func inlineReplacesKey(t *testing.T, m *index) {
	inObject := object("x")
	m.push(t, repository, inObject)
	require.NotContains(t, m.garbage(t), inObject.Key, "the key that content is under is not garbage")
	m.putText(t, repository, "x")
	m.requireContent(t, repository, text("x"), "inline content replaces an object")
	require.Contains(t, m.garbage(t), inObject.Key, "an object that inline content replaced is garbage")

	newest := object("x")
	m.push(t, repository, newest)
	m.requireContent(t, repository, newest, "an object replaces inline content")
	require.NotContains(t, m.garbage(t), newest.Key, "the key that content is under is not garbage")
}

func sha512Content(t *testing.T, m *index) {
	content := text("x")
	content.Digest = digest.SHA512.FromString("x")
	require.NoError(t, m.first.PutContent(t.Context(), repository, content))
	m.requireContent(t, repository, content, "content is known by the digest that it was put under")
	m.requireNoContent(t, repository, digest.FromString("x"), "content is not known by another digest of the same bytes")
}

func renewContent(t *testing.T, m *index) {
	const grace = time.Hour
	d := m.putText(t, repository, "x")
	m.putText(t, "team/other", "x")
	put := m.clock.Now()
	renew := func() {
		t.Helper()
		got, err := m.first.RenewContent(t.Context(), repository, d, grace)
		require.NoError(t, err)
		requireSameContent(t, text("x"), got, "RenewContent returns the content")
	}
	m.clock.Advance(29 * time.Minute)
	renew()
	require.True(t, put.Equal(m.candidates(t)[place{repository, d}]), "a candidate with more than half of its grace left is not touched")
	m.clock.Advance(2 * time.Minute)
	m.requireContent(t, repository, text("x"), "")
	require.True(t, put.Equal(m.candidates(t)[place{repository, d}]), "Content touches no candidate")
	_, err := m.first.RenewContent(t.Context(), repository, d, 3*time.Hour)
	require.NoError(t, err)
	require.True(t, put.Equal(m.candidates(t)[place{repository, d}]), "half of the grace is what the caller says it is")
	renew()
	m.requireCandidate(t, repository, d, "with less than half of its grace left it is renewed")
	require.True(t, put.Equal(m.candidates(t)[place{"team/other", d}]), "renewing content in one repository does not touch it in another one")
	m.clock.Advance(10 * time.Hour)
	renew()
	m.requireCandidate(t, repository, d, "also long after its grace, while nobody collected it")
}

func renewNoCandidate(t *testing.T, m *index) {
	d := m.putText(t, repository, "layer")
	m.putManifest(t, imageOf(repository, "manifest", d))
	m.requireNoCandidate(t, repository, d, "a manifest refers to it")
	m.clock.Advance(100 * time.Hour)
	_, err := m.first.RenewContent(t.Context(), repository, d, time.Hour)
	require.NoError(t, err)
	m.requireNoCandidate(t, repository, d, "renewing content that is not a candidate does not make it one")
	_, err = m.first.RenewContent(t.Context(), "team/other", d, time.Hour)
	require.ErrorIs(t, err, store.ErrContentUnknown)
	m.requireNoCandidate(t, "team/other", d, "renewing content that is unknown makes no candidate")
}
