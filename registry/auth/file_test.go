package auth_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/auth"
)

// write replaces a file, as if that had happened an hour ago and then so many seconds later.
func write(t testing.TB, path, text string, second int) {
	t.Helper()
	temporary := path + ".new"
	require.NoError(t, os.WriteFile(temporary, []byte(text), 0o600))
	then := time.Now().Add(-time.Hour).Truncate(time.Hour).Add(time.Duration(second) * time.Second)
	require.NoError(t, os.Chtimes(temporary, then, then))
	require.NoError(t, os.Rename(temporary, path))
}

// logs is a logger and what it logged.
func logs() (*slog.Logger, *bytes.Buffer) {
	var buffer bytes.Buffer
	return slog.New(slog.NewTextHandler(&buffer, nil)), &buffer
}

func TestUsersChangeWithTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, alice+bob, 0)
	logger, _ := logs()
	users, err := auth.LoadUsers(path, &auth.UsersOptions{Logger: logger})
	require.NoError(t, err)
	count := counted(users)
	requireLogin(t, users, "bob", "secret", true)

	write(t, path, alice+bob2, 1)
	requireLogin(t, users, "bob", "secret", false)
	requireLogin(t, users, "bob", "other", true)

	write(t, path, alice, 2)
	requireLogin(t, users, "bob", "other", false)
	requireLogin(t, users, "alice", "secret", true)

	write(t, path, alice+bob, 3)
	before := count.Load()
	requireLogin(t, users, "bob", "secret", true)
	require.Equal(t, before, count.Load(), "that this password belongs to this hash is still known")

	write(t, path, "", 4)
	requireLogin(t, users, "alice", "secret", false)
}

func TestPolicyChangesWithTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, rules, 0)
	logger, _ := logs()
	policy, err := auth.LoadPolicy(path, &auth.PolicyOptions{Logger: logger})
	require.NoError(t, err)
	access := registry.Access{Repository: "team/app", Action: registry.ActionPush}
	require.True(t, policy.Allows("alice", access))
	write(t, path, "rules: []", 1)
	require.False(t, policy.Allows("alice", access))
}

// What tells that a file changed is its time, its size, or that it is another file.
func TestEveryKindOfChangeIsSeen(t *testing.T) {
	t.Parallel()
	old := time.Now().Add(-time.Hour)
	for name, change := range map[string]func(t *testing.T, path string){
		"written in place, later": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte(bob2), 0o600))
			require.NoError(t, os.Chtimes(path, old.Add(time.Second), old.Add(time.Second)))
		},
		"written in place, with the time kept and another size": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte(bob2+"\n"), 0o600))
			require.NoError(t, os.Chtimes(path, old, old))
		},
		"replaced by a file of the same time and size": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path+"2", []byte(bob2), 0o600))
			require.NoError(t, os.Chtimes(path+"2", old, old))
			require.NoError(t, os.Rename(path+"2", path))
		},
		"replaced by an older file": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte(bob2), 0o600))
			require.NoError(t, os.Chtimes(path, old.Add(-time.Hour), old.Add(-time.Hour)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, bob2, len(bob), "the size must not give it away")
			path := filepath.Join(t.TempDir(), "users")
			require.NoError(t, os.WriteFile(path, []byte(bob), 0o600))
			require.NoError(t, os.Chtimes(path, old, old))
			logger, _ := logs()
			users, err := auth.LoadUsers(path, &auth.UsersOptions{Logger: logger})
			require.NoError(t, err)
			requireLogin(t, users, "bob", "secret", true)
			change(t, path)
			requireLogin(t, users, "bob", "other", true)
		})
	}
}

func TestFileThatIsRewrittenWithinTheClocksResolutionIsReadAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "users")
	now := time.Now()
	put := func(text string) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(path, now, now))
	}
	put(bob)
	logger, logged := logs()
	users, err := auth.LoadUsers(path, &auth.UsersOptions{Logger: logger})
	require.NoError(t, err)
	requireLogin(t, users, "bob", "secret", true)
	require.Empty(t, logged.String(), "reading the same again is not worth a line")
	put(bob2)
	requireLogin(t, users, "bob", "other", true)
}

func TestFileThatCannotBeReadKeepsWhatItSaidAndLogsOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  string
	}{
		"malformed": {func(t *testing.T, path string) { write(t, path, "alice\n", 1) }, "line 1: want user:hash"},
		"malformed a moment ago": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("alice\n"), 0o600))
		}, "line 1: want user:hash"},
		"deleted": {func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, "no such file"},
		"a folder": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o700))
		}, "not a regular file"},
		"huge": {func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 9<<20)) }, "more than 8388608 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "users")
			write(t, path, alice, 0)
			logger, logged := logs()
			users, err := auth.LoadUsers(path, &auth.UsersOptions{Logger: logger})
			require.NoError(t, err)

			test.spoil(t, path)
			for range 3 {
				requireLogin(t, users, "alice", "secret", true)
			}
			require.Equal(t, 1, strings.Count(logged.String(), "level=ERROR"), logged.String())
			require.Contains(t, logged.String(), test.want)
			require.Contains(t, logged.String(), path)

			require.NoError(t, os.RemoveAll(path))
			write(t, path, bob, 2)
			requireLogin(t, users, "alice", "secret", false)
			requireLogin(t, users, "bob", "secret", true)
			require.Contains(t, logged.String(), "file read again")
			require.Equal(t, 1, strings.Count(logged.String(), "level=ERROR"), logged.String())
		})
	}
}

func TestFileThatIsMissingAtTheStartIsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none")
	_, err := auth.LoadUsers(path, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, path)
	_, err = auth.LoadPolicy(path, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = auth.LoadPolicy(t.TempDir(), nil)
	require.ErrorContains(t, err, "not a regular file")
}

// A change is either seen or not yet, while others read: nobody sees half of it, and alice is there all the time.
func TestFilesChangeUnderConcurrentRequests(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, alice, 0)
	logger, logged := logs()
	users, err := auth.LoadUsers(path, &auth.UsersOptions{Logger: logger, MaxWait: time.Hour})
	require.NoError(t, err)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				ok, err := users.Authenticate(t.Context(), "alice", "secret")
				assert.NoError(t, err)
				assert.True(t, ok)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 50 {
		write(t, path, []string{alice + bob, alice + bob2, alice}[i%3], i)
		password := []string{"secret", "other", "none"}[i%3]
		ok, err := users.Authenticate(t.Context(), "bob", password)
		assert.NoError(t, err)
		assert.Equal(t, i%3 != 2, ok, "who asks after a change sees it")
	}
	close(done)
	readers.Wait()
	require.NotContains(t, logged.String(), "level=ERROR")
}
