package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// acquire takes a connection of the pool for the time of the test.
func acquire(t *testing.T, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	return conn.Conn()
}

func TestRepositoryStaysForALinkThatIsBeingMade(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	last, coming := inline("last"), inline("coming")
	require.NoError(t, s.PutContent(t.Context(), "a", last))
	require.NoError(t, s.PutContent(t.Context(), "b", coming))
	s.begin(t) // another replica's push, stopped before its commit
	s.sql(t, `
		insert into {schema}.links (repository, digest)
		values ((select id from {schema}.repositories where name = 'a' for key share), $1)`, coming.Digest.String())
	require.NoError(t, s.meet(t, func(ctx context.Context) error { return s.DeleteContent(ctx, "a", last.Digest) }, func() { s.sql(t, `commit`) }))
	_, err := s.Content(t.Context(), "a", coming.Digest)
	require.NoError(t, err, "the repository is there with its new link")
	_, err = s.Content(t.Context(), "a", last.Digest)
	require.ErrorIs(t, err, store.ErrContentUnknown)
}

func TestOfTwoLastLinksTheLaterDeletionTakesTheRepository(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	one, two := inline("one"), inline("two")
	require.NoError(t, s.PutContent(t.Context(), "a", one))
	require.NoError(t, s.PutContent(t.Context(), "a", two))
	s.begin(t) // another replica's deletion, which has seen the second link
	s.sql(t, `select from {schema}.links where digest = $1 for update`, one.Digest.String())
	s.sql(t, `select from {schema}.repositories where name = 'a' for no key update`)
	s.sql(t, `delete from {schema}.links where digest = $1`, one.Digest.String())
	require.NoError(t, s.meet(t, func(ctx context.Context) error { return s.DeleteContent(ctx, "a", two.Digest) }, func() { s.sql(t, `commit`) }))
	names, err := s.Repositories(t.Context(), "", 10)
	require.NoError(t, err)
	require.Empty(t, names, "a repository goes with its last link")
}

