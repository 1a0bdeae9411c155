package sqlite_test

import (
	"bytes"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// made makes a file that holds a manifest, in a folder of its own, and is in a mode of the journal.
func made(t *testing.T, mode string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "index.db")
	m, err := sqlite.Open(path, nil)
	require.NoError(t, err)
	require.NoError(t, m.PutManifest(t.Context(), manifest("team/app", "one", "latest")))
	require.NoError(t, m.Close())
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "pragma journal_mode="+mode)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.Equal(t, []string{"index.db"}, beside(t, path))
	return path
}

// beside lists what is in the file's folder.
func beside(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// look opens a file, reads a tag, tries to write, and closes it.
func look(t *testing.T, path, tag string) {
	t.Helper()
	m, err := sqlite.Open(path, &sqlite.Options{ReadOnly: true})
	require.NoError(t, err)
	_, err = m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: tag})
	require.NoError(t, err)
	err = m.PutManifest(t.Context(), manifest("team/app", "two", tag))
	require.ErrorIs(t, err, sqlite.ErrReadOnly)
	require.NotErrorIs(t, err, store.ErrUnavailable, "it does not pass")
	require.NoError(t, m.Close())
}

func TestLookingKeepsEveryByte(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			path := made(t, mode)
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			for range 2 {
				look(t, path, "latest")
				after, err := os.ReadFile(path)
				require.NoError(t, err)
				require.Equal(t, before, after)
				require.Equal(t, []string{"index.db"}, beside(t, path), "nothing is left beside it")
			}
		})
	}
}

func TestLookingBesideAWriter(t *testing.T) {
	t.Parallel()
	path := made(t, "wal")
	writer := open(t, path, nil)
	require.NoError(t, writer.PutManifest(t.Context(), manifest("team/app", "two", "before")))
	m, err := sqlite.Open(path, &sqlite.Options{ReadOnly: true})
	require.NoError(t, err)
	_, err = m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: "before"})
	require.NoError(t, err)
	require.NoError(t, writer.PutManifest(t.Context(), manifest("team/app", "three", "meanwhile")))
	_, err = m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: "meanwhile"})
	require.NoError(t, err, "what was written is seen at once")
	before, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	require.NoError(t, m.Close())
	after, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	require.Equal(t, before, after, "the writer's log is the writer's")
	require.NoError(t, writer.PutManifest(t.Context(), manifest("team/app", "four", "later")))
	look(t, path, "later")
}

func TestLookingWhereNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 { // who may write everywhere
		runAsNobody(t)
		return
	}
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			path := made(t, mode)
			require.NoError(t, os.Chmod(path, 0o400))
			require.NoError(t, os.Chmod(filepath.Dir(path), 0o500))
			t.Cleanup(func() { require.NoError(t, os.Chmod(filepath.Dir(path), 0o700)) })
			look(t, path, "latest")
		})
	}
}

// runAsNobody runs the test as somebody who may do nothing in particular.
func runAsNobody(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("there is no setpriv")
	}
	dir, err := os.MkdirTemp("", "looking") //nolint:usetesting // t.TempDir is in a folder of root's alone
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // for nobody's temporary files
	self, err := os.Executable()
	require.NoError(t, err)
	content, err := os.ReadFile(self)
	require.NoError(t, err)
	program := filepath.Join(dir, "test")
	require.NoError(t, os.WriteFile(program, content, 0o755)) //nolint:gosec // to be run by nobody
	var told []byte
	err = tooltest.Again(10*time.Second, func() (passing bool, err error) {
		cmd := exec.CommandContext(t.Context(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
			program, "-test.v", "-test.run=^"+t.Name()+"$")
		cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir}
		told, err = cmd.CombinedOutput()
		// A program that another test has just started has a copy of what the file was written by, until it is its own.
		return bytes.Contains(told, []byte("Text file busy")), err
	})
	require.NoError(t, err, string(told))
	require.Contains(t, string(told), "--- PASS: "+t.Name())
}
