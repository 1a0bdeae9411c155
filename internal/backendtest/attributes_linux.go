package backendtest

import "syscall"

// hasAttributes reports whether files in the folder can have extended
// attributes.
func hasAttributes(folder string) bool {
	return syscall.Setxattr(folder, "user.ocikit", []byte("1"), 0) == nil
}
