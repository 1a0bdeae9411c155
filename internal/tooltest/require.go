package tooltest

import (
	"os"
	"os/exec"
	"testing"
)

// RequireVariable is the environment variable that turns skipping into failing:
// with the value 1, Require fails a test whose program is missing.
const RequireVariable = "OCIKIT_TEST_REQUIRE"

// Require returns the path of the program name, as found in PATH. If it is not
// there, the test is skipped, or failed when OCIKIT_TEST_REQUIRE=1; either way
// Require does not return.
func Require(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	missing(t, "%s is not installed, so %s does not run: %v", name, t.Name(), err)
	return ""
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
