package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// collectCrashPath is the variable that makes of this test's program one that pushes and collects until it is killed.
const collectCrashPath = "OCIKIT_SQLITE_COLLECT_CRASH_PATH"

// everySession is a life that every session has outlived.
var everySession = store.Life{Idle: -1, Total: -1, Tombstone: -1}

// collectUntilKilled uploads content that nothing refers to, beside a collector that takes it. It prints each key once a row
// names it, and again before the row is forgotten.
func collectUntilKilled(path string) {
	m, err := sqlite.Open(path, &sqlite.Options{NoSync: true}) // a kill, not a power cut
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	go func() {
		for {
			if err := upload(ctx, m); err != nil && !errors.Is(err, store.ErrFenced) && !errors.Is(err, store.ErrSessionUnknown) {
				panic(err)
			}
		}
	}()
	for {
		if err := collect(ctx, m, 3, func(key store.Key) { fmt.Println("forgotten", key) }); err != nil {
			panic(err)
		}
	}
}

// upload takes a session to its end, unless the collector ends it before.
func upload(ctx context.Context, m *sqlite.Metadata) error {
	id, key := store.NewID(), store.NewBlobKey()
	if err := m.CreateSession(ctx, id, "team/app", ""); err != nil {
		return err
	}
	ref := store.SessionRef{ID: id, Repository: "team/app"}
	session, err := m.ClaimSession(ctx, store.Claim{SessionRef: ref, Reserve: store.Reservation{Blob: key}})
	if err != nil {
		return err
	}
	fmt.Println("named", key)
	return m.FinishSession(ctx, store.Finish{
		ID: id, Version: session.Version, Content: store.Content{Digest: digest.FromString(id), Size: 1, Key: key},
	})
}

// collect takes a step of each kind, and tells each key before it is forgotten.
func collect(ctx context.Context, m *sqlite.Metadata, limit int, forget func(store.Key)) error {
	if _, err := m.EndSessions(ctx, everySession, limit); err != nil {
		return err
	}
	if _, err := m.ReviewCandidates(ctx, store.Review{Limit: limit}); err != nil {
		return err
	}
	taken, err := m.TakeGarbage(ctx, store.Take{Limit: limit})
	if err != nil {
		return err
	}
	keys := make([]store.Key, len(taken))
	for i, garbage := range taken {
		keys[i] = garbage.Key
		forget(garbage.Key)
	}
	return m.ForgetGarbage(ctx, keys)
}

func TestNextCollectorFinishesWhatAKilledOneHasBegun(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "index.db")
	named, forgotten := map[store.Key]bool{}, map[store.Key]bool{}
	var left []store.Key
	interrupted := 0
	for round := range 6 {
		child := exec.CommandContext(t.Context(), program)
		child.Env = append(os.Environ(), collectCrashPath+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			what, key, _ := strings.Cut(lines.Text(), " ")
			if what == "named" {
				named[store.Key(key)] = true
			} else {
				forgotten[store.Key(key)] = true
			}
			if n == 150+29*round {
				require.NoError(t, child.Process.Kill())
			}
		}
		require.Error(t, child.Wait(), "the child must have been killed")

		left = left[:0]
		for key := range named {
			if !forgotten[key] {
				left = append(left, key)
			}
		}
		interrupted += len(left)
		m, err := sqlite.Open(path, nil)
		require.NoError(t, err)
		unknown, err := m.UnknownKeys(t.Context(), left)
		require.NoError(t, err)
		require.Empty(t, unknown, "some row names each key that nobody has begun to forget")
		require.NoError(t, m.Close())
	}
	require.NotEmpty(t, forgotten, "the collector has come to its last step")
	require.Positive(t, interrupted, "something was under way when a child was killed")

	m := open(t, path, nil)
	for work := (store.Work{Sessions: true}); work.Any(); {
		require.NoError(t, collect(t.Context(), m, 1000, func(store.Key) {}))
		work, err = m.Due(t.Context(), store.Deadlines{Life: everySession})
		require.NoError(t, err)
	}
	unknown, err := m.UnknownKeys(t.Context(), left)
	require.NoError(t, err)
	assert.ElementsMatch(t, left, unknown, "the next collector has forgotten every key")
	stored, err := m.StoredContents(t.Context(), "", 10)
	require.NoError(t, err)
	assert.Empty(t, stored)
	repositories, err := m.Repositories(t.Context(), "", 10)
	require.NoError(t, err)
	assert.Empty(t, repositories)
}
