// Package servertest runs the built ocikit program for tests that need the
// whole of it: its flags, its signals, its memory and its death.
//
// The idea: what users run is a process, so promises about processes (nothing
// acknowledged is lost by kill -9, memory stays in its budget, a signal ends
// requests well) are tested on one. Start builds the program once for each test
// binary, runs it on a free port of the loopback interface, and returns when
// /v2/ answers. The server ends with the test, and shows its log if the test
// failed. Kill, Stop and Restart do to it what operators and accidents do; the
// address and the arguments stay the same, so clients find it again.
//
// Packages that use Start call Main from their TestMain, which removes what
// was built.
package servertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/tooltest"
)

// BinaryVariable is the environment variable that names a built ocikit program
// to test, a release for instance, instead of one built from this tree.
const BinaryVariable = "OCIKIT_TEST_BINARY"

// Server is a running `ocikit serve`. Its methods are for one goroutine, but
// any number may talk to its address.
type Server struct {
	// Address is the host and port that it listens on, the same after Restart.
	Address string

	binary  string
	env     []string
	args    []string
	process *tooltest.Process
}

// Start runs `ocikit serve` with the given arguments, and --listen, and waits
// until it answers. Stores are the caller's to choose.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return StartEnv(t, nil, args...)
}

// StartEnv is Start with environment variables, as NAME=value: the program sees
// none of the user's.
func StartEnv(t testing.TB, env []string, args ...string) *Server {
	t.Helper()
	s := &Server{Address: tooltest.FreeAddress(t), binary: program(t), env: env, args: args}
	s.start(t)
	return s
}

// Run runs another command of the program to its end, fails the test unless it
// succeeds, and returns what it wrote.
func Run(t testing.TB, args ...string) string {
	t.Helper()
	return RunEnv(t, nil, args...)
}

// RunEnv is Run with environment variables, as NAME=value: the program sees none
// of the user's.
func RunEnv(t testing.TB, env []string, args ...string) string {
	t.Helper()
	out, status := RunStatus(t, env, args...)
	if status != 0 {
		t.Fatalf("ocikit %s: status %d\n%s", strings.Join(args, " "), status, out)
	}
	return out
}

// RunStatus is RunEnv of a command that may fail: it returns the exit status, too.
func RunStatus(t testing.TB, env []string, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), args...)
	cmd.Env = append(environment(), env...)
	told, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("ocikit %s: %v\n%s", strings.Join(args, " "), err, told)
	}
	return string(told), cmd.ProcessState.ExitCode()
}

// URL returns the server's address as a URL, without a slash at its end.
func (s *Server) URL() string { return "http://" + s.Address }

// Kill ends the server as kill -9 does and waits until it is gone.
func (s *Server) Kill() { s.process.Kill() }

// Signal sends the server a signal without waiting for its effect.
func (s *Server) Signal(signal os.Signal) error { return s.process.Signal(signal) }

// Wait waits for the server's end for at most the given time. It returns nil
// if the server ended with status 0.
func (s *Server) Wait(timeout time.Duration) error { return s.process.Wait(timeout) }

// Stop asks the server to end, as an operator does, and fails the test unless it
// ends with status 0 within the given time.
func (s *Server) Stop(t testing.TB, timeout time.Duration) {
	t.Helper()
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(timeout); err != nil {
		t.Fatalf("the server should end with status 0 within %v of SIGTERM: %v", timeout, err)
	}
}

// Restart starts the server again, after Kill or Stop, with the same address and
// arguments, and waits until it answers.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.start(t)
}

// Log returns what the server wrote since it was last started.
func (s *Server) Log() string { return s.process.Log() }

// Memory returns the running server's resident memory.
func (s *Server) Memory(t testing.TB) tooltest.Memory {
	t.Helper()
	return s.process.Memory(t)
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(s.binary, append([]string{"serve", "--listen", s.Address}, s.args...)...)
	cmd.Env = append(environment(), s.env...)
	s.process = tooltest.StartProcess(t, cmd)
	s.process.AwaitReady(t, func() error { return ping(t.Context(), s.URL()) })
}

// environment is what the program needs of the user's.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "TMPDIR=" + os.TempDir()}
}

// ping succeeds once /v2/ answers what a registry does: that it is one, or who
// may ask.
func ping(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v2/", nil)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	req.Close = true // no idle connection of the default client's outlives the server
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("ping: %s", resp.Status)
	}
	return nil
}

// built is what this test binary built, if anything.
var built struct {
	once   sync.Once
	folder string
	binary string
	err    error
}

// Main runs a package's tests, removes what Start built, and exits.
func Main(m *testing.M) { MainWith(m.Run) }

// MainWith is Main for packages whose tests need more than this one: run runs
// them, and returns the status to exit with.
func MainWith(run func() int) {
	code := run()
	if built.folder != "" {
		_ = os.RemoveAll(built.folder)
	}
	os.Exit(code)
}

// program returns the path of the program, and fails the test if it cannot be
// built.
func program(t testing.TB) string {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func build() (string, error) {
	built.once.Do(func() {
		if built.binary = os.Getenv(BinaryVariable); built.binary != "" {
			return
		}
		if built.folder, built.err = os.MkdirTemp("", "ocikit-servertest"); built.err != nil {
			return
		}
		built.binary = filepath.Join(built.folder, "ocikit")
		// Without -race, whatever the tests themselves are built with: memory is measured.
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", built.binary, "github.com/ocikit/ocikit/cmd/ocikit").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("build cmd/ocikit: %w\n%s", err, out)
		}
	})
	return built.binary, built.err
}
