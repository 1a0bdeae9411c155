package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/auth"
	"github.com/ocikit/ocikit/store/memory"
)

// Lines of htpasswd files, of the lowest cost. The password of each user is "secret", of bob2 "other".
const (
	alice = "alice:$2a$04$eDUCdZsr7eSIoUz3llFmuOaYOQ0WmfIIJZYQoORLDhYIIsxJlNMNO\n"
	bob   = "bob:$2y$04$eDUCdZsr7eSIoUz3llFmuOaYOQ0WmfIIJZYQoORLDhYIIsxJlNMNO\n"
	bob2  = "bob:$2a$04$xkBvxGFPFuttixoIGIl6X.1Iz7LF/nLKOUdGzW5xPM9ScEmpf.0w2\n"
)

const rules = `
rules:
  - users: [anonymous]
    repositories: ["public/**"]
    actions: [pull]
  - users: ["*"]
    repositories: [shared/app]
    actions: [pull]
  - users: [alice]
    repositories: ["team/**", "public/**"]
    actions: [pull, push, delete]
`

// site is a registry with content in repositories that only some may see.
type site struct {
	handler http.Handler
	local   *registry.Local
}

// newSite serves a registry that has the blob "content" in public/app, shared/app and team/app.
func newSite(t *testing.T, opts *auth.Options) *site {
	t.Helper()
	authenticator, err := auth.New(opts)
	require.NoError(t, err)
	s := &site{local: registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil)}
	for _, repository := range []string{"public/app", "shared/app", "team/app"} {
		_, err := s.local.PushBlob(t.Context(), repository, content, strings.NewReader("content"), int64(len("content")))
		require.NoError(t, err)
	}
	s.handler = registry.NewHandler(s.local, &registry.HandlerOptions{Authorize: authenticator.Authorize, Logger: slog.New(slog.DiscardHandler)})
	return s
}

var content = digest.FromString("content")

func (s *site) do(t *testing.T, method, path string, authorization ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for _, value := range authorization {
		r.Header.Add("Authorization", value)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func newUsers(t *testing.T, htpasswd string, opts *auth.UsersOptions) *auth.Users {
	t.Helper()
	users, err := auth.ParseUsers([]byte(htpasswd), opts)
	require.NoError(t, err)
	return users
}

func newPolicy(t *testing.T, text string) *auth.Policy {
	t.Helper()
	policy, err := auth.ParsePolicy([]byte(text))
	require.NoError(t, err)
	return policy
}

func requireError(t *testing.T, w *httptest.ResponseRecorder, status int, code, challenge string) {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	assert.Equal(t, challenge, w.Header().Get("Www-Authenticate"), "exactly one challenge with a 401, none with another status")
	var document struct{ Errors []registry.Error }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &document))
	require.Len(t, document.Errors, 1)
	assert.Equal(t, code, document.Errors[0].Code)
}

const challenge = `Basic realm="registry"`

