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
	for name, test := range map[string]struct{ config, want string }{
		"helper":         {`{"credHelpers":{"registry.example.com":"none-such"}}`, `credHelpers in `},
		"store":          {`{"credsStore":"none-such"}`, `credsStore in `},
		"empty helper":   {`{"credHelpers":{"registry.example.com":""},"credsStore":"none-such"}`, `credsStore in `},
		"another host's": {`{"credHelpers":{"other.example.com":"none-such"}}`, ""},
		"none":           {`{"auths":{}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "config.json")
			require.NoError(t, os.WriteFile(file, []byte(test.config), 0o600))
			_, err := upstream.LoadCredentials(file, "registry.example.com")
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
