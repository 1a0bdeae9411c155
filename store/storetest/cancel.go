package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// objectsCancelTests prove what a store does when the caller's context ends.
func objectsCancelTests() []objectsTest {
	return []objectsTest{
		{"BeforeTheCallChangesNothing", objectsCancelledBefore},
		{"WhilePuttingLeavesNothingPartial", cancelledPut},
		{"WhilePuttingAPartLeavesNothingPartial", cancelledPutPart},
		{"WhileReadingFailsTheReader", cancelledReader},
	}
}

// ended returns a context that is over.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func objectsCancelledBefore(t *testing.T, o *objects) {
	ctx := ended(t)
	key, data := store.NewBlobKey(), bytesOf(4, 1000)
	put(t, o.first, key, data)
	up := begin(t, o.first, store.NewBlobKey())
	up.put(t, o.first, 1, bytesOf(5, 100))
	fresh := store.NewBlobKey()

	_, errOpen := o.first.Open(ctx, key, 0, -1)
	_, errBegin := o.first.Begin(ctx, fresh)
	_, errPart := o.first.PutPart(ctx, up.Multipart, 1, store.Part{Number: 2, Offset: 100, Size: 100}, bytes.NewReader(data[:100]))
	_, errBegun := o.first.Begun(ctx, key)
	_, errList := o.first.List(ctx, "", "", 10)
	for method, err := range map[string]error{
		"Put":      o.first.Put(ctx, fresh, bytes.NewReader(data), int64(len(data))),
		"Open":     errOpen,
		"Delete":   o.first.Delete(ctx, []store.Key{key}),
		"Begin":    errBegin,
		"PutPart":  errPart,
		"Complete": o.first.Complete(ctx, up.Multipart, up.parts),
		"Abort":    o.first.Abort(ctx, up.Multipart),
		"Begun":    errBegun,
		"List":     errList,
	} {
		require.Error(t, err, "%s honours its context: one that has ended fails it", method)
	}
	requireNoObject(t, o, fresh, "a Put whose context had ended leaves nothing")
	requireBegun(t, o, fresh)
	requireObject(t, o, key, data, "a Delete whose context had ended deletes nothing")
	up.complete(t, o.last)
	requireObject(t, o, up.Key, up.data, "an Abort whose context had ended aborts nothing")
}

// cancelling is a reader that ends a context when half of it has been read.
type cancelling struct {
	*brokenReader
	cancel func()
}

func newCancelling(data []byte, cancel func()) *cancelling {
	return &cancelling{&brokenReader{bytes.NewReader(data), int64(len(data)), io.EOF}, cancel}
}

func (r *cancelling) Read(p []byte) (int, error) {
	at, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	half := r.Size() / 2
	if at >= half {
		r.cancel()
		return r.brokenReader.Read(p)
	}
	return r.brokenReader.Read(p[:min(int64(len(p)), half-at)])
}

func (r *cancelling) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

func cancelledPut(t *testing.T, o *objects) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	key, data := store.NewBlobKey(), bytesOf(6, 1<<20)
	err := o.first.Put(ctx, key, newCancelling(data, cancel), int64(len(data)))
	there := wholeOrAbsent(t, o.last, key, data, "after a Put whose context ended midway the object is there whole, or not at all")
	if err == nil {
		require.True(t, there, "a Put that returned nil has stored the object, whatever became of its context")
	}
	put(t, o.first, key, data)
	requireObject(t, o, key, data, "a Put that was cancelled can be repeated")
}

func cancelledPutPart(t *testing.T, o *objects) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	key, data := store.NewBlobKey(), bytesOf(7, 1<<20)
	m := begin(t, o.first, key).Multipart
	part, err := o.first.PutPart(ctx, m, 1, store.Part{Number: 1, Size: int64(len(data))}, newCancelling(data, cancel))
	if err != nil {
		part = putPart(t, o.last, m, 1, 1, 0, data)
	}
	requireNoObject(t, o, key, "a PutPart whose context ended midway leaves nothing visible")
	require.NoError(t, o.last.Complete(t.Context(), m, []store.Part{part}))
	requireObject(t, o, key, data, "a PutPart that was cancelled can be repeated")
}

func cancelledReader(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(8, 4<<20)
	put(t, o.first, key, data)
	for name, rest := range map[string]func(r io.Reader) error{
		"Read": func(r io.Reader) error { _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); return err },
		"copy": func(r io.Reader) error { _, err := io.Copy(struct{ io.Writer }{io.Discard}, r); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := o.first.Open(ctx, key, 0, -1)
		require.NoError(t, err)
		head := make([]byte, 1000)
		_, err = io.ReadFull(r, head)
		require.NoError(t, err)
		cancel()
		require.Error(t, rest(r), "the context of Open covers the reading: when it ends, reads fail (%s)", name)
		r.Close()
	}
}

// metadataCancelTests prove what an index does when the caller's context ends.
func metadataCancelTests() []metadataTest {
	return []metadataTest{
		{"BeforeALookFailsIt", cancelledLooks},
		{"BeforeAnEventChangesNothing", cancelledEvents},
		{"DuringEventsLeavesAllOrNothing", cancelledDuringEvents},
	}
}

