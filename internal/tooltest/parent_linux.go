package tooltest

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the program when the test binary ends
// without running its cleanups, as it does at its time-out.
func endWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