func TestEveryRequestIsAnsweredByWhoSendsItAndWhatItWants(t *testing.T) {
	t.Parallel()
	s := newSite(t, &auth.Options{Authenticate: newUsers(t, alice+bob, nil).Authenticate, Allows: newPolicy(t, rules).Allows})
	blob := "/blobs/" + content.String()
	right, other, wrong, empty := basic("alice", "secret"), basic("bob", "secret"), basic("alice", "wrong"), "Basic Og=="
	const unauthorized, denied = http.StatusUnauthorized, http.StatusForbidden
	for name, test := range map[string]struct {
		method, path, authorization string
		status                      int
	}{
		"login without credentials":                      {"GET", "/v2/", "", unauthorized},
		"login with empty credentials":                   {"GET", "/v2/", empty, unauthorized},
		"login with the wrong password":                  {"GET", "/v2/", wrong, unauthorized},
		"login of nobody who is known":                   {"GET", "/v2/", basic("mallory", "secret"), unauthorized},
		"login without a name":                           {"GET", "/v2/", basic("", "secret"), unauthorized},
		"login without a password":                       {"GET", "/v2/", basic("alice", ""), unauthorized},
		"login with the right password":                  {"GET", "/v2/", right, http.StatusOK},
		"login of a user whom the policy does not name":  {"GET", "/v2/", other, http.StatusOK},
		"anonymous pull of what is public":               {"GET", "/v2/public/app" + blob, "", http.StatusOK},
		"pull of what is public with empty credentials":  {"GET", "/v2/public/app" + blob, empty, http.StatusOK},
		"pull of what is public with the wrong password": {"GET", "/v2/public/app" + blob, wrong, unauthorized},
		"pull of what is public by any user":             {"GET", "/v2/public/app" + blob, other, http.StatusOK},
		"anonymous pull of what is shared":               {"GET", "/v2/shared/app" + blob, "", unauthorized},
		"pull of what is shared by any user":             {"GET", "/v2/shared/app" + blob, other, http.StatusOK},
		"anonymous pull of a team's":                     {"GET", "/v2/team/app" + blob, "", unauthorized},
		"pull of a team's by another user":               {"GET", "/v2/team/app" + blob, other, denied},
		"pull of a team's":                               {"GET", "/v2/team/app" + blob, right, http.StatusOK},
		"anonymous pull of what is not there":            {"GET", "/v2/team/none" + blob, "", unauthorized},
		"pull of what is not there by another user":      {"GET", "/v2/team/none" + blob, other, denied},
		"anonymous push":                                 {"POST", "/v2/public/app/blobs/uploads/", "", unauthorized},
		"push by a user who may only pull":               {"POST", "/v2/public/app/blobs/uploads/", other, denied},
		"push":                                           {"POST", "/v2/public/app/blobs/uploads/", right, http.StatusAccepted},
		"push where nobody may":                          {"POST", "/v2/shared/app/blobs/uploads/", right, denied},
		"anonymous delete":                               {"DELETE", "/v2/public/app" + blob, "", unauthorized},
		"delete by a user who may only pull":             {"DELETE", "/v2/public/app" + blob, other, denied},
		"anonymous catalog":                              {"GET", "/v2/_catalog", "", unauthorized},
		"a token":                                        {"GET", "/v2/public/app" + blob, "Bearer abc", unauthorized},
		"credentials that are not base64":                {"GET", "/v2/public/app" + blob, "Basic %%%", unauthorized},
		"credentials without a colon":                    {"GET", "/v2/public/app" + blob, "Basic YWxpY2U=", unauthorized},
		"a scheme alone":                                 {"GET", "/v2/public/app" + blob, "Basic", unauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var headers []string
			if test.authorization != "" {
				headers = []string{test.authorization}
			}
			w := s.do(t, test.method, test.path, headers...)
			switch test.status {
			case unauthorized:
				requireError(t, w, unauthorized, "UNAUTHORIZED", challenge)
			case denied:
				requireError(t, w, denied, "DENIED", "")
			default:
				require.Equal(t, test.status, w.Code, w.Body.String())
				assert.Empty(t, w.Header().Get("Www-Authenticate"))
			}
		})
	}
}

func TestTwoAuthorizationHeadersAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, &auth.Options{Authenticate: newUsers(t, alice, nil).Authenticate})
	w := s.do(t, http.MethodGet, "/v2/", basic("alice", "secret"), basic("alice", "wrong"))
	requireError(t, w, http.StatusUnauthorized, "UNAUTHORIZED", challenge)
}

func TestMountFromWhereOneMayNotPullBecomesAnUpload(t *testing.T) {
	t.Parallel()
	policy := newPolicy(t, "rules: [{users: [bob], repositories: [bob/app], actions: [pull, push]}, {users: [bob], repositories: [shared/app], actions: [pull]}]")
	s := newSite(t, &auth.Options{Authenticate: newUsers(t, bob, nil).Authenticate, Allows: policy.Allows})
	mount := "/v2/bob/app/blobs/uploads/?mount=" + content.String() + "&from="
	w := s.do(t, http.MethodPost, mount+"team/app", basic("bob", "secret"))
	require.Equal(t, http.StatusAccepted, w.Code, "a source that may not be pulled is as good as none")
	w = s.do(t, http.MethodPost, mount+"shared/app", basic("bob", "secret"))
	require.Equal(t, http.StatusCreated, w.Code, "a source that may be pulled is mounted")
}

