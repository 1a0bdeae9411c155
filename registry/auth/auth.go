package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ocikit/ocikit/registry"
)

const defaultRealm = "registry"

// Options configures [New]. At least one of Authenticate and Allows is needed.
type Options struct {
	// Authenticate reports whether a user, which is not "", has that password. An error refuses the request: see
	// registry.HandlerOptions.Authorize. It is called for each request that has credentials, so it should be quick;
	// [Users.Authenticate] is. Nil: nobody can log in.
	Authenticate func(ctx context.Context, user, password string) (bool, error)

	// Allows reports whether a user may have an access; the user "" is who is not logged in. It is called once or more for
	// each request. [Policy.Allows] is one. Nil: whoever is logged in may do everything.
	Allows func(user string, access registry.Access) bool

	// Realm is shown to people who are asked for a password: printable ASCII without quotes and backslashes. Default "registry".
	Realm string
}

// Authenticator decides about requests by their Basic credentials. Make one with [New]. It is safe for concurrent use, and has nothing
// to close.
type Authenticator struct {
	authenticate func(ctx context.Context, user, password string) (bool, error)
	allows       func(user string, access registry.Access) bool
	challenge    string
}

// New returns an Authenticator whose Authorize method is what registry.HandlerOptions.Authorize takes.
func New(opts *Options) (*Authenticator, error) {
	if opts == nil || opts.Authenticate == nil && opts.Allows == nil {
		return nil, errors.New("auth: neither Authenticate nor Allows is set: nobody could do anything")
	}
	realm := opts.Realm
	if realm == "" {
		realm = defaultRealm
	}
	if strings.ContainsFunc(realm, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		return nil, fmt.Errorf("auth: realm %q: want printable ASCII without quotes and backslashes", realm)
	}
	a := &Authenticator{
		authenticate: opts.Authenticate,
		allows:       opts.Allows,
		challenge:    `Basic realm="` + realm + `"`,
	}
	if a.allows == nil {
		a.allows = func(user string, _ registry.Access) bool { return user != "" }
	}
	return a, nil
}

// Authorize decides about a request, as registry.HandlerOptions.Authorize asks for: see there for what is wanted when. Its errors
// are ErrDenied, a [*registry.ChallengeError], and whatever Options.Authenticate returns.
func (a *Authenticator) Authorize(r *http.Request, want []registry.Access) (func(registry.Access) bool, error) {
	user, err := a.user(r)
	if err != nil {
		return nil, err
	}
	allows := func(access registry.Access) bool { return a.mayHave(user, access) }
	if len(want) == 0 && user == "" && a.authenticate != nil {
		return nil, a.challenged("authentication required") // /v2/: the only place where clients look for how to log in
	}
	for _, access := range want {
		if access.Optional || allows(access) {
			continue
		}
		if user == "" && a.authenticate != nil {
			return nil, a.challenged("authentication required")
		}
		return nil, denied(user, access)
	}
	return allows, nil
}

// mayHave asks the policy. Where nobody can log in, a list is not refused for that; it shows what may be pulled.
func (a *Authenticator) mayHave(user string, access registry.Access) bool {
	return a.allows(user, access) || access.Action == registry.ActionList && a.authenticate == nil
}

// user returns who sent the request, whose password is right; "" is somebody who did not say.
func (a *Authenticator) user(r *http.Request) (string, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 || len(headers) == 1 && headers[0] == "" {
		return "", nil
	}
	user, password, ok := r.BasicAuth()
	switch {
	case !ok || len(headers) > 1:
		return "", a.challenged("the Authorization header is not of the Basic scheme, or malformed")
	case user == "" && password == "":
		return "", nil // podman, when it has no credentials
	case user == "" || a.authenticate == nil:
		return "", a.challenged("wrong user or password")
	}
	ok, err := a.authenticate(r.Context(), user, password)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", a.challenged("wrong user or password")
	}
	return user, nil
}

func (a *Authenticator) challenged(message string) error {
	return &registry.ChallengeError{Challenge: a.challenge, Err: registry.ErrUnauthorized.With("%s", message)}
}

func denied(user string, access registry.Access) error {
	if user == "" {
		user = anybody
	}
	if access.Action == registry.ActionList {
		return registry.ErrDenied.With("%s may not list repositories", user)
	}
	return registry.ErrDenied.With("%s may not %s in %s", user, access.Action, access.Repository)
}
