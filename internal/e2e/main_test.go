package e2e_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	servertest.MainWith(func() int { return backendtest.Run(m) })
}

// The one user of servers that ask for a password. A colon in a password is
// legal in Basic authentication, and breaks parsers that split at the last one.
const (
	user     = "alice"
	password = "open:sesame"
	htpasswd = user + ":$2a$05$NN4m4sHcwNiFMivrNZJUE.iTXEj5QrBP2s7wKe2go5odYUYjj.Uoq\n"
)

// fixtures are built once for all tests, and not changed by any.
type fixtures struct {
	image *imagetest.Image // for this machine
	index *imagetest.Tree  // the same image, and one for another architecture
}

var buildFixtures = sync.OnceValues(func() (*fixtures, error) {
	image, err := imagetest.NewImage(imagetest.Options{})
	if err != nil {
		return nil, err
	}
	architecture := "arm64"
	if image.Root.Platform.Architecture == architecture {
		architecture = "amd64"
	}
	other, err := imagetest.NewImage(imagetest.Options{Architecture: architecture, Greeting: "hello from elsewhere"})
	if err != nil {
		return nil, err
	}
	index, err := imagetest.NewIndex(image, other)
	if err != nil {
		return nil, err
	}
	return &fixtures{image: image, index: index}, nil
})

func getFixtures(t *testing.T) *fixtures {
	t.Helper()
	f, err := buildFixtures()
	require.NoError(t, err)
	return f
}

// site is a registry, and a client program's sandbox and credentials for it.
type site struct {
	Address string // of the registry, for the client
	*tooltest.Sandbox
	registry *registry // the same one, for the test itself
	password bool      // whether the registry asks for one
}

// eachSite runs a test against a server that is open, and against one that asks
// for a password.
func eachSite(t *testing.T, test func(t *testing.T, s *site)) {
	t.Helper()
	for name, withPassword := range map[string]bool{"open": false, "htpasswd": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newSite(t, withPassword))
		})
	}
}

// eachCluster runs a test against two and against three replicas behind a proxy
// that sends each request to the next, and requires that each upload was served
// by all of them. fewest is how many requests the client needs for an upload.
func eachCluster(t *testing.T, fewest int, test func(t *testing.T, s *site)) {
	t.Helper()
	for name, replicas := range map[string]int{"two replicas": 2, "three replicas": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, replicas, backendtest.MinIO(t))
			test(t, &site{
				Address:  c.proxy.Address(),
				Sandbox:  tooltest.NewSandbox(t),
				registry: &registry{url: c.proxy.URL()},
			})
			c.requireUploadsTouchedEveryReplica(t, fewest)
		})
	}
}

func newSite(t *testing.T, withPassword bool) *site {
	t.Helper()
	args := []string{"--data", t.TempDir()}
	if withPassword {
		args = append(args, "--htpasswd", writeHtpasswd(t))
	}
	server := servertest.Start(t, args...)
	s := &site{
		Address:  server.Address,
		Sandbox:  tooltest.NewSandbox(t),
		registry: &registry{url: server.URL()},
		password: withPassword,
	}
	if withPassword {
		s.registry.user, s.registry.password = user, password
	}
	return s
}

func writeHtpasswd(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	require.NoError(t, os.WriteFile(path, []byte(htpasswd), 0o600))
	return path
}

// requireRefused runs a client that must fail for want of a login, on sites that
// ask for one.
func (s *site) requireRefused(t *testing.T, name string, args ...string) {
	t.Helper()
	if !s.password {
		return
	}
	_, err := s.Try(t, name, args...)
	require.Error(t, err, "%s %v without a login must be refused", name, args)
	require.Regexp(t, `(?i)unauthorized|401|no basic auth|authentication required|credential`, err.Error(),
		"the client must be told that it has to log in")
}
