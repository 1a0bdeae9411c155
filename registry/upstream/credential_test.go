package upstream_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/stretchr/testify/require"
)

func TestCredentialHelpersThatAreNotInstalledAreMissedAtTheStart(t *testing.T) {
	t.Parallel()
	const host, hub = "registry.example.com", "registry-1.docker.io"
	for name, test := range map[string]struct{ host, config, want string }{
		"helper":                {host, `{"credHelpers":{"registry.example.com":"none-such"}}`, `credHelpers in `},
		"store":                 {host, `{"credsStore":"none-such"}`, `credsStore in `},
		"empty helper":          {host, `{"credHelpers":{"registry.example.com":""},"credsStore":"none-such"}`, `credsStore in `},
		"another host's":        {host, `{"credHelpers":{"other.example.com":"none-such"}}`, ""},
		"none":                  {host, `{"auths":{}}`, ""},
		"Docker Hub's":          {hub, `{"credHelpers":{"https://index.docker.io/v1/":"none-such"}}`, `credHelpers in `},
		"Docker Hub's as store": {hub, `{"credHelpers":{"https://index.docker.io/v1/":""},"credsStore":"none-such"}`, `credsStore in `},
		"what nobody looks at":  {hub, `{"credHelpers":{"registry-1.docker.io":"none-such"}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "config.json")
			require.NoError(t, os.WriteFile(file, []byte(test.config), 0o600))
			_, err := upstream.LoadCredentials(file, test.host)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want+file)
			require.ErrorContains(t, err, "install docker-credential-none-such")
			_, err = upstream.LoadCredentials(file)
			require.NoError(t, err, "for no host")
		})
	}
}