func TestPushIntoARepositoryThatGoesMakesItAnew(t *testing.T) {
	t.Parallel()
	for name, goes := range map[string]string{
		"WithItsLastLink": `delete from {schema}.repositories where name = 'a'`,
		"Whole":           `update {schema}.repositories set name = null where name = 'a'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, push := range map[string]func(s *stage) (digest.Digest, func(context.Context) error){
				"PutContent": func(s *stage) (digest.Digest, func(context.Context) error) {
					content := inline("new")
					return content.Digest, func(ctx context.Context) error { return s.PutContent(ctx, "a", content) }
				},
				"FinishSession": func(s *stage) (digest.Digest, func(context.Context) error) {
					content, finish := s.upload(t, "a", "new")
					return content.Digest, func(ctx context.Context) error { return s.FinishSession(ctx, finish) }
				},
				"Mount": func(s *stage) (digest.Digest, func(context.Context) error) {
					content := s.object(t, "b", "new")
					return content.Digest, func(ctx context.Context) error { _, err := s.Mount(ctx, content.Digest, "b", "a"); return err }
				},
				"PutManifest": func(s *stage) (digest.Digest, func(context.Context) error) {
					put := manifest("a", "new", "latest")
					return put.Manifest.Digest, func(ctx context.Context) error { return s.PutManifest(ctx, put) }
				},
			} {
				t.Run(what, func(t *testing.T) {
					s := newStage(t)
					old := inline("old")
					require.NoError(t, s.PutContent(t.Context(), "a", old))
					d, call := push(s)
					s.begin(t)
					if name == "WithItsLastLink" {
						s.sql(t, `delete from {schema}.links where digest = $1`, old.Digest.String())
					}
					s.sql(t, goes)
					require.NoError(t, s.meet(t, call, func() { s.sql(t, `commit`) }))
					_, err := s.Content(t.Context(), "a", d)
					require.NoError(t, err, "what was acknowledged is in the repository of that name")
					_, err = s.Content(t.Context(), "a", old.Digest)
					require.ErrorIs(t, err, store.ErrContentUnknown, "what the former repository had is not")
				})
			}
		})
	}
}

func TestManifestIsRefusedWhenItsRepositoryIsDeletedWhole(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	put := manifest("a", "image", "latest")
	put.References = []store.Reference{{Digest: layer.Digest}}
	s.begin(t)
	s.sql(t, `update {schema}.repositories set name = null where name = 'a'`)
	err := s.meet(t, func(ctx context.Context) error { return s.PutManifest(ctx, put) }, func() { s.sql(t, `commit`) })
	var missing *store.MissingError
	require.ErrorAs(t, err, &missing, "the layer is another repository's now")
	names, err := s.Repositories(t.Context(), "", 10)
	require.NoError(t, err)
	require.Empty(t, names, "a manifest that was refused makes no repository")
}

func TestManifestIsRefusedWhoseLayerComesTooLateToBeHeld(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	late := inline("late")
	put := manifest("a", "image")
	put.References = []store.Reference{{Digest: late.Digest}, {Digest: digest.FromString("optional"), Optional: true}}
	early := put
	early.AllowMissing = true
	require.NoError(t, s.PutManifest(t.Context(), early))
	s.sql(t, `delete from {schema}.edges`)
	s.begin(t) // another replica, which has made one of the edges, so that the put waits where it has looked for the layer
	s.sql(t, `insert into {schema}.edges select repository, digest, $1 from {schema}.manifests`, digest.FromString("optional").String())
	err := s.meet(t, func(ctx context.Context) error { return s.PutManifest(ctx, put) }, func() {
		require.NoError(t, s.PutContent(t.Context(), "a", late))
		s.sql(t, `rollback`)
	})
	var missing *store.MissingError
	require.ErrorAs(t, err, &missing, "nothing would keep the layer from being deleted before the manifest is there")
	require.Equal(t, []digest.Digest{late.Digest}, missing.Digests)
	require.NoError(t, s.PutManifest(t.Context(), put))
	var referenced *store.ReferencedError
	require.ErrorAs(t, s.DeleteContent(t.Context(), "a", late.Digest), &referenced)
}

func TestTagThatIsDeletedWhileItIsBeingPutIsPut(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	require.NoError(t, s.PutManifest(t.Context(), manifest("a", "old", "latest")))
	s.begin(t)
	s.sql(t, `select from {schema}.tags for update`)
	put := manifest("a", "new", "latest")
	put.Condition = store.TagCondition{Absent: true}
	require.NoError(t, s.meet(t, func(ctx context.Context) error { return s.PutManifest(ctx, put) }, func() {
		s.sql(t, `delete from {schema}.tags`)
		s.sql(t, `commit`)
	}),
		"the condition is met by the time that it counts")
	got, err := s.Manifest(t.Context(), "a", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err)
	assert.Equal(t, put.Manifest.Digest, got.Digest)
}

func TestOfTwoPutsOfAnAbsentTagTheLaterSeesTheEarlier(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	earlier := manifest("a", "earlier")
	require.NoError(t, s.PutManifest(t.Context(), earlier))
	s.begin(t)
	s.sql(t, `insert into {schema}.tags select repository, 'latest', digest from {schema}.manifests`)
	put := manifest("a", "later", "latest")
	put.Condition = store.TagCondition{Absent: true}
	err := s.meet(t, func(ctx context.Context) error { return s.PutManifest(ctx, put) }, func() { s.sql(t, `commit`) })
	require.ErrorIs(t, err, store.ErrConditionFailed)
}

func TestManifestThatChangesBetweenLooksIsDeletedWithAllThatItRefersTo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	layer := s.object(t, "a", "layer")
	put := manifest("a", "image")
	require.NoError(t, s.PutManifest(t.Context(), put))
	s.begin(t) // another replica puts it again, and knows of one more reference
	s.sql(t, `select from {schema}.links where digest = $1 for key share`, put.Manifest.Digest.String())
	s.sql(t, `delete from {schema}.candidates where digest = $1`, layer.Digest.String())
	s.sql(t, `insert into {schema}.edges select repository, digest, $1, $1 from {schema}.manifests`, layer.Digest.String())
	require.NoError(t, s.meet(t, func(ctx context.Context) error {
		return s.DeleteManifest(ctx, "a", put.Manifest.Digest, nil)
	}, func() { s.sql(t, `commit`) }))
	require.EqualValues(t, 1, s.sql(t, `select from {schema}.candidates where digest = $1`, layer.Digest.String()),
		"the reference that came between is to be reviewed, too")
}

func TestExpiryLeavesTheTagOfARepositoryThatIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	old := manifest("a", "old", "latest")
	require.NoError(t, s.PutManifest(t.Context(), old))
	expire := s.stop(t, 2, func(m *postgres.Metadata) error { // it has seen and locked the tag
		return m.ExpireTag(t.Context(), store.TagExpiry{Repository: "a", Tag: "latest", Digest: old.Manifest.Digest})
	})
	require.NoError(t, s.DeleteRepository(t.Context(), "a"))
	anew := manifest("a", "new", "latest")
	require.NoError(t, s.PutManifest(t.Context(), anew))
	require.NoError(t, expire(), "the tag that was seen expires, wherever it is by now")
	got, err := s.Manifest(t.Context(), "a", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err, "a tag of the same name in another repository of the same name is another tag")
	assert.Equal(t, anew.Manifest.Digest, got.Digest)
}

func TestDeadlockRunsTheTransactionAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	content := inline("content")
	require.NoError(t, s.PutContent(t.Context(), "a", content))
	s.begin(t) // somebody who locks in another order
	s.sql(t, `select from {schema}.contents for update`)
	require.NoError(t, s.meet(t, func(ctx context.Context) error { return s.PutContent(ctx, "a", content) }, func() {
		s.sql(t, `set local deadlock_timeout = '60s'`) // so that the call finds it, and is ended
		s.sql(t, `select from {schema}.candidates for update`)
		s.sql(t, `commit`)
	}), "the event is run again, and nobody hears of it")
}
