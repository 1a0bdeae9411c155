package upstream

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Bounds of the tokens that are remembered: each repository has one, and clients may ask for any number of repositories.
const (
	mostTokens = 1000
	maxToken   = 32 << 10 // bytes, with what it is for
)

// tokens remembers tokens, as oras-go's own cache does, but not without bounds.
type tokens struct {
	schemes *lru.Cache[string, auth.Scheme]
	tokens  *lru.Cache[string, string]
	flights singleflight.Group
}

var _ auth.Cache = (*tokens)(nil)

func newTokens() *tokens {
	schemes, _ := lru.New[string, auth.Scheme](mostTokens) // fails only for a size below 1
	values, _ := lru.New[string, string](mostTokens)
	return &tokens{schemes: schemes, tokens: values}
}

// GetScheme implements [auth.Cache].
func (c *tokens) GetScheme(_ context.Context, host string) (auth.Scheme, error) {
	if scheme, ok := c.schemes.Get(host); ok {
		return scheme, nil
	}
	return auth.SchemeUnknown, errdef.ErrNotFound
}

func tokenKey(host string, scheme auth.Scheme, key string) string {
	return host + " " + scheme.String() + " " + key
}

// GetToken implements [auth.Cache].
func (c *tokens) GetToken(_ context.Context, host string, scheme auth.Scheme, key string) (string, error) {
	if token, ok := c.tokens.Get(tokenKey(host, scheme, key)); ok {
		return token, nil
	}
	return "", errdef.ErrNotFound
}

// Set implements [auth.Cache]: a token that many want at once is fetched once.
func (c *tokens) Set(ctx context.Context, host string, scheme auth.Scheme, key string, fetch func(context.Context) (string, error)) (string, error) {
	at := tokenKey(host, scheme, key)
	done := c.flights.DoChan(at, func() (any, error) {
		// Whoever came first may leave, and others wait; each request has its own time-out.
		token, err := fetch(context.WithoutCancel(ctx))
		if err == nil {
			c.schemes.Add(host, scheme)
			if len(at)+len(token) <= maxToken {
				c.tokens.Add(at, token)
			}
		}
		return token, err
	})
	select {
	case result := <-done:
		token, _ := result.Val.(string)
		return token, result.Err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