func TestCatalogShowsWhatMayBePulled(t *testing.T) {
	t.Parallel()
	users, policy := newUsers(t, alice+bob, nil), newPolicy(t, rules)
	for name, test := range map[string]struct {
		opts          auth.Options
		authorization []string
		want          string
	}{
		"by a user":               {auth.Options{Authenticate: users.Authenticate, Allows: policy.Allows}, []string{basic("alice", "secret")}, `["public/app","shared/app","team/app"]`},
		"by another user":         {auth.Options{Authenticate: users.Authenticate, Allows: policy.Allows}, []string{basic("bob", "secret")}, `["public/app","shared/app"]`},
		"without a policy":        {auth.Options{Authenticate: users.Authenticate}, []string{basic("bob", "secret")}, `["public/app","shared/app","team/app"]`},
		"where nobody can log in": {auth.Options{Allows: policy.Allows}, nil, `["public/app"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSite(t, &test.opts).do(t, http.MethodGet, "/v2/_catalog", test.authorization...)
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			assert.JSONEq(t, `{"repositories":`+test.want+`}`, w.Body.String())
		})
	}
}

func TestWithoutAPolicyUsersMayDoEverything(t *testing.T) {
	t.Parallel()
	s := newSite(t, &auth.Options{Authenticate: newUsers(t, bob, nil).Authenticate})
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodDelete} {
		path := "/v2/team/app/blobs/" + content.String()
		assert.Equal(t, http.StatusUnauthorized, s.do(t, method, path).Code)
		assert.Less(t, s.do(t, method, path, basic("bob", "secret")).Code, 300, method)
	}
}

func TestWhereNobodyCanLogInNobodyIsAskedTo(t *testing.T) {
	t.Parallel()
	s := newSite(t, &auth.Options{Allows: newPolicy(t, rules).Allows})
	assert.Equal(t, http.StatusOK, s.do(t, http.MethodGet, "/v2/").Code, "Docker pulls without credentials only if this is 200")
	assert.Equal(t, http.StatusOK, s.do(t, http.MethodGet, "/v2/public/app/blobs/"+content.String()).Code)
	requireError(t, s.do(t, http.MethodGet, "/v2/team/app/blobs/"+content.String()), http.StatusForbidden, "DENIED", "")
	requireError(t, s.do(t, http.MethodGet, "/v2/", basic("alice", "secret")), http.StatusUnauthorized, "UNAUTHORIZED", challenge)
}

func TestErrorsOfAuthenticateReachTheClient(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err    error
		status int
	}{
		"a retry":   {&registry.RetryError{Err: registry.ErrTooManyRequests}, http.StatusTooManyRequests},
		"a failure": {errors.New("directory out of reach"), http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, &auth.Options{Authenticate: func(context.Context, string, string) (bool, error) { return true, test.err }})
			w := s.do(t, http.MethodGet, "/v2/", basic("alice", "secret"))
			assert.Equal(t, test.status, w.Code)
			assert.NotContains(t, w.Body.String(), "directory", "internals are not shown to clients")
		})
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]*auth.Options{
		"nil":                      nil,
		"empty":                    {},
		"a quote in the realm":     {Realm: `a "registry"`, Allows: newPolicy(t, rules).Allows},
		"a line end in the realm":  {Realm: "a\r\nSet-Cookie: x", Allows: newPolicy(t, rules).Allows},
		"a backslash in the realm": {Realm: `a\`, Allows: newPolicy(t, rules).Allows},
	} {
		_, err := auth.New(opts)
		assert.Error(t, err, name)
	}
	s := newSite(t, &auth.Options{Realm: "Example registry", Authenticate: newUsers(t, bob, nil).Authenticate})
	requireError(t, s.do(t, http.MethodGet, "/v2/"), http.StatusUnauthorized, "UNAUTHORIZED", `Basic realm="Example registry"`)
}
