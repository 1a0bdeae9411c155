package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// Every test here is an interleaving in which a naive form (a look in the statement that locks, a look before the lock, a
// row that is left alone because it is there) answers from before the collector.

func TestManifestIsRefusedWhenACollectorHasItsLayer(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	s.keeper(t, "a")
	collect := s.stopReview(t)
	put := manifest("a", "image", "latest")
	put.References = []store.Reference{{Digest: layer.Digest}}
	err := s.meet(t, func(ctx context.Context) error { return s.PutManifest(ctx, put) }, collect)
	var missing *store.MissingError
	require.ErrorAs(t, err, &missing, "the layer was collected while the manifest waited")
	assert.Equal(t, []digest.Digest{layer.Digest}, missing.Digests)
	_, err = s.Manifest(t.Context(), "a", store.ManifestRef{Tag: "latest"})
	require.ErrorIs(t, err, store.ErrManifestUnknown)
}

func TestCollectorLeavesTheLayerOfAManifestThatIsBeingPut(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	require.NoError(t, s.PutManifest(t.Context(), manifest("a", "former image", "latest")))

	// Somebody has the tag, so that the put stops after its edges.
	s.begin(t)
	s.sql(t, `select from {schema}.tags for update`)
	put := manifest("a", "image", "latest")
	put.References = []store.Reference{{Digest: layer.Digest}}
	require.NoError(t, s.meet(t, func(ctx context.Context) error { return s.PutManifest(ctx, put) }, func() {
		done, err := s.ReviewCandidates(t.Context(), store.Review{Limit: 10})
		require.NoError(t, err)
		assert.Zero(t, done.Links, "a collector does not get the candidate that a put has taken")
		collector := &stage{schema: s.schema, rival: acquire(t, s.watch)}
		assert.Zero(t, collector.sql(t, `select from {schema}.links where digest = $1 for update skip locked`, layer.Digest.String()),
			"nor the link that an edge holds")
		s.sql(t, `commit`)
	}))
	_, err := s.Content(t.Context(), "a", layer.Digest)
	require.NoError(t, err, "what an accepted manifest refers to is there")
	require.Zero(t, s.sql(t, `select from {schema}.candidates where digest = $1`, layer.Digest.String()), "and is no candidate any more")
}

func TestManifestIsRefusedWhenItsLayersLinkGoesWithoutACandidate(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	s.keeper(t, "a")
	s.begin(t) // not by this package's rules: only the foreign key and the lock on the link are in the way
	s.sql(t, `delete from {schema}.links where digest = $1`, layer.Digest.String())
	put := manifest("a", "image")
	put.References = []store.Reference{{Digest: layer.Digest}}
	err := s.meet(t, func(ctx context.Context) error { return s.PutManifest(ctx, put) }, func() { s.sql(t, `commit`) })
	var missing *store.MissingError
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, []digest.Digest{layer.Digest}, missing.Digests)
}

func TestLinkThatAnEdgeHoldsCannotGo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	put := manifest("a", "image")
	put.References = []store.Reference{{Digest: layer.Digest}}
	require.NoError(t, s.PutManifest(t.Context(), put))
	_, err := s.rival.Exec(t.Context(), `delete from `+s.schema+`.links where digest = $1`, layer.Digest.String())
	require.ErrorContains(t, err, "violates foreign key constraint", "the database itself refuses it, whoever asks")
}

func TestPushOfWhatIsBeingCollectedStays(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"a", "b"} {
		t.Run("IntoRepository-"+to, func(t *testing.T) {
			t.Parallel()
			t.Run("Inline", func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				old := s.object(t, "a", "layer")
				s.keeper(t, "a")
				collect := s.stopReview(t)
				pushed := inline("layer")
				require.NoError(t, s.meet(t, func(ctx context.Context) error { return s.PutContent(ctx, to, pushed) },
					collect))
				got, err := s.Content(t.Context(), to, pushed.Digest)
				require.NoError(t, err, "what was acknowledged is there")
				assert.Equal(t, pushed, got)
				requireGarbage(t, s, old.Key)
			})
			t.Run("Object", func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				old := s.object(t, "a", "layer")
				s.keeper(t, "a")
				pushed, finish := s.upload(t, to, "layer")
				collect := s.stopReview(t)
				require.NoError(t, s.meet(t, func(ctx context.Context) error { return s.FinishSession(ctx, finish) },
					collect))
				got, err := s.Content(t.Context(), to, pushed.Digest)
				require.NoError(t, err, "what was acknowledged is there")
				assert.Equal(t, pushed, got)
				requireGarbage(t, s, old.Key)
			})
		})
	}
}

