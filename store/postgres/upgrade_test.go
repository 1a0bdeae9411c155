package postgres_test

import (
	"io/fs"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// TestRowsOfTheFirstVersionSurviveMigrations writes rows as the first version of the program did, and migrates them.
func TestRowsOfTheFirstVersionSurviveMigrations(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t, 2)
	first, err := postgres.Migrations("ocikit")
	require.NoError(t, err)
	text, err := fs.ReadFile(first, "00001_index.sql")
	require.NoError(t, err)
	began := time.Now()
	d := digest.FromString("image").String()
	layer := digest.FromString("layer").String()
	_, err = pool.Exec(t.Context(), "begin;"+string(text)+`
		set local search_path = ocikit, pg_catalog;
		insert into repositories (name, created) values ('a', now());
		insert into repositories (name, created) values (null, now());
		insert into contents (digest, size, key, inline) values ('`+d+`', 5, null, 'image'), ('`+layer+`', 5, 'blobs/layer', null);
		insert into links select id, digest from repositories, contents where name = 'a';
		insert into links select id, '`+layer+`' from repositories where name is null;
		insert into manifests (repository, digest, media_type, artifact_type, subject, annotations, size, pushed)
			select id, '`+d+`', 'text/plain', '', '', null, 5, '2020-01-02' from repositories where name = 'a';
		insert into edges select repository, digest, '`+layer+`', '`+layer+`' from manifests;
		insert into tags (repository, name, digest) select repository, 'latest', digest from manifests;
		insert into candidates (repository, digest, touched) values ('a', '`+layer+`', '2020-01-02');
		insert into garbage (key, condemned) values ('blobs/gone', '2020-01-02');
		insert into sessions (id, repository, state, version, algorithm, digest, started, touched,
				reserved_blob, reserved_tail, durable, parts_end, multipart_key, multipart_id, part_size, last_part)
			values ('session', 'a', 0, 1, '', '', '2020-01-02', '2020-01-02', 'blobs/session', '', 0, 0, '', '', 0, 0);
		insert into tails (session, ordinal, key, size) values ('session', 0, 'uploads/tail', 1);
		commit`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	_, err = postgres.New(t.Context(), pool, nil)
	require.ErrorIs(t, err, postgres.ErrOlderSchema)
	require.NoError(t, postgres.Migrate(t.Context(), pool, nil))

	m := open(t, pool, nil)
	got, err := m.Manifest(t.Context(), "a", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err)
	assert.Equal(t, "image", string(got.Bytes))
	_, err = m.Content(t.Context(), "a", digest.Digest(layer))
	require.NoError(t, err)
	then := time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)
	manifests, err := m.ManifestRecords(t.Context(), "a", "", 10)
	require.NoError(t, err)
	require.Len(t, manifests, 1)
	assert.True(t, manifests[0].Tagged)
	assert.WithinDuration(t, then, manifests[0].Pushed, 24*time.Hour)
	assert.Zero(t, manifests[0].Pulled)
	tags, err := m.TagRecords(t.Context(), "a", "", 10)
	require.NoError(t, err)
	require.Len(t, tags, 1)
	assert.WithinRange(t, tags[0].Pushed, began.Add(-time.Minute), time.Now().Add(time.Minute), "nobody knows when: no policy takes it at once")

	work, err := m.Due(t.Context(), store.Deadlines{Grace: time.Hour, Delay: time.Hour, Unfinished: time.Hour, Life: store.Life{Idle: time.Hour}})
	require.NoError(t, err)
	assert.Equal(t, store.Work{Candidates: true, Garbage: true, Sessions: true, Repositories: true}, work)
	reviewed, err := m.ReviewCandidates(t.Context(), store.Review{Grace: time.Hour, Limit: 10})
	require.NoError(t, err)
	assert.Equal(t, store.Reviewed{Candidates: 1}, reviewed, "the layer is needed")
	garbage, err := m.TakeGarbage(t.Context(), store.Take{Delay: time.Hour, Unfinished: time.Hour, Again: time.Hour, Limit: 10})
	require.NoError(t, err)
	require.Len(t, garbage, 1)
	assert.True(t, garbage[0].Unfinished, "nobody knows what condemned it")
	assert.Zero(t, garbage[0].Size, "nobody knows how large it is")
	ended, err := m.EndSessions(t.Context(), store.Life{Idle: time.Hour}, 10)
	require.NoError(t, err)
	require.Len(t, ended.Sessions, 1)
	assert.Equal(t, []store.Key{"blobs/session", "uploads/tail"}, ended.Sessions[0].Keys())
	sizes := map[store.Key]int64{}
	garbage, err = m.PreviewGarbage(t.Context(), store.Take{Limit: 10}, store.Garbage{})
	require.NoError(t, err)
	for _, g := range garbage {
		sizes[g.Key] = g.Size
	}
	assert.Equal(t, map[store.Key]int64{"blobs/gone": 0, "blobs/session": 0, "uploads/tail": 1}, sizes, "sizes are known from the update on")
	drained, err := m.DrainRepositories(t.Context(), 10)
	require.NoError(t, err)
	assert.Equal(t, 2, drained, "a link and its repository")
}

func TestDeletionsByAnEarlierVersionAreKept(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t, 2)
	files, err := postgres.Migrations("ocikit")
	require.NoError(t, err)
	for _, name := range []string{"00001_index.sql", "00002_collector.sql", "00003_due.sql", "00004_mirror.sql"} {
		text, err := fs.ReadFile(files, name)
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), "begin;"+string(text)+"commit", pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, name)
	}
	deleted, other := digest.FromString("deleted"), digest.FromString("other")
	_, err = pool.Exec(t.Context(), `insert into ocikit.candidates (repository, digest, touched, deleted)
		values ('a', '`+deleted.String()+`', '2020-01-02', true), ('a', '`+other.String()+`', '2020-01-03', false)`)
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), pool, nil))
	later := digest.FromString("later") // what a server does that still runs
	_, err = pool.Exec(t.Context(), `insert into ocikit.candidates (repository, digest, touched, deleted) values ('a', '`+later.String()+`', '2020-01-04', true)`)
	require.NoError(t, err)
	candidates, err := open(t, pool, nil).Candidates(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, candidates, 3)
	assert.Equal(t, store.Candidate{Repository: "a", Digest: later, Touched: candidates[2].Touched, Deleted: candidates[2].Touched}, candidates[2],
		"what a server of the version before deletes, is deleted, too")
	assert.Equal(t, store.Candidate{Repository: "a", Digest: deleted, Touched: candidates[0].Touched, Deleted: candidates[0].Touched}, candidates[0],
		"what was deleted, was when it was last touched, as far as anybody knows")
	assert.Equal(t, store.Candidate{Repository: "a", Digest: other, Touched: candidates[1].Touched}, candidates[1], "what was not, was not")
}
