package filesystem

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// unavailable are the errors after which the same call may succeed another time.
var unavailable = []syscall.Errno{
	windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED, windows.ERROR_IO_DEVICE,
	windows.ERROR_CRC, windows.ERROR_TOO_MANY_OPEN_FILES, windows.ERROR_NOT_ENOUGH_MEMORY, windows.ERROR_WRITE_PROTECT,
	windows.ERROR_SHARING_VIOLATION, windows.ERROR_BUSY,
}

// lockedByte is what is locked: a byte that no file reaches, since a locked one cannot be read by others.
func lockedByte() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }

// tryLock locks an open file against all others, until it is closed.
func tryLock(f *os.File) (bool, error) {
	const how = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, lockedByte())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("LockFileEx", err)
}

func unlock(f *os.File) error {
	return os.NewSyscallError("UnlockFileEx", windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, lockedByte()))
}

// syncDir does nothing: Windows cannot sync a folder, and NTFS keeps a journal of names.
func syncDir(string) error { return nil }