func TestPushOfWhatSomebodyElsePushesKeepsOneKey(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ours, finish := s.upload(t, "b", "layer")
	theirs := store.NewBlobKey()
	s.begin(t) // another replica's finish, whose content is not to be seen yet
	s.sql(t, `insert into {schema}.contents (digest, size, key) values ($1, 5, $2)`, ours.Digest.String(), string(theirs))
	require.NoError(t, s.meet(t, func(ctx context.Context) error { return s.FinishSession(ctx, finish) }, func() { s.sql(t, `commit`) }))
	got, err := s.Content(t.Context(), "b", ours.Digest)
	require.NoError(t, err)
	lost := ours.Key
	if got.Key == ours.Key {
		lost = theirs
	}
	assert.Contains(t, []store.Key{ours.Key, theirs}, got.Key)
	requireGarbage(t, s, lost)
}

func TestMountOfWhatIsBeingCollectedIsUnknown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	s.keeper(t, "a")
	collect := s.stopReview(t)
	err := s.meet(t, func(ctx context.Context) error { _, err := s.Mount(ctx, layer.Digest, "a", "b"); return err },
		collect)
	require.ErrorIs(t, err, store.ErrContentUnknown, "the content was collected while the mount waited")
	names, err := s.Repositories(t.Context(), "", 10)
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, names, "a mount that failed makes no repository")
}

func TestCollectorLeavesWhatIsBeingMounted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	// Somebody makes the target's repository, so that the mount stops after it has locked the content.
	s.begin(t)
	s.sql(t, `insert into {schema}.repositories (name, created) values ('b', now())`)
	require.NoError(t, s.meet(t, func(ctx context.Context) error { _, err := s.Mount(ctx, layer.Digest, "a", "b"); return err }, func() {
		done, err := s.ReviewCandidates(t.Context(), store.Review{Limit: 10})
		require.NoError(t, err)
		assert.Equal(t, store.Reviewed{Left: 1}, done, "a collector does not get content that is being mounted")
		s.sql(t, `commit`)
	}))
	got, err := s.Content(t.Context(), "b", layer.Digest)
	require.NoError(t, err)
	assert.Equal(t, layer, got)
}

func TestDeletionOfWhatIsBeingCollectedIsUnknown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	s.keeper(t, "a")
	collect := s.stopReview(t)
	err := s.meet(t, func(ctx context.Context) error { return s.DeleteContent(ctx, "a", layer.Digest) }, collect)
	require.ErrorIs(t, err, store.ErrContentUnknown)
	candidates, err := s.Candidates(t.Context(), 0, 10)
	require.NoError(t, err)
	for _, c := range candidates {
		assert.NotEqual(t, layer.Digest, c.Digest, "a deletion that found nothing makes no candidate")
	}
}

func TestRenewalOfWhatIsBeingCollectedIsUnknown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	s.keeper(t, "a")
	collect := s.stopReview(t)
	err := s.meet(t, func(ctx context.Context) error {
		_, err := s.RenewContent(ctx, "a", layer.Digest, -time.Hour) // due, however short ago it was touched
		return err
	}, collect)
	require.ErrorIs(t, err, store.ErrContentUnknown, "nobody is told of content that was collected while they waited")
}

