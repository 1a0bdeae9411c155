package sqlite_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// hold keeps m's writer inside an event until the returned function is called, which waits for that event's end. It works in
// a bubble of synctest.
func hold(t *testing.T, m *sqlite.Metadata) (release func()) {
	t.Helper()
	require.NoError(t, m.PutManifest(t.Context(), manifest("held", "old", "held")))
	held := make(chan struct{})
	put := manifest("held", "new", "held")
	put.Locked = func(string) bool { <-held; return false }
	done := make(chan error, 1)
	go func() { done <- m.PutManifest(t.Context(), put) }()
	synctest.Wait()
	return func() {
		close(held)
		require.NoError(t, <-done)
	}
}

// commits counts the transactions in the write-ahead log: the frames that tell the size of the file after a commit.
func commits(t *testing.T, path string) int {
	t.Helper()
	wal, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	const header, frameHeader = 32, 24
	page := int(binary.BigEndian.Uint32(wal[8:]))
	count := 0
	for at := header; at+frameHeader+page <= len(wal); at += frameHeader + page {
		if binary.BigEndian.Uint32(wal[at+4:]) != 0 {
			count++
		}
	}
	return count
}

func TestEventsThatWaitShareACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "index.db")
		m := open(t, path, nil)
		release := hold(t, m)
		before := commits(t, path)
		var group sync.WaitGroup
		for i := range 40 {
			group.Go(func() {
				if i%4 == 0 {
					err := m.DeleteTag(t.Context(), "absent", "tag")
					assert.ErrorIs(t, err, store.ErrManifestUnknown, "event %d", i)
					return
				}
				put := manifest("team/app", fmt.Sprint(i), fmt.Sprint(i))
				if i%4 == 1 {
					put.References = []store.Reference{{Digest: digest.FromString("absent")}}
					var missing *store.MissingError
					assert.ErrorAs(t, m.PutManifest(t.Context(), put), &missing, "event %d", i)
					return
				}
				assert.NoError(t, m.PutManifest(t.Context(), put), "event %d", i)
			})
		}
		synctest.Wait()
		release()
		group.Wait()

		assert.Equal(t, before+2, commits(t, path), "one commit for the event that held the writer, one for all that waited")
		tags, err := m.Tags(t.Context(), "team/app", "", 100)
		require.NoError(t, err)
		assert.Len(t, tags, 20, "what failed left nothing, and what succeeded is there")
		candidates, err := m.Candidates(t.Context(), 0, 100)
		require.NoError(t, err)
		assert.Empty(t, candidates)
	})
}

func TestEventIsNotRunOnceItsContextHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := openNew(t, nil)
		release := hold(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.PutContent(ctx, "team/app", inline("one")) }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled, "the caller does not wait for the writer")
		release()

		require.NoError(t, m.PutContent(t.Context(), "team/app", inline("two")))
		_, err := m.Content(t.Context(), "team/app", inline("one").Digest)
		assert.ErrorIs(t, err, store.ErrContentUnknown)
	})
}

func TestEventThatHasBegunTellsItsOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := openNew(t, nil)
		require.NoError(t, m.PutManifest(t.Context(), manifest("team/app", "one", "latest")))
		ctx, cancel := context.WithCancel(t.Context())
		held := make(chan struct{})
		put := manifest("team/app", "two", "latest")
		put.Locked = func(string) bool { <-held; return false }
		done := make(chan error, 1)
		go func() { done <- m.PutManifest(ctx, put) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Empty(t, done, "nobody knows the outcome yet")
		close(held)
		require.NoError(t, <-done)
		got, err := m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: "latest"})
		require.NoError(t, err)
		assert.Equal(t, "two", string(got.Bytes))
	})
}

func TestEndedContextDoesNothing(t *testing.T) {
	t.Parallel()
	m := openNew(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Content(ctx, "team/app", inline("one").Digest)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, m.PutContent(ctx, "team/app", inline("one")), context.Canceled)
	_, err = m.Content(t.Context(), "team/app", inline("one").Digest)
	assert.ErrorIs(t, err, store.ErrContentUnknown)
}

