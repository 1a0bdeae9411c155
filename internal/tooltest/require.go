package tooltest

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
)

// RequireVariable is the environment variable that turns skipping into failing:
// with the value 1, Require fails a test whose program is missing.
const RequireVariable = "OCIKIT_TEST_REQUIRE"

// Require returns the path of the program name, as found in PATH or else in one
// of the folders, which may be patterns of filepath.Glob: the last that matches
// counts. If it is nowhere, the test is skipped, or failed when
// OCIKIT_TEST_REQUIRE=1; either way Require does not return.
func Require(t testing.TB, name string, folders ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, folder := range folders {
		matches, _ := filepath.Glob(filepath.Join(folder, name)) // a bad pattern matches nothing
		if len(matches) > 0 {
			return matches[len(matches)-1]
		}
	}
	missing(t, "%s is not installed, so %s does not run: %v", name, t.Name(), err)
	return ""
}

// RequireUser returns the user of that name. If the machine has none, it ends
// the test as Require does.
func RequireUser(t testing.TB, name string) *user.User {
	t.Helper()
	account, err := user.Lookup(name)
	if err != nil {
		missing(t, "there is no user %s, so %s does not run: %v", name, t.Name(), err)
	}
	return account
}

// RequireRoot ends the test, as Require does, unless it runs as root, which
// engines that mount file systems need.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "%s needs root, so it does not run as user %d", t.Name(), os.Geteuid())
	}
}

func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(RequireVariable) == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
