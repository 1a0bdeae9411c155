package filesystem

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/ocikit/ocikit/store"
)

// classify marks errors that are the machine's, not the caller's: it is full, broken, or out of something.
func classify(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) && slices.Contains(unavailable, number) && !errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}
