package upstream

import (
	"errors"
	"os"
	"syscall"
)

// reserve takes room on the disk for a part of a file. File systems that cannot do so say so later.
func reserve(file *os.File, offset, size int64) error {
	if size == 0 {
		return nil
	}
	err := syscall.Fallocate(int(file.Fd()), 0, offset, size)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return nil
}
