package tooltest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	readyTimeout = 2 * time.Minute // its end is noticed at once
	endTimeout   = time.Minute     // a server may take half of it to finish what it does
	pollInterval = 10 * time.Millisecond
	shownLog     = 16 << 10 // bytes of a log's end that a failure shows
)

// ErrStillRunning is what Wait returns when the program did not end in time.
var ErrStillRunning = errors.New("the program is still running")

// Process is a program that runs beside a test. It is safe for concurrent use.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{} // closed once the program has ended and been waited for
	err  error         // how it ended; set before done is closed
}

// StartProcess starts cmd and keeps what it writes. At the end of the test the
// program is asked to end, then killed, and its output is shown if the test
// failed. The program does not outlive the test binary either.
func StartProcess(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p, err := Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cleanup(t) })
	return p
}

// Launch is StartProcess for a program that several tests use: it runs until
// Close, and does not outlive the test binary.
func Launch(cmd *exec.Cmd) (*Process, error) {
	p := &Process{
		name: filepath.Base(cmd.Path),
		cmd:  cmd,
		log:  &lockedBuffer{},
		done: make(chan struct{}),
	}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *Process) cleanup(t testing.TB) {
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the end of what %s (process %d, %v) wrote:\n%s", p.name, p.PID(), p.cmd.ProcessState, tail(p.log.Bytes()))
	}
}

// Close asks the program to end, as an interrupt from the keyboard does, and
// waits until it has. One that does not end in time is killed, and that is an
// error. It may have ended before, and it may be paused.
func (p *Process) Close() error {
	if p.ended() {
		return nil
	}
	_ = p.cmd.Process.Signal(os.Interrupt) // fails only if the program has ended
	_ = p.Resume()                         // as this does: one that is paused does not hear
	if err := p.Wait(endTimeout); errors.Is(err, ErrStillRunning) {
		p.Kill()
		return fmt.Errorf("%s did not end within %v of being asked to", p.name, endTimeout)
	}
	return nil
}

// AwaitReady calls probe until it returns nil, and fails the test if the
// program ends first or two minutes pass.
func (p *Process) AwaitReady(t testing.TB, probe func() error) {
	t.Helper()
	if err := p.Await(probe); err != nil {
		t.Fatal(err)
	}
}

// Await calls probe until it returns nil. It is an error if the program ends
// first, or two minutes pass; the error shows what the program wrote.
func (p *Process) Await(probe func() error) error {
	deadline := time.NewTimer(readyTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", p.name, errors.Join(p.err, err), tail(p.log.Bytes()))
		case <-deadline.C:
			return fmt.Errorf("%s was not ready within %v: %w\n%s", p.name, readyTimeout, err, tail(p.log.Bytes()))
		}
	}
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log returns all that the program wrote so far.
func (p *Process) Log() string { return string(p.log.Bytes()) }

// Kill ends the program as kill -9 does, and waits for its end. It may have
// ended before.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only if the program has ended, which is what is wanted
	<-p.done
}

// Signal sends a signal and does not wait.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// Wait waits for the program's end, for at most the given time: nil if it
// ended with status 0, ErrStillRunning if it did not end, else how it ended.
func (p *Process) Wait(timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
		return ErrStillRunning
	}
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Memory is what the kernel counts as a process's resident memory, in bytes.
type Memory struct {
	Resident int64
	Peak     int64 // the highest since the process started
}

// Memory reads the figures of the running program (Linux only); it fails the
// test if they cannot be had.
func (p *Process) Memory(t testing.TB) Memory {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatalf("read the memory of %s: %v", p.name, err)
	}
	return Memory{
		Resident: statusBytes(t, string(status), "VmRSS:"),
		Peak:     statusBytes(t, string(status), "VmHWM:"),
	}
}

func statusBytes(t testing.TB, status, field string) int64 {
	t.Helper()
	for line := range strings.Lines(status) {
		rest, found := strings.CutPrefix(line, field)
		if !found {
			continue
		}
		kibibytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			t.Fatalf("parse %q: %v", line, err)
		}
		return kibibytes << 10
	}
	t.Fatalf("no %s in the process's status:\n%s", field, status)
	return 0
}

// lockedBuffer keeps a program's output while tests read it.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buffer.Bytes())
}

func tail(log []byte) []byte {
	if len(log) <= shownLog {
		return log
	}
	return append([]byte("…"), log[len(log)-shownLog:]...)
}
