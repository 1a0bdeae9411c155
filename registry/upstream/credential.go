package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

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
// are run when the upstream first asks. The file is read once; who changes it restarts. It fails if the file names a helper for one
// of the hosts that is not installed: else that would only be seen when the upstream asks, as an upstream that does not answer.
func LoadCredentials(path string, hosts ...string) (func(ctx context.Context, host string) (Credential, error), error) {
	data, err := os.ReadFile(path) // a file that is not there would be taken for an empty one
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	loaded, err := credentials.NewStore(path, credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if err := checkHelpers(path, data, hosts); err != nil {
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

// checkHelpers looks for the programs that a file names for the hosts.
func checkHelpers(path string, data []byte, hosts []string) error {
	var named struct {
		Store   string            `json:"credsStore"`
		Helpers map[string]string `json:"credHelpers"`
	}
	if err := json.Unmarshal(data, &named); err != nil {
		return err
	}
	for _, host := range hosts {
		key, helper := "credHelpers", named.Helpers[credentials.ServerAddressFromHostname(host)] // Docker Hub's is a URL
		if helper == "" {
			key, helper = "credsStore", named.Store
		}
		if helper == "" {
			continue
		}
		if _, err := exec.LookPath("docker-credential-" + helper); err != nil {
			return fmt.Errorf("%s in %s names %q for %s: install docker-credential-%s where programs are found, or log in without it: %w",
				key, path, helper, host, helper, err)
		}
	}
	return nil
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
