package auth_test

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/auth"
	"github.com/ocikit/ocikit/store/memory"
)

func Example() {
	// auth.LoadUsers and auth.LoadPolicy read files instead, again and again.
	users, err := auth.ParseUsers([]byte("alice:$2a$04$eDUCdZsr7eSIoUz3llFmuOaYOQ0WmfIIJZYQoORLDhYIIsxJlNMNO\n"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	policy, err := auth.ParsePolicy([]byte(`
rules:
  - users: [anonymous]
    repositories: ["public/**"]
    actions: [pull]
  - users: [alice]
    repositories: ["team/**"]
    actions: [pull, push]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	authenticator, err := auth.New(&auth.Options{Authenticate: users.Authenticate, Allows: policy.Allows})
	if err != nil {
		fmt.Println(err)
		return
	}
	local := registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil)
	handler := registry.NewHandler(local, &registry.HandlerOptions{Authorize: authenticator.Authorize})

	get := func(path, password string) {
		request := httptest.NewRequest(http.MethodGet, path, nil)
		if password != "" {
			request.SetBasicAuth("alice", password)
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		fmt.Println(path, answer.Code, answer.Header()["Www-Authenticate"])
	}
	get("/v2/", "")
	get("/v2/", "secret")
	get("/v2/public/app/tags/list", "") // allowed, and there is none
	get("/v2/team/app/tags/list", "")
	get("/v2/other/app/tags/list", "secret")
	// Output:
	// /v2/ 401 [Basic realm="registry"]
	// /v2/ 200 []
	// /v2/public/app/tags/list 404 []
	// /v2/team/app/tags/list 401 [Basic realm="registry"]
	// /v2/other/app/tags/list 403 []
}

// A service that has accounts of its own needs no htpasswd file, nor a policy file.
func ExampleNew_ownAccounts() {
	tokens := map[string]string{"deploy": "t0ken"}
	authenticator, err := auth.New(&auth.Options{
		Authenticate: func(_ context.Context, user, password string) (bool, error) {
			token, ok := tokens[user]
			return ok && subtle.ConstantTimeCompare([]byte(password), []byte(token)) == 1, nil
		},
		Allows: func(user string, access registry.Access) bool {
			return user == "deploy" && access.Action != registry.ActionDelete
		},
	})
	fmt.Println(authenticator != nil, err)
	// Output: true <nil>
}
