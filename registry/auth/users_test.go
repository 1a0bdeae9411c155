package auth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/auth"
)

// counted counts how often users compare passwords.
func counted(users *auth.Users) *atomic.Int64 {
	count := &atomic.Int64{}
	users.SetCompare(func(hash, password []byte) error {
		count.Add(1)
		return bcrypt.CompareHashAndPassword(hash, password)
	})
	return count
}

func requireLogin(t *testing.T, users *auth.Users, user, password string, want bool) {
	t.Helper()
	ok, err := users.Authenticate(t.Context(), user, password)
	require.NoError(t, err)
	require.Equal(t, want, ok, "login of %s with password %q", user, password)
}

func TestPasswordThatWasRightIsComparedOnceInFiveMinutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		users := newUsers(t, alice+bob2, nil)
		count := counted(users)
		for range 40 {
			requireLogin(t, users, "alice", "secret", true)
		}
		require.EqualValues(t, 1, count.Load(), "a push of 40 requests costs one comparison")
		requireLogin(t, users, "bob", "secret", false)
		require.EqualValues(t, 2, count.Load(), "what is known of one user says nothing of another")
		<-time.After(5*time.Minute - time.Nanosecond)
		requireLogin(t, users, "alice", "secret", true)
		require.EqualValues(t, 2, count.Load())
		<-time.After(time.Nanosecond)
		requireLogin(t, users, "alice", "secret", true)
		require.EqualValues(t, 3, count.Load(), "it is forgotten five minutes after it was compared, however often it was used")
	})
}

func TestWrongPasswordsAreComparedEachTime(t *testing.T) {
	t.Parallel()
	users := newUsers(t, alice, nil)
	count := counted(users)
	requireLogin(t, users, "alice", "secret", true)
	for range 3 {
		requireLogin(t, users, "alice", "wrong", false)
		requireLogin(t, users, "alice", "", false)
		requireLogin(t, users, "alice", "secretx", false)
	}
	require.EqualValues(t, 1+9, count.Load())
}

func TestUnknownUserCostsTheSlowestComparison(t *testing.T) {
	t.Parallel()
	users := newUsers(t, alice+"slow:$2y$06$eDUCdZsr7eSIoUz3llFmuOaYOQ0WmfIIJZYQoORLDhYIIsxJlNMNO\n", nil)
	var costs []int
	users.SetCompare(func(hash, password []byte) error {
		cost, err := bcrypt.Cost(hash)
		require.NoError(t, err)
		costs = append(costs, cost)
		return bcrypt.CompareHashAndPassword(hash, password)
	})
	requireLogin(t, users, "mallory", "secret", false)
	requireLogin(t, users, "", "", false)
	require.Equal(t, []int{6, 6}, costs)
}

func TestUnknownUserIsRefusedWhateverTheComparisonSays(t *testing.T) {
	t.Parallel()
	users := newUsers(t, alice, nil)
	users.SetCompare(func([]byte, []byte) error { return nil })
	for range 2 {
		requireLogin(t, users, "mallory", "secret", false)
	}
}

func TestFloodOfWrongPasswordsKeepsOneCoreBusyAndLetsKnownUsersIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		users := newUsers(t, alice, &auth.UsersOptions{MaxConcurrent: 1, MaxWait: 10 * time.Second})
		requireLogin(t, users, "alice", "secret", true)

		var busy atomic.Int64
		users.SetCompare(func([]byte, []byte) error {
			assert.EqualValues(t, 1, busy.Add(1), "no more than MaxConcurrent passwords are compared at once")
			defer busy.Add(-1)
			<-time.After(time.Second)
			return bcrypt.ErrMismatchedHashAndPassword
		})
		var wrong, refused atomic.Int64
		var flood sync.WaitGroup
		for range 100 {
			flood.Go(func() {
				ok, err := users.Authenticate(t.Context(), "alice", "wrong")
				var retry *registry.RetryError
				switch {
				case err == nil && !ok:
					wrong.Add(1)
				case errors.As(err, &retry) && errors.Is(err, registry.ErrTooManyRequests):
					refused.Add(1)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		requireLogin(t, users, "alice", "secret", true)
		require.Zero(t, time.Since(began), "who has just logged in does not wait behind a flood")
		flood.Wait()
		require.EqualValues(t, 100, wrong.Load()+refused.Load(), "each is told that the password is wrong, or to come back later")
		require.InDelta(t, 10, wrong.Load(), 1, "ten seconds of one core were spent")
	})
}

func TestRequestsThatComeTogetherCompareOnce(t *testing.T) {
	t.Parallel()
	users := newUsers(t, alice, &auth.UsersOptions{MaxConcurrent: 1, MaxWait: time.Hour})
	count := counted(users)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			ok, err := users.Authenticate(t.Context(), "alice", "secret")
			assert.NoError(t, err)
			assert.True(t, ok)
		})
	}
	all.Wait()
	require.EqualValues(t, 1, count.Load())
}

func TestWaitingToLogInEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		users := newUsers(t, alice, &auth.UsersOptions{MaxConcurrent: 1})
		release := make(chan struct{})
		users.SetCompare(func([]byte, []byte) error {
			<-release
			return nil
		})
		var first sync.WaitGroup
		first.Go(func() {
			ok, err := users.Authenticate(t.Context(), "alice", "secret")
			assert.NoError(t, err)
			assert.True(t, ok)
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := users.Authenticate(ctx, "alice", "secret")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(release)
		first.Wait()
	})
}

func TestOnlyTheFirst72BytesOfAPasswordCount(t *testing.T) {
	t.Parallel()
	long := make([]byte, 72)
	for i := range long {
		long[i] = 'x'
	}
	hash, err := bcrypt.GenerateFromPassword(long, bcrypt.MinCost)
	require.NoError(t, err)
	users := newUsers(t, "alice:"+string(hash), nil)
	requireLogin(t, users, "alice", string(long), true)
	requireLogin(t, users, "alice", string(long)+"y", true)
	requireLogin(t, users, "alice", string(long[1:]), false)
}

// Authentication must cost little beside the request: 40 of them make a push.
func BenchmarkAuthenticate(b *testing.B) {
	users, err := auth.ParseUsers([]byte(alice), nil)
	require.NoError(b, err)
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if ok, err := users.Authenticate(b.Context(), "alice", "secret"); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		policy, err := auth.ParsePolicy([]byte(rules))
		require.NoError(b, err)
		authenticator, err := auth.New(&auth.Options{Authenticate: users.Authenticate, Allows: policy.Allows})
		require.NoError(b, err)
		r := httptest.NewRequest(http.MethodPut, "/v2/team/app/manifests/v1", nil)
		r.SetBasicAuth("alice", "secret")
		want := []registry.Access{{Repository: "team/app", Action: registry.ActionPull}, {Repository: "team/app", Action: registry.ActionPush}}
		for b.Loop() {
			if _, err := authenticator.Authorize(r, want); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("file", func(b *testing.B) {
		b.ReportAllocs()
		path := b.TempDir() + "/users"
		write(b, path, alice, 0)
		users, err := auth.LoadUsers(path, nil)
		require.NoError(b, err)
		for b.Loop() {
			if ok, err := users.Authenticate(b.Context(), "alice", "secret"); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}
