package tooltest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// commandTimeout bounds one run of one program: far beyond what any needs, and
// short enough that a hanging client is reported by name rather than by the
// time-out of the whole test binary.
const commandTimeout = 10 * time.Minute

// Sandbox is where programs run without seeing, or leaving, anything of the
// user's: home, configuration, caches and temporary files are in a folder that
// goes with the test.
type Sandbox struct {
	// Home is the home folder of the programs, empty at first.
	Home string
	// Env holds variables beyond the sandbox's own, as NAME=value; they win.
	Env []string
}

// NewSandbox makes an empty sandbox that lasts as long as the test.
func NewSandbox(t testing.TB) *Sandbox {
	t.Helper()
	home, err := os.MkdirTemp("", "box") //nolint:usetesting // t.TempDir's long names leave no room for engines' sockets: 107 bytes
	if err != nil {
		t.Fatalf("make sandbox: %v", err)
	}
	t.Cleanup(func() {
		if err := RemoveFolder(home); err != nil {
			t.Errorf("remove sandbox: %v", err)
		}
	})
	s := &Sandbox{Home: home}
	for _, folder := range []string{"tmp", "run", ".config", ".cache", ".local/share"} {
		if err := os.MkdirAll(filepath.Join(s.Home, folder), 0o700); err != nil {
			t.Fatalf("make sandbox: %v", err)
		}
	}
	return s
}

// Path returns a path inside the sandbox's home folder.
func (s *Sandbox) Path(elements ...string) string {
	return filepath.Join(append([]string{s.Home}, elements...)...)
}

// Command prepares a program that runs in the sandbox until ctx ends.
func (s *Sandbox) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.Home
	cmd.WaitDelay = 10 * time.Second // a grandchild that holds the pipes must not hang the test
	cmd.Env = slices.Concat([]string{
		"PATH=" + os.Getenv("PATH"),
		"LC_ALL=C.UTF-8",
		"HOME=" + s.Home,
		"TMPDIR=" + s.Path("tmp"),
		"XDG_RUNTIME_DIR=" + s.Path("run"),
		"XDG_CONFIG_HOME=" + s.Path(".config"),
		"XDG_CACHE_HOME=" + s.Path(".cache"),
		"XDG_DATA_HOME=" + s.Path(".local", "share"),
		"DOCKER_CONFIG=" + s.Path(".docker"),
	}, s.Env)
	return cmd
}

// Run runs a program to its end, fails the test unless it succeeds, and returns
// what it wrote to its standard output, without the white space around it.
func (s *Sandbox) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return s.RunInput(t, "", name, args...)
}

// RunInput is Run with text for the program's standard input.
func (s *Sandbox) RunInput(t testing.TB, input, name string, args ...string) string {
	t.Helper()
	out, err := s.run(t.Context(), input, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run for programs that may fail: the error holds the command and all
// that it wrote.
func (s *Sandbox) Try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	return s.run(t.Context(), "", name, args...)
}

func (s *Sandbox) run(ctx context.Context, input, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := s.Command(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\nstdout: %s\nstderr: %s",
			name, strings.Join(args, " "), err, tail(stdout.Bytes()), tail(stderr.Bytes()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