// looks returns a call of each method that only reads. The repository has a manifest of the bytes "x", tagged latest, and the session.
func looks(m store.Metadata, id string) map[string]func(ctx context.Context) error {
	d := digest.FromString("x")
	return map[string]func(ctx context.Context) error{
		"Session":      func(ctx context.Context) error { _, err := m.Session(ctx, ref(id)); return err },
		"Content":      func(ctx context.Context) error { _, err := m.Content(ctx, repository, d); return err },
		"Manifest":     func(ctx context.Context) error { _, err := m.Manifest(ctx, repository, byTag("latest")); return err },
		"Tags":         func(ctx context.Context) error { _, err := m.Tags(ctx, repository, "", all); return err },
		"Referrers":    func(ctx context.Context) error { _, err := m.Referrers(ctx, repository, d, everything()); return err },
		"Repositories": func(ctx context.Context) error { _, err := m.Repositories(ctx, "", all); return err },
		"Holders":      func(ctx context.Context) error { _, err := m.Holders(ctx, d, "", all); return err },
		"Candidates":   func(ctx context.Context) error { _, err := m.Candidates(ctx, 0, all); return err },
		"Garbage":      func(ctx context.Context) error { _, err := m.Garbage(ctx, 0, all); return err },
	}
}

func cancelledLooks(t *testing.T, m *index) {
	m.putManifest(t, imageOf(repository, "x"), "latest")
	id := m.create(t)
	for method, look := range looks(m.last, id) {
		require.Error(t, look(ended(t)), "%s honours its context: one that has ended fails it", method)
		require.NoError(t, look(t.Context()), "%s works again with a context that lives", method)
	}
}

func cancelledEvents(t *testing.T, m *index) {
	id := m.create(t)
	s := m.claim(t, id)
	layer := m.putText(t, repository, "layer")
	free := m.putText(t, repository, "free")
	image := imageOf(repository, "image", layer)
	d := m.putManifest(t, image, "latest")
	other := store.NewID()
	before, candidates := m.session(t, id), m.candidates(t)
	m.clock.Advance(time.Hour)

	ctx := ended(t)
	put := imageOf(repository, "other", free)
	put.Tags = []string{"latest", "fresh"}
	_, errClaim := m.first.ClaimSession(ctx, claimOf(id))
	_, errDrop := m.first.DropSession(ctx, ref(id))
	_, errMount := m.first.Mount(ctx, free, repository, "team/target")
	_, errRenew := m.first.RenewContent(ctx, repository, free, time.Minute)
	for method, err := range map[string]error{
		"CreateSession":  m.first.CreateSession(ctx, other, repository, ""),
		"ClaimSession":   errClaim,
		"SaveSession":    m.first.SaveSession(ctx, store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100)}),
		"FinishSession":  m.first.FinishSession(ctx, store.Finish{ID: id, Version: s.Version, Content: object("y")}),
		"DropSession":    errDrop,
		"RenewContent":   errRenew,
		"PutContent":     m.first.PutContent(ctx, repository, text("y")),
		"PutManifest":    m.first.PutManifest(ctx, put),
		"Mount":          errMount,
		"DeleteTag":      m.first.DeleteTag(ctx, repository, "latest"),
		"DeleteManifest": m.first.DeleteManifest(ctx, repository, d, nil),
		"DeleteContent":  m.first.DeleteContent(ctx, repository, free),
	} {
		require.Error(t, err, "%s honours its context: one that has ended fails it", method)
	}
	const message = "an event whose context had ended before it began changes nothing"
	requireSession(t, before, m.session(t, id), message)
	_, err := m.last.Session(t.Context(), ref(other))
	require.ErrorIs(t, err, store.ErrSessionUnknown, message)
	m.requireNoContent(t, repository, digest.FromString("y"), message)
	m.requireManifest(t, repository, byTag("latest"), image.Manifest, message)
	m.requireContent(t, repository, text("free"), message)
	require.Equal(t, []string{"latest"}, m.tags(t, repository), message)
	require.Equal(t, []string{repository}, m.repositories(t), message)
	require.Len(t, m.candidates(t), len(candidates), message)
	require.True(t, candidates[place{repository, free}].Equal(m.candidates(t)[place{repository, free}]), message)
	m.requireGarbage(t, message)
}

func cancelledDuringEvents(t *testing.T, m *index) {
	layer := m.putText(t, repository, "layer")
	var r race
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		put := imageOf(repository, string(bytesOf(uint64(round), 100_000)), layer)
		put.Tags = []string{fmt.Sprint("a-", round), fmt.Sprint("b-", round)}
		errs := r.run(
			func() error { return m.first.PutManifest(ctx, put) },
			func() error { cancel(); return nil },
		)
		happened := m.effects(t, put)
		if errs[0] == nil {
			require.NotContains(t, happened, false, "an event that returned nil has happened: the manifest, its link, its two tags")
		}
		if slices.Contains(happened, true) { // perhaps only while the test looked: the outcome was unknown
			require.NotContains(t, m.effects(t, put), false,
				"after an event whose context ended, all of it has happened or nothing: the manifest, its link, its two tags")
		}
	}
}

// effects tells which effects of a put are to be seen.
func (m *index) effects(t *testing.T, put store.ManifestPut) (happened []bool) {
	t.Helper()
	_, err := m.last.Content(t.Context(), repository, put.Manifest.Digest)
	happened = append(happened, err == nil)
	refs := []store.ManifestRef{byDigest(put.Manifest.Digest)}
	for _, tag := range put.Tags {
		refs = append(refs, byTag(tag))
	}
	for _, ref := range refs {
		_, err := m.last.Manifest(t.Context(), repository, ref)
		happened = append(happened, err == nil)
	}
	return happened
}
