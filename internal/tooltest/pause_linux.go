package tooltest

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pause has the program do nothing until Resume, and returns once all of its
// threads have stopped: until then, one that has work goes on with it. It must
// not be paused already.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		// The end of the program is not asked for here, so that Wait still learns of it.
		err := unix.Waitid(unix.P_PID, p.PID(), nil, unix.WSTOPPED, nil)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait until %s has stopped: %w", p.name, err)
		}
	}
}

// Resume ends a Pause. A program that was not paused does not notice.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }
