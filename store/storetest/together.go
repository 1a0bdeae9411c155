package storetest

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

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

// race makes calls at once, again and again, and shifts them against each other by random parts of the time that such a call
// takes, so that sooner or later each step of one meets each step of another one, on fast and slow stores alike.
type race struct {
	longest time.Duration // of the calls of the round before
}

// run makes all calls at once, and returns their errors once all have returned.
func (r *race) run(calls ...func() error) []error {
	took := make([]time.Duration, len(calls))
	shifted := make([]func() error, len(calls))
	for i, call := range calls {
		shift := time.Duration(rand.Int64N(int64(r.longest) + 1))
		shifted[i] = func() error {
			for start := time.Now(); time.Since(start) < shift; {
				runtime.Gosched()
			}
			start := time.Now()
			defer func() { took[i] = time.Since(start) }()
			return call()
		}
	}
	errs := together(shifted...)
	r.longest = 0
	for _, d := range took {
		r.longest = max(r.longest, min(d, 100*time.Millisecond))
	}
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