func TestLayerOfTwoManifestsIsACandidateWhenBothAreDeletedAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	for _, text := range []string{"one", "two"} {
		put := manifest("a", text, text)
		put.References = []store.Reference{{Digest: layer.Digest}}
		require.NoError(t, s.PutManifest(t.Context(), put))
	}
	require.Zero(t, s.sql(t, `select from {schema}.candidates where digest = $1`, layer.Digest.String()))

	// Another replica deletes the one, as naively as can be, and the other's edge is still to be seen by it.
	s.begin(t)
	one := digest.FromString("one").String()
	s.sql(t, `insert into {schema}.candidates (repository, digest, touched) values ('a', $1, now())`, layer.Digest.String())
	for _, statement := range []string{
		`delete from {schema}.tags where digest = $1`, `delete from {schema}.edges where parent = $1`,
		`delete from {schema}.manifests where digest = $1`, `delete from {schema}.links where digest = $1`,
	} {
		s.sql(t, statement, one)
	}
	require.NoError(t, s.meet(t, func(ctx context.Context) error {
		return s.DeleteManifest(ctx, "a", digest.FromString("two"), nil) // it still sees the first one's edge
	}, func() { s.sql(t, `rollback`) })) // and that one stays, with its edge
	require.EqualValues(t, 1, s.sql(t, `select from {schema}.candidates where repository = 'a' and digest = $1`, layer.Digest.String()),
		"the layer is a candidate, though another manifest's edge was to be seen")
	require.NoError(t, s.DeleteManifest(t.Context(), "a", digest.FromString("one"), nil))
	require.EqualValues(t, 1, s.sql(t, `select from {schema}.candidates where repository = 'a' and digest = $1`, layer.Digest.String()))
}

func TestMissingContentIsAbsentUntilItIsPushedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	s.sql(t, `update {schema}.contents set missing = now() where digest = $1`, layer.Digest.String()) // as an audit does
	_, err := s.Content(t.Context(), "a", layer.Digest)
	require.ErrorIs(t, err, store.ErrContentUnknown)
	_, err = s.RenewContent(t.Context(), "a", layer.Digest, time.Hour)
	require.ErrorIs(t, err, store.ErrContentUnknown)
	_, err = s.Mount(t.Context(), layer.Digest, "a", "b")
	require.ErrorIs(t, err, store.ErrContentUnknown)
	put := manifest("a", "image")
	put.References = []store.Reference{{Digest: layer.Digest}}
	var missing *store.MissingError
	require.ErrorAs(t, s.PutManifest(t.Context(), put), &missing)

	again := s.object(t, "b", "layer")
	for _, repository := range []string{"a", "b"} {
		got, err := s.Content(t.Context(), repository, layer.Digest)
		require.NoError(t, err)
		assert.Equal(t, again, got, "the newest verified key wins")
	}
	requireGarbage(t, s, layer.Key)
	require.NoError(t, s.PutManifest(t.Context(), put))
}

// requireGarbage requires that exactly these keys are condemned.
func requireGarbage(t *testing.T, s *stage, keys ...store.Key) {
	t.Helper()
	garbage, err := s.Garbage(t.Context(), 0, 100)
	require.NoError(t, err)
	var got []store.Key
	for _, g := range garbage {
		got = append(got, g.Key)
	}
	require.ElementsMatch(t, keys, got, "each key is named or garbage")
}

func TestReviewLeavesContentThatCameAfterItHadLooked(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	content := inline("content")
	put := manifest("a", "image")
	put.References, put.AllowMissing = []store.Reference{{Digest: content.Digest}}, true
	require.NoError(t, s.PutManifest(t.Context(), put))
	require.NoError(t, s.DeleteManifest(t.Context(), "a", put.Manifest.Digest, nil))
	collect := s.stopReview(t) // of a candidate that is no content
	require.NoError(t, s.PutContent(t.Context(), "b", content))
	require.NoError(t, s.DeleteContent(t.Context(), "b", content.Digest))
	collect()
	require.EqualValues(t, 1, s.sql(t, `select from {schema}.contents where digest = $1`, content.Digest.String()),
		"content that the review has not locked is left to the candidate that it came with")
}
