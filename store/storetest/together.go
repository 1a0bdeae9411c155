package storetest

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// together makes all calls at once, each on a goroutine of its own, and returns their errors once all have returned.
// The calls must not end the test themselves.
func together(calls ...func() error) []error {
	errs := make([]error, len(calls))
	start := make(chan struct{})
	var running sync.WaitGroup
	for i, call := range calls {
		running.Go(func() {
			<-start
			errs[i] = call()
		})
	}
	close(start)
	running.Wait()
	return errs
}

// each makes n calls, at most width of them at once, and requires that all succeed.
func each(t *testing.T, width, n int, call func(i int) error) {
	t.Helper()
	workers := make([]func() error, width)
	for w := range workers {
		workers[w] = func() error {
			for i := w; i < n; i += width {
				if err := call(i); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, err := range together(workers...) {
		require.NoError(t, err)
	}
}
