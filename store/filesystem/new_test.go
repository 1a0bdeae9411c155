package filesystem_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/filesystem"
)

func TestNewMakesTheFolderAndFindsItAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "some", "where")
	first, err := filesystem.New(dir, nil)
	require.NoError(t, err)
	key := store.NewBlobKey()
	require.NoError(t, first.Put(t.Context(), key, strings.NewReader("kept"), 4))
	again, err := filesystem.New(dir, nil)
	require.NoError(t, err)
	r, err := again.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

func TestLookingChangesNothing(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), store.NewBlobKey()
	look := &filesystem.Options{ReadOnly: true}
	_, err := filesystem.New(dir, look)
	require.ErrorIs(t, err, filesystem.ErrFormat)
	made, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, made)

	writer, err := filesystem.New(dir, nil)
	require.NoError(t, err)
	require.NoError(t, writer.Put(t.Context(), key, strings.NewReader("kept"), 4))
	left := filepath.Join(dir, "temp", store.NewID())
	require.NoError(t, os.WriteFile(left, []byte("of a crash"), 0o600))
	require.NoError(t, os.Chtimes(left, time.Time{}, time.Now().Add(-48*time.Hour)))
	before, err := os.Stat(filepath.Join(dir, "temp"))
	require.NoError(t, err)
	reader, err := filesystem.New(dir, look)
	require.NoError(t, err)
	list, err := reader.List(t.Context(), "", "", 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, key, list[0].Key)
	require.FileExists(t, left)
	after, err := os.Stat(filepath.Join(dir, "temp"))
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "format"), []byte("another"), 0o600))
	_, err = filesystem.New(dir, look)
	require.ErrorIs(t, err, filesystem.ErrFormat)
}

func TestNewRefusesAFolder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		make func(t *testing.T, dir string)
		opts *filesystem.Options
		want error // nil is any
	}{
		"that is a file": {
			make: func(t *testing.T, dir string) { require.NoError(t, os.WriteFile(dir, []byte("x"), 0o600)) },
		},
		"whose parts are files": {
			make: func(t *testing.T, dir string) {
				require.NoError(t, os.Mkdir(dir, 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "temp"), []byte("x"), 0o600))
			},
		},
		"that cannot be written": {
			make: func(t *testing.T, dir string) {
				require.NoError(t, os.Mkdir(dir, 0o700))
				// Not even root can write into a folder that is not there.
				require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "temp")))
			},
		},
		"of another version": {
			make: func(t *testing.T, dir string) {
				require.NoError(t, os.Mkdir(dir, 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "format"), []byte("ocikit objects 2\n"), 0o600))
			},
			want: filesystem.ErrFormat,
		},
		"with a part size that cannot be": {
			make: func(*testing.T, string) {},
			opts: &filesystem.Options{PartSize: -1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "folder")
			test.make(t, dir)
			_, err := filesystem.New(dir, test.opts)
			require.Error(t, err)
			require.ErrorContains(t, err, dir, "the error names the folder")
			if test.want != nil {
				require.ErrorIs(t, err, test.want)
			}
		})
	}
}

func TestNewRemovesWhatCrashesLeftADayAgo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o, err := filesystem.New(dir, nil)
	require.NoError(t, err)
	upload, err := o.Begin(t.Context(), store.NewBlobKey())
	require.NoError(t, err)
	part, err := o.PutPart(t.Context(), upload, 1, store.Part{Number: 1, Size: 1}, strings.NewReader("x"))
	require.NoError(t, err)
	staged, err := filepath.Glob(filepath.Join(dir, "staged", "*"))
	require.NoError(t, err)
	require.Len(t, staged, 2)

	name := func(folder, name string) string { return filepath.Join(dir, folder, name) }
	old := []string{name("temp", "old"), name("staged", "blobs.00-gone+id.parts")}
	young := []string{name("temp", "young"), name("staged", "blobs.00-ending+id.parts")}
	for _, file := range append(old, young...) {
		require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	}
	twoDaysAgo := time.Now().Add(-48 * time.Hour)
	for _, file := range append(old, staged...) {
		require.NoError(t, os.Chtimes(file, twoDaysAgo, twoDaysAgo))
	}

	_, err = filesystem.New(dir, nil)
	require.NoError(t, err)
	for _, file := range old {
		require.NoFileExists(t, file, "what nobody can be writing any more is removed")
	}
	for _, file := range young {
		require.FileExists(t, file, "what another process may be writing stays")
	}
	require.NoError(t, o.Complete(t.Context(), upload, []store.Part{part}), "an unfinished upload stays, however old")
}
