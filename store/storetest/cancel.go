package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

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
	require.Equal(t, len(candidates), len(m.candidates(t)), message)
	require.True(t, candidates[place{repository, free}].Equal(m.candidates(t)[place{repository, free}]), message)
	m.requireGarbage(t, message)
}

func cancelledDuringEvents(t *testing.T, m *index) {
	layer := m.putText(t, repository, "layer")
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		put := imageOf(repository, string(bytesOf(uint64(round), 100_000)), layer)
		put.Tags = []string{"a", "b"}
		errs := together(
			func() error { return m.first.PutManifest(ctx, put) },
			func() error { cancel(); return nil },
		)
		_, byItself := m.last.Manifest(t.Context(), repository, byDigest(put.Manifest.Digest))
		_, linked := m.last.Content(t.Context(), repository, put.Manifest.Digest)
		a, errA := m.last.Manifest(t.Context(), repository, byTag("a"))
		b, errB := m.last.Manifest(t.Context(), repository, byTag("b"))
		require.Equal(t, byItself == nil, linked == nil, "after an event whose context ended, all of it has happened or nothing: the manifest and its link")
		require.Equal(t, byItself == nil, errA == nil && a.Digest == put.Manifest.Digest, "after an event whose context ended, all of it has happened or nothing: the manifest and its tag")
		require.Equal(t, errA == nil, errB == nil, "after an event whose context ended, all of it has happened or nothing: both tags")
		require.Equal(t, a.Digest, b.Digest, "after an event whose context ended, all of it has happened or nothing: both tags")
		if errs[0] == nil {
			require.NoError(t, byItself, "an event that returned nil has happened")
		}
	}
}
