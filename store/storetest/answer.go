package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// metadataLostAnswerTests prove that each event can be sent again when its answer was lost.
func metadataLostAnswerTests() []metadataTest {
	return []metadataTest{
		{"OfEveryEventOfAnUpload", lostAnswersOfSession},
		{"OfACompletingSave", lostAnswerOfCompleting},
		{"OfContentAndMounts", lostAnswersOfContent},
		{"OfManifests", lostAnswersOfManifests},
		{"OfDeletionsFindsNothingLeft", lostAnswersOfDeletions},
		{"OfLooks", lostAnswersOfLooks},
	}
}

// flaky returns the first replica, with each method's first answer lost.
func (m *index) flaky() store.Metadata {
	hook, _ := loseFirst()
	return HookMetadata(m.first, hook)
}

func lostAnswersOfSession(t *testing.T, m *index) {
	ctx, flaky, id := t.Context(), m.flaky(), store.NewID()
	again(t, "CreateSession", func() error { return flaky.CreateSession(ctx, id, repository, "") })

	claim := claimOf(id)
	claim.Offset = 0
	var s store.Session
	again(t, "ClaimSession", func() (err error) { s, err = flaky.ClaimSession(ctx, claim); return err })
	require.EqualValues(t, 2, s.Version, "a claim that is sent again is another claim")
	require.Equal(t, claim.Reserve, s.Reserved)
	m.requireGarbage(t, "a claim that is sent again with the same keys condemns none of them")

	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Joined: true, Reserved: store.Reservation{Tail: store.NewUploadKey(id)}}
	save.Parts = []store.Part{{Number: 1, Size: 95, Tag: "a"}}
	save.Tail = &store.Tail{Key: s.Reserved.Tail, Size: 5}
	again(t, "SaveSession", func() error { return flaky.SaveSession(ctx, save) })
	got := m.session(t, id)
	require.Equal(t, []store.Tail{*save.Tail}, got.Tails, "a save that is sent again adds its tail once")
	require.Equal(t, save.Reserved, got.Reserved)
	m.requireGarbage(t, "a save that is sent again condemns none of the keys that it names")

	content := object("x")
	content.Key = s.Reserved.Blob
	again(t, "FinishSession", func() error {
		return flaky.FinishSession(ctx, store.Finish{ID: id, Version: s.Version, Content: content})
	})
	m.requireContent(t, repository, content, "an upload is content although every answer was lost once")
	m.requireGarbage(t, "a finish that is sent again condemns nothing twice", save.Tail.Key, save.Reserved.Tail)

	other := m.create(t)
	dropped := m.claim(t, other)
	drop := func() error { _, err := flaky.DropSession(ctx, ref(other)); return err }
	require.ErrorIs(t, drop(), errLost)
	require.ErrorIs(t, drop(), store.ErrSessionUnknown, "a drop that is sent again finds ErrSessionUnknown")
	require.Subset(t, m.garbage(t), []store.Key{dropped.Reserved.Blob, dropped.Reserved.Tail}, "a drop whose answer was lost has condemned the keys")
}

func lostAnswerOfCompleting(t *testing.T, m *index) {
	ctx, flaky, id := t.Context(), m.flaky(), m.create(t)
	s := m.claim(t, id)
	content := object("x")
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Complete: true, Digest: content.Digest}
	content.Key = save.Multipart.Key
	again(t, "SaveSession", func() error { return flaky.SaveSession(ctx, save) })
	require.Equal(t, store.SessionCompleting, m.session(t, id).State)

	// The finish is lost on its way, and another replica completes the session.
	claim := claimOf(id)
	claim.Finish = true
	s, err := m.last.ClaimSession(ctx, claim)
	require.NoError(t, err)
	require.Equal(t, content.Digest, s.Digest, "who takes over a completing session learns its digest")
	require.NoError(t, m.last.FinishSession(ctx, store.Finish{ID: id, Version: s.Version, Content: content}))
	m.requireContent(t, repository, content, "another replica completes a session that one replica has left")
}

func lostAnswersOfContent(t *testing.T, m *index) {
	ctx, flaky := t.Context(), m.flaky()
	content := text("x")
	again(t, "PutContent", func() error { return flaky.PutContent(ctx, repository, content) })
	again(t, "Mount", func() error { _, err := flaky.Mount(ctx, content.Digest, repository, "team/target"); return err })
	m.clock.Advance(time.Hour)
	again(t, "RenewContent", func() error {
		_, err := flaky.RenewContent(ctx, repository, content.Digest, time.Hour)
		return err
	})
	m.requireContent(t, repository, content, "content that was put twice is there")
	m.requireContent(t, "team/target", content, "content that was mounted twice is there")
	m.requireCandidate(t, repository, content.Digest, "content that was renewed twice was touched")
	m.requireGarbage(t, "events that are sent again condemn nothing")
	require.Len(t, m.candidates(t), 2, "events that are sent again make no other candidate")
}

func lostAnswersOfManifests(t *testing.T, m *index) {
	flaky := m.flaky()
	layer := m.putText(t, repository, "layer")
	put := fullManifest(repository)
	put.References = []store.Reference{{Digest: layer}}
	put.Tags, put.Locked = []string{"v1"}, func(string) bool { return true }
	again(t, "PutManifest", func() error { return flaky.PutManifest(t.Context(), put) })
	m.requireManifest(t, repository, byTag("v1"), put.Manifest, "a manifest that was put twice is there once")
	require.Equal(t, []string{"v1"}, m.tags(t, repository))
	require.Len(t, m.referrers(t, repository, put.Manifest.Subject, everything()), 1)
	m.requireNoCandidate(t, repository, layer, "a manifest that was put twice has taken its layer off the candidates")
}

func lostAnswersOfDeletions(t *testing.T, m *index) {
	ctx, flaky := t.Context(), m.flaky()
	layer := m.putText(t, repository, "layer")
	d := m.putManifest(t, imageOf(repository, "x", layer), "latest", "stable")
	for _, event := range []struct {
		name string
		send func() error
		want error
	}{
		{"DeleteTag", func() error { return flaky.DeleteTag(ctx, repository, "latest") }, store.ErrManifestUnknown},
		{"DeleteManifest", func() error { return flaky.DeleteManifest(ctx, repository, d, nil) }, store.ErrManifestUnknown},
		{"DeleteContent", func() error { return flaky.DeleteContent(ctx, repository, layer) }, store.ErrContentUnknown},
	} {
		require.ErrorIs(t, event.send(), errLost)
		require.ErrorIs(t, event.send(), event.want, "%s that is sent again finds that nothing is left to delete", event.name)
	}
	require.Empty(t, m.repositories(t), "everything was deleted although every answer was lost")
	m.requireCandidate(t, repository, layer, "a deletion that is sent again leaves what the first one has left")
}

func lostAnswersOfLooks(t *testing.T, m *index) {
	ctx, flaky := t.Context(), m.flaky()
	m.putManifest(t, imageOf(repository, "x"), "latest")
	id := m.create(t)
	for method, look := range looks(flaky, id) {
		again(t, method, func() error { return look(ctx) })
	}
}
