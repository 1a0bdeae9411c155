package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

const publicPolicy = `
rules:
  - users: [anonymous]
    repositories: ["public/**"]
    actions: [pull]
  - users: [` + user + `]
    repositories: ["**"]
    actions: [pull, push]
`

// Where the policy says so, clients pull without a login, the same bytes; and
// they pull and push nothing else.
func TestCopiersPullAnonymouslyWhatThePolicyGives(t *testing.T) {
	t.Parallel()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	require.NoError(t, os.WriteFile(policy, []byte(publicPolicy), 0o600))
	for _, client := range copiers {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			tooltest.Require(t, client.name)
			f := getFixtures(t)
			server := servertest.Start(t, "--data", t.TempDir(), "--htpasswd", writeHtpasswd(t), "--policy", policy)
			owner := &site{Address: server.Address, Sandbox: tooltest.NewSandbox(t), password: true}
			visitor := &site{Address: server.Address, Sandbox: tooltest.NewSandbox(t), password: true}
			layout := owner.Path("layout")
			require.NoError(t, f.image.WriteLayout(layout, "v1"))
			client.login(t, owner)
			owner.Run(t, client.name, client.push(owner, layout, "public/app")...)
			owner.Run(t, client.name, client.push(owner, layout, "private/app")...)

			target := visitor.Path("public")
			visitor.Run(t, client.name, client.pull(visitor, "public/app", target)...)
			requireLayout(t, target, &f.image.Tree)
			visitor.requireRefused(t, client.name, client.pull(visitor, "private/app", visitor.Path("private"))...)
			// To another name: crane and regctl push nothing when all of it is there.
			visitor.requireRefused(t, client.name, client.push(visitor, layout, "public/other")...)
		})
	}
}
