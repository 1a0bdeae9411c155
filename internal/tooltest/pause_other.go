//go:build !linux

package tooltest

import "errors"

// Pause fails: nothing portable tells when all threads have stopped.
func (*Process) Pause() error { return errors.ErrUnsupported }

// Resume does nothing, since nothing is paused.
func (*Process) Resume() error { return nil }
