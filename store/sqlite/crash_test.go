package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// crashPath is the variable that makes of this test's program the one that is killed.
const crashPath = "OCIKIT_SQLITE_CRASH_PATH"

// writeUntilKilled tags manifests, and prints each tag once it is acknowledged.
func writeUntilKilled(path string) {
	m, err := sqlite.Open(path, nil)
	if err != nil {
		panic(err)
	}
	for writer := range 8 {
		go func() {
			for i := 0; ; i++ {
				tag := fmt.Sprintf("p%d-w%d-%d", os.Getpid(), writer, i)
				if err := m.PutManifest(context.Background(), manifest("team/app", tag, tag)); err != nil {
					panic(err)
				}
				fmt.Println(tag) // one write, of a line
			}
		}()
	}
	select {}
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "index.db")
	var acknowledged []string
	for round := range 4 {
		child := exec.CommandContext(t.Context(), program)
		child.Env = append(os.Environ(), crashPath+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged = append(acknowledged, lines.Text())
			if n == 100+37*round {
				require.NoError(t, child.Process.Kill())
			}
		}
		require.Error(t, child.Wait(), "the child must have been killed")
	}
	m := open(t, path, nil)
	for _, tag := range acknowledged {
		got, err := m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: tag})
		require.NoError(t, err, "tag %s was acknowledged", tag)
		assert.Equal(t, tag, string(got.Bytes))
	}
	assert.Greater(t, len(acknowledged), 400)
}
