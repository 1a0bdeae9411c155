package upstream

import (
	"context"
	"fmt"
	"os"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// Credential is what to log in with. The zero value is nothing.
type Credential struct {
	Username, Password string
	RefreshToken       string // instead of both: an identity token
	AccessToken        string // instead of all: a bearer token
}

// LoadCredentials reads a file as docker login writes it (config.json), with the credential helpers that it names: those
// are run when the upstream first asks. The file is read once; who changes it restarts.
func LoadCredentials(path string) (func(ctx context.Context, host string) (Credential, error), error) {
	file, err := os.Open(path) // a file that is not there would be taken for an empty one
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	_ = file.Close() // it was only looked at
	loaded, err := credentials.NewStore(path, credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	get := credentials.Credential(loaded)
	return func(ctx context.Context, host string) (Credential, error) {
		found, err := get(ctx, host)
		if err != nil {
			return Credential{}, fmt.Errorf("credentials for %s: %w", host, err)
		}
		return Credential(found), nil
	}, nil
}

// only returns credentials for one host, and none for others: an upstream cannot ask for another one's.
func only(host string, get func(context.Context, string) (Credential, error)) auth.CredentialFunc {
	return func(ctx context.Context, asked string) (auth.Credential, error) {
		if asked != host || get == nil {
			return auth.EmptyCredential, nil
		}
		found, err := get(ctx, host)
		return auth.Credential(found), err
	}
}
