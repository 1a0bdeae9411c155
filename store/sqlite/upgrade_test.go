package sqlite_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// atVersion is a file as an earlier version of the program made it.
func atVersion(t *testing.T, version int64, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = provider.UpTo(t.Context(), version)
	require.NoError(t, err)
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	require.NoError(t, db.Close())
	return path
}

func TestRowsOfAnEarlierVersionAreKept(t *testing.T) {
	t.Parallel()
	image, layer, tail := digest.FromString("image"), digest.FromString("layer"), store.NewUploadKey("under-way")
	path := atVersion(
		t, 1,
		`insert into repositories values (1, 'team/app')`,
		`insert into contents values ('`+image.String()+`', 5, null, cast('image' as blob)), ('`+layer.String()+`', 7, 'blobs/layer', null)`,
		`insert into links values (1, '`+image.String()+`'), (1, '`+layer.String()+`')`,
		`insert into manifests values (1, 1, '`+image.String()+`', 'text/plain', '', '', null, 5)`,
		`insert into edges values (1, '`+layer.String()+`', 1, '`+layer.String()+`')`,
		`insert into tags values (1, 'latest', 1)`,
		`insert into sessions (id, repository, state, version, algorithm, digest, started, touched, reserved_blob, reserved_tail,
			durable, parts_end, multipart_key, multipart_id, part_size, last_part)
			values ('under-way', 'team/app', 0, 1, '', '', 1, 1, '', '', 3, 0, '', '', 0, 0),
				('tombstone', 'team/app', 2, 1, '', '`+layer.String()+`', 1, 1, '', '', 0, 0, '', '', 0, 0)`,
		`insert into tails values ('under-way', 0, '`+string(tail)+`', 3)`,
		`insert into candidates values ('team/app', '`+layer.String()+`', 1)`,
		`insert into garbage values ('blobs/x', 1)`,
	)
	m, ctx := open(t, path, nil), t.Context()

	got, err := m.Manifest(ctx, "team/app", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err)
	assert.Equal(t, "image", string(got.Bytes))
	tags, err := m.TagRecords(ctx, "team/app", "", 10)
	require.NoError(t, err)
	require.Len(t, tags, 1)
	assert.WithinDuration(t, time.Now(), tags[0].Pushed, time.Hour, "what is not known counts as pushed at the update, so that no policy takes it at once")
	manifests, err := m.ManifestRecords(ctx, "team/app", "", 10)
	require.NoError(t, err)
	require.Len(t, manifests, 1)
	assert.WithinDuration(t, time.Now(), manifests[0].Pushed, time.Hour, "as for tags")
	require.ErrorIs(t, m.ExpireTag(ctx, store.TagExpiry{Repository: "team/app", Tag: "latest", Digest: image, Quiet: time.Hour}),
		store.ErrConditionFailed)

	garbage, err := m.Garbage(ctx, 0, 10)
	require.NoError(t, err)
	require.Equal(t, []store.Garbage{{Key: "blobs/x", Condemned: time.Unix(0, 1).UTC(), Unfinished: true}}, garbage,
		"what is not known may be unfinished")
	unknown, err := m.UnknownKeys(ctx, []store.Key{"blobs/layer", "blobs/x", tail, "blobs/unknown"})
	require.NoError(t, err)
	assert.Equal(t, []store.Key{"blobs/unknown"}, unknown)

	done, err := m.ReviewCandidates(ctx, store.Review{Limit: 10})
	require.NoError(t, err)
	assert.Equal(t, store.Reviewed{Candidates: 1}, done, "the layer is needed")
	ended, err := m.EndSessions(ctx, store.Life{Idle: time.Hour, Tombstone: time.Hour}, 10)
	require.NoError(t, err)
	assert.Equal(t, 1, ended.Tombstones)
	require.Len(t, ended.Sessions, 1)
	assert.Equal(t, []store.Tail{{Key: tail, Size: 3}}, ended.Sessions[0].Tails)
	garbage, err = m.PreviewGarbage(ctx, store.Take{Limit: 10}, store.Garbage{})
	require.NoError(t, err)
	require.Len(t, garbage, 2)
	assert.Zero(t, garbage[0].Size, "nobody knows how large it is")
	assert.EqualValues(t, 3, garbage[1].Size, "sizes are known from the update on")
}

func TestDeletionsByAnEarlierVersionAreKept(t *testing.T) {
	t.Parallel()
	deleted, other := digest.FromString("deleted").String(), digest.FromString("other").String()
	m := open(t, atVersion(t, 3,
		`insert into candidates (repository, digest, touched, deleted) values ('a', '`+deleted+`', 7, 1), ('a', '`+other+`', 8, 0)`,
	), nil)
	candidates, err := m.Candidates(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Equal(t, []store.Candidate{
		{Repository: "a", Digest: digest.Digest(deleted), Touched: time.Unix(0, 7).UTC(), Deleted: time.Unix(0, 7).UTC()},
		{Repository: "a", Digest: digest.Digest(other), Touched: time.Unix(0, 8).UTC()},
	}, candidates, "what was deleted, was when it was last touched, as far as anybody knows")
}

func TestLookingChangesNothing(t *testing.T) {
	t.Parallel()
	older := atVersion(t, 3)
	empty := filepath.Join(t.TempDir(), "empty.db")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	newer := atVersion(t, 4, `insert into goose_db_version (version_id, is_applied) values (1000, 1)`)
	for name, test := range map[string]struct {
		path string
		want error
		says string
	}{
		"Older":  {older, sqlite.ErrOlderVersion, "3, and this program wants 4"},
		"Empty":  {empty, sqlite.ErrOlderVersion, "no schema"},
		"Newer":  {newer, sqlite.ErrNewerVersion, "1000"},
		"Absent": {filepath.Join(t.TempDir(), "absent.db"), os.ErrNotExist, "absent.db"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 2 {
				_, err := sqlite.Open(test.path, &sqlite.Options{ReadOnly: true})
				require.ErrorIs(t, err, test.want)
				require.ErrorContains(t, err, test.says)
			}
			if name == "Absent" {
				require.NoFileExists(t, test.path)
			}
		})
	}
	t.Run("Current", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "index.db")
		require.NoError(t, open(t, path, nil).PutManifest(t.Context(), manifest("team/app", "one", "latest")))
		m := open(t, path, &sqlite.Options{ReadOnly: true})
		got, err := m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: "latest"})
		require.NoError(t, err)
		require.Equal(t, "one", string(got.Bytes))
		require.Error(t, m.PutManifest(t.Context(), manifest("team/app", "two", "latest")))
	})
}
