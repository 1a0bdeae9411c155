package tooltest

import (
	"os"
	"time"
)

// RemoveFolder removes a folder in which programs worked. One that has been asked
// to end, or that another one has left behind, may still make files there for a
// moment, so it is tried again for some seconds.
func RemoveFolder(path string) error {
	return Again(10*time.Second, func() (bool, error) { return true, os.RemoveAll(path) })
}
