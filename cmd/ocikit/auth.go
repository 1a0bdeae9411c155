package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/auth"
)

// authorize returns what decides about requests; nil, where there are no users, allows everything.
func (c *serveCommand) authorize(log *slog.Logger) (func(*http.Request, []registry.Access) (func(registry.Access) bool, error), error) {
	if c.Htpasswd == "" {
		return nil, nil
	}
	var options auth.Options
	users, usersErr := auth.LoadUsers(c.Htpasswd, &auth.UsersOptions{Logger: log})
	if usersErr != nil {
		usersErr = fmt.Errorf("--htpasswd: %w", usersErr)
	} else {
		options.Authenticate = users.Authenticate
	}
	var policyErr error
	if c.Policy != "" {
		policy, err := auth.LoadPolicy(c.Policy, &auth.PolicyOptions{Logger: log})
		if err != nil {
			policyErr = fmt.Errorf("--policy: %w", err)
		} else {
			options.Allows = policy.Allows
		}
	}
	if err := errors.Join(usersErr, policyErr); err != nil {
		return nil, err
	}
	decider, err := auth.New(&options)
	if err != nil {
		return nil, fmt.Errorf("--htpasswd: %w", err)
	}
	return decider.Authorize, nil
}