func TestPanicOfACallersFunctionIsItsOwn(t *testing.T) {
	t.Parallel()
	m := openNew(t, nil)
	require.NoError(t, m.PutManifest(t.Context(), manifest("team/app", "one", "latest")))
	put := manifest("team/app", "two", "latest")
	put.Locked = func(string) bool { panic("theirs") }
	require.PanicsWithValue(t, "theirs", func() { _ = m.PutManifest(t.Context(), put) })

	got, err := m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err)
	assert.Equal(t, "one", string(got.Bytes))
	_, err = m.Content(t.Context(), "team/app", put.Manifest.Digest)
	require.ErrorIs(t, err, store.ErrContentUnknown)
	require.NoError(t, m.PutManifest(t.Context(), manifest("team/app", "three", "latest")), "the writer goes on")
}

func TestCloseAnswersEverybody(t *testing.T) {
	t.Parallel()
	// The bubble does not end before the goroutine that writes has.
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "index.db")
		m, err := sqlite.Open(path, nil)
		require.NoError(t, err)
		release := hold(t, m)
		waiting := make(chan error, 1)
		go func() { waiting <- m.PutContent(t.Context(), "team/app", inline("one")) }()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- m.Close() }()
		synctest.Wait()
		require.ErrorIs(t, m.PutContent(t.Context(), "team/app", inline("two")), sqlite.ErrClosed)
		_, err = m.Content(t.Context(), "team/app", inline("one").Digest)
		require.ErrorIs(t, err, sqlite.ErrClosed)
		release() // what is under way is committed and answered

		waited := <-waiting // either came in time
		if waited != nil {
			require.ErrorIs(t, waited, sqlite.ErrClosed)
		}
		require.NoError(t, <-closed)
		require.NoError(t, m.Close(), "closing again is nothing")
		require.NoFileExists(t, path+"-wal", "the log is emptied into the file")

		m = open(t, path, nil)
		got, err := m.Manifest(t.Context(), "held", store.ManifestRef{Tag: "held"})
		require.NoError(t, err)
		require.Equal(t, "new", string(got.Bytes))
		_, err = m.Content(t.Context(), "team/app", inline("one").Digest)
		assert.Equal(t, waited == nil, err == nil, "content is there exactly if it was acknowledged: %v, %v", waited, err)
	})
}

func TestBusyDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "index.db")
		holder := open(t, path, nil)
		m := open(t, path, &sqlite.Options{BusyTimeout: 3 * time.Second})
		require.NoError(t, m.PutContent(t.Context(), "team/app", inline("one")))
		release := hold(t, holder)
		began := time.Now()
		require.ErrorIs(t, m.PutContent(t.Context(), "team/app", inline("two")), store.ErrUnavailable)
		assert.InDelta(t, 3*time.Second, time.Since(began), float64(10*time.Millisecond))
		_, err := m.Content(t.Context(), "team/app", inline("one").Digest)
		require.NoError(t, err, "reading waits for no writer")
		release()
		assert.NoError(t, m.PutContent(t.Context(), "team/app", inline("two")), "it may try again")
	})
}

func TestProcessesWriteSideBySide(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	const each = 150
	var group sync.WaitGroup
	for process := range 3 {
		m := open(t, path, nil)
		for writer := range 4 {
			group.Go(func() {
				for i := range each {
					name := fmt.Sprintf("%d-%d-%d", process, writer, i)
					if !assert.NoError(t, m.PutManifest(t.Context(), manifest("team/app", name, name))) {
						return
					}
					got, err := m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: name})
					if assert.NoError(t, err, "what was acknowledged is seen at once") {
						assert.Equal(t, name, string(got.Bytes))
					}
				}
			})
		}
	}
	group.Wait()
	tags, err := open(t, path, nil).Tags(t.Context(), "team/app", "", 10_000)
	require.NoError(t, err)
	assert.Len(t, tags, 3*4*each)
}

func TestCommitsAreFlushedUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options     *sqlite.Options
		synchronous string
	}{
		"Default": {nil, "2"},
		"NoSync":  {&sqlite.Options{NoSync: true}, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := openNew(t, test.options)
			for pragma, want := range map[string]string{
				"synchronous": test.synchronous, "journal_mode": "wal", "foreign_keys": "1",
			} {
				got, err := m.Pragma(t.Context(), pragma)
				require.NoError(t, err)
				assert.Equal(t, want, got, pragma)
			}
		})
	}
}
