package auth

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/ocikit/ocikit/registry"
)

// The names that a policy has for more than one user.
const (
	anybody = "anonymous" // whoever asks, logged in or not
	anyUser = "*"         // whoever is logged in
)

// PolicyOptions configures [LoadPolicy]. The zero value works.
type PolicyOptions struct {
	Logger *slog.Logger // is told when the file was read again, or could not be. Default: slog.Default()
}

// Policy says who may do what where. It only grants: what no rule allows is forbidden, and no rule takes away what another one
// gives, so their order does not matter. It is safe for concurrent use. There is nothing to close.
type Policy struct {
	rules func() []rule
}

// rule lets each of its users do each of its actions in each of its repositories.
type rule struct {
	users        []string
	repositories []registry.Pattern
	actions      []registry.Action
}

// LoadPolicy reads a policy file, in the form that the package's documentation describes. An error names file, line and key.
//
// The file is read again when it changes, and is in force with the next request. If it is then malformed, or cannot be read,
// what it said before stays in force, which is logged once.
func LoadPolicy(path string, opts *PolicyOptions) (*Policy, error) {
	if opts == nil {
		opts = &PolicyOptions{}
	}
	file, err := openFile(path, opts.Logger, parseRules)
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	return &Policy{file.value}, nil
}

// ParsePolicy returns the policy of a policy file's text, as [LoadPolicy] does.
func ParsePolicy(text []byte) (*Policy, error) {
	rules, err := parseRules(text)
	if err != nil {
		return nil, fmt.Errorf("parse policy: %w", err)
	}
	return &Policy{func() []rule { return rules }}, nil
}

// Allows reports whether a user may have that access; the user "" is who is not logged in. Every user may list repositories, since a
// list shows only those that they may pull from.
func (p *Policy) Allows(user string, access registry.Access) bool {
	if access.Action == registry.ActionList {
		return user != ""
	}
	return slices.ContainsFunc(p.rules(), func(r rule) bool { return r.allows(user, access) })
}

func (r rule) allows(user string, access registry.Access) bool {
	return slices.Contains(r.actions, access.Action) &&
		slices.ContainsFunc(r.users, func(of string) bool { return of == anybody || user != "" && (of == anyUser || of == user) }) &&
		slices.ContainsFunc(r.repositories, func(p registry.Pattern) bool { return p.Match(access.Repository) })
}
