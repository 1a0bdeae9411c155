package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

func TestNewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	m, err := sqlite.Open(path, nil)
	require.NoError(t, err)
	require.NoError(t, m.Close())

	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `insert into goose_db_version (version_id, is_applied) values (1000, 1)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	_, err = sqlite.Open(path, nil)
	require.ErrorIs(t, err, sqlite.ErrNewerVersion)
	assert.ErrorContains(t, err, "1000", "the message names the file's version")
	assert.ErrorContains(t, err, "up to 4", "the message names the program's version")
}

func TestReopenedFileHasEverything(t *testing.T) {
	t.Parallel()
	// Names that mean something in a URI, and a folder of its own.
	path := filepath.Join(t.TempDir(), "a b?mode=memory&c#d%20.db")
	m, err := sqlite.Open(path, nil)
	require.NoError(t, err)
	require.NoError(t, m.PutManifest(t.Context(), manifest("team/app", "one", "latest")))
	require.NoError(t, m.Close())
	require.FileExists(t, path)

	got, err := open(t, path, nil).Manifest(t.Context(), "team/app", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err)
	assert.Equal(t, "one", string(got.Bytes))
}

func TestProcessesMayOpenANewFileAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			m, err := sqlite.Open(path, nil)
			if assert.NoError(t, err) {
				assert.NoError(t, m.PutContent(t.Context(), "team/app", inline("one")))
				assert.NoError(t, m.Close())
			}
		})
	}
	group.Wait()
}

func TestOpenFailsClearly(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"NoPath":   "",
		"Memory":   ":memory:",
		"NoFolder": filepath.Join(t.TempDir(), "absent", "index.db"),
		"AFolder":  t.TempDir(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := sqlite.Open(path, nil)
			assert.ErrorContains(t, err, "sqlite: open "+path)
		})
	}
}
