package storetest

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// errLost is what a caller gets whose answer was lost.
var errLost = errors.New("answer lost")

// loseFirst returns a hook that loses the answer to the first call of each method, after its effect.
func loseFirst() (hook Hook, lost *atomic.Int32) {
	lost = new(atomic.Int32)
	seen := map[string]bool{}
	return Hook{After: func(_ context.Context, method string, err error) error {
		if seen[method] || err != nil {
			return err
		}
		seen[method] = true
		lost.Add(1)
		return errLost
	}}, lost
}

// again sends an event whose answer is lost the first time, and requires that the repetition succeeds.
func again(t *testing.T, method string, call func() error) {
	t.Helper()
	require.ErrorIs(t, call(), errLost, "%s must have had its effect, and its answer lost", method)
	require.NoError(t, call(), "%s can be sent again when its answer was lost", method)
}

// objectsLostAnswerTests prove that each call can be repeated when its answer was lost.
func objectsLostAnswerTests() []objectsTest {
	return []objectsTest{
		{"OfEveryCallOfAnUpload", lostAnswersOfUpload},
		{"OfPutOpenAndDelete", lostAnswersOfObject},
		{"OfAbort", lostAnswerOfAbort},
	}
}

func lostAnswersOfUpload(t *testing.T, o *objects) {
	hook, lost := loseFirst()
	flaky := HookObjects(o.first, hook)
	key, size := store.NewBlobKey(), o.partSize()
	data := bytesOf(1, size+100)

	var m store.Multipart
	again(t, "Begin", func() (err error) { m, err = flaky.Begin(t.Context(), key); return err })
	begun, err := o.last.Begun(t.Context(), key)
	require.NoError(t, err)
	require.Len(t, begun, 2, "a Begin whose answer was lost is found by Begun, beside the second one")
	require.Contains(t, begun, m)

	var first store.Part
	again(t, "PutPart", func() (err error) {
		first, err = flaky.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: size}, bytes.NewReader(data[:size]))
		return err
	})
	second := putPart(t, o.last, m, 1, 2, size, data[size:])
	again(t, "Complete", func() error { return flaky.Complete(t.Context(), m, []store.Part{first, second}) })
	requireObject(t, o, key, data, "an upload is whole although every answer was lost once")
	again(t, "Begun", func() (err error) { begun, err = flaky.Begun(t.Context(), key); return err })
	require.Len(t, begun, 1, "Begun lists the lost upload, and not the completed one")
	again(t, "Abort", func() error { return flaky.Abort(t.Context(), begun[0]) })
	requireBegun(t, o, key)
	requireObject(t, o, key, data, "aborting the lost upload leaves the completed object")
	require.EqualValues(t, 5, lost.Load())
}

func lostAnswersOfObject(t *testing.T, o *objects) {
	hook, lost := loseFirst()
	flaky := HookObjects(o.first, hook)
	key, data := store.NewBlobKey(), bytesOf(2, 1000)
	again(t, "Put", func() error { return flaky.Put(t.Context(), key, bytes.NewReader(data), 1000) })
	again(t, "Open", func() error {
		r, err := flaky.Open(t.Context(), key, 0, -1)
		if err == nil {
			err = r.Close()
		}
		return err
	})
	again(t, "List", func() error { _, err := flaky.List(t.Context(), "", "", 10); return err })
	requireObject(t, o, key, data, "an object is whole although every answer was lost once")
	again(t, "Delete", func() error { return flaky.Delete(t.Context(), []store.Key{key}) })
	requireNoObject(t, o, key, "an object is gone although the answer to Delete was lost")
	require.EqualValues(t, 4, lost.Load())
}

func lostAnswerOfAbort(t *testing.T, o *objects) {
	hook, _ := loseFirst()
	flaky := HookObjects(o.first, hook)
	up := begin(t, o.first, store.NewBlobKey())
	up.put(t, o.first, 1, bytesOf(3, 100))
	again(t, "Abort", func() error { return flaky.Abort(t.Context(), up.Multipart) })
	require.ErrorIs(t, o.last.Complete(t.Context(), up.Multipart, up.parts), store.ErrMultipartUnknown, "an Abort whose answer was lost has ended the upload")
}

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
	put := fullManifest()
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
