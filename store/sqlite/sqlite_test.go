package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		writeUntilKilled(path)
	}
	if path := os.Getenv(collectCrashPath); path != "" {
		collectUntilKilled(path)
	}
	os.Exit(m.Run())
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	storetest.Metadata(t, func(t *testing.T, now func() time.Time) []store.Metadata {
		path := filepath.Join(t.TempDir(), "index.db")
		options := &sqlite.Options{NoSync: true, Now: now}
		return []store.Metadata{open(t, path, options), open(t, path, options)}
	})
}

// open opens the file for the time of the test.
func open(t testing.TB, path string, options *sqlite.Options) *sqlite.Metadata {
	t.Helper()
	m, err := sqlite.Open(path, options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

// openNew opens a fresh file for the time of the test.
func openNew(t testing.TB, options *sqlite.Options) *sqlite.Metadata {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "index.db"), options)
}

// inline is content whose bytes are the text.
func inline(text string) store.Content {
	return store.Content{Digest: digest.FromString(text), Size: int64(len(text)), Inline: []byte(text)}
}

// manifest is a put of a manifest whose bytes are the text, with its tags.
func manifest(repository, text string, tags ...string) store.ManifestPut {
	return store.ManifestPut{
		Repository: repository,
		Manifest:   store.Manifest{Digest: digest.FromString(text), MediaType: "text/plain", Bytes: []byte(text)},
		Tags:       tags,
	}
}

func TestFilesAreReadableByTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.sqlite")
	m := open(t, path, nil)
	require.NoError(t, m.CreateSession(t.Context(), "id", "team/app", ""))
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s has mode %v", name, info.Mode())
	}
}
