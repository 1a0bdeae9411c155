package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/auth"
)

// authorize returns what decides about requests; nil, where there are neither users nor a policy, allows everything.
func (c *serveCommand) authorize(log *slog.Logger) (func(*http.Request, []registry.Access) (func(registry.Access) bool, error), error) {
	if c.Htpasswd == "" && c.Policy == "" {
		return nil, nil
	}
	var options auth.Options
	var errs []error
	if c.Htpasswd != "" {
		users, err := auth.LoadUsers(c.Htpasswd, &auth.UsersOptions{Logger: log})
		if err != nil {
			errs = append(errs, fmt.Errorf("--htpasswd: %w", err))
		} else {
			options.Authenticate = users.Authenticate
		}
	}
	if c.Policy != "" {
		policy, err := auth.LoadPolicy(c.Policy, &auth.PolicyOptions{Logger: log})
		if err != nil {
			errs = append(errs, fmt.Errorf("--policy: %w", err))
		} else {
			options.Allows = policy.Allows
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	decider, err := auth.New(&options)
	if err != nil {
		return nil, fmt.Errorf("--htpasswd: %w", err)
	}
	return decider.Authorize, nil
}
