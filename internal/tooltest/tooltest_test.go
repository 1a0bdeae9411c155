package tooltest_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recorder is a test that notes how it was ended.
type recorder struct {
	testing.TB
	skipped, failed bool
}

var errEnded = errors.New("the test was ended")

func (r *recorder) Helper()               {}
func (r *recorder) Name() string          { return "recorder" }
func (r *recorder) Skipf(string, ...any)  { r.skipped = true; panic(errEnded) }
func (r *recorder) Fatalf(string, ...any) { r.failed = true; panic(errEnded) }

// during runs f, which may end the recorder's test.
func (r *recorder) during(f func()) {
	defer func() { _ = recover() }()
	f()
}

func TestMissingProgramSkipsUnlessItIsRequired(t *testing.T) {
	t.Setenv(tooltest.RequireVariable, "")
	var optional recorder
	optional.during(func() { tooltest.Require(&optional, "no-such-program") })
	assert.True(t, optional.skipped, "a test of a missing program must skip")

	t.Setenv(tooltest.RequireVariable, "1")
	var required recorder
	required.during(func() { tooltest.Require(&required, "no-such-program") })
	assert.True(t, required.failed, "a test of a missing program must fail where it is required")
}

func TestSandboxHidesTheUsersHome(t *testing.T) {
	t.Parallel()
	box := tooltest.NewSandbox(t)
	box.Env = append(box.Env, "GREETING=hello")
	out := box.Run(t, "sh", "-c", `echo "$HOME $GREETING"; pwd`)
	assert.Equal(t, box.Home+" hello\n"+box.Home, out)
}

func TestFailedRunTellsWhatTheProgramWrote(t *testing.T) {
	t.Parallel()
	_, err := tooltest.NewSandbox(t).Try(t, "sh", "-c", "echo out; echo err >&2; exit 3")
	require.ErrorContains(t, err, "stdout: out")
	require.ErrorContains(t, err, "stderr: err")
	require.ErrorContains(t, err, "exit status 3")
}

func TestProcessIsReadyAskedAndKilled(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "trap 'echo asked' TERM; echo ready; while true; do read line; done")
	input, err := cmd.StdinPipe() // blocks the program's reads
	require.NoError(t, err)
	defer func() { _ = input.Close() }()
	process := tooltest.StartProcess(t, cmd)
	logged := func(text string) func() error {
		return func() error {
			if strings.Contains(process.Log(), text) {
				return nil
			}
			return errors.New("the log should have " + text)
		}
	}
	process.AwaitReady(t, logged("ready"))
	require.Positive(t, process.Memory(t).Resident)
	require.NoError(t, process.Signal(syscall.SIGTERM))
	process.AwaitReady(t, logged("asked"))
	require.ErrorIs(t, process.Wait(0), tooltest.ErrStillRunning)
	process.Kill()
	var ended *exec.ExitError
	require.ErrorAs(t, process.Wait(time.Second), &ended)
	require.ErrorIs(t, process.Signal(os.Interrupt), os.ErrProcessDone)
}

func TestPausedProcessDoesNothingUntilItIsResumed(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("cat")
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	process := tooltest.StartProcess(t, cmd)
	err = process.Pause()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("programs can be paused on Linux only")
	}
	require.NoError(t, err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.PID()))
	require.NoError(t, err)
	require.Contains(t, string(status), "(cat) T", "a paused program has stopped")
	_, err = io.WriteString(input, "answer me")
	require.NoError(t, err)
	require.NoError(t, process.Resume())
	process.AwaitReady(t, func() error {
		if process.Log() != "answer me" {
			return errors.New("it should have answered")
		}
		return nil
	})
	require.NoError(t, process.Pause())
	require.NoError(t, process.Close(), "a paused program can be ended")
}
