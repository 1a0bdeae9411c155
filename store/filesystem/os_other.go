//go:build !linux

package filesystem

import "os"

func syncData(f *os.File) error { return f.Sync() }
