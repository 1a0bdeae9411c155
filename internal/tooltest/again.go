package tooltest

import "time"

// Again calls try until it succeeds, or fails with what does not pass by itself,
// or until the limit is over, and returns its last error.
func Again(limit time.Duration, try func() (passing bool, err error)) error {
	const pause = 50 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		passing, err := try()
		if err == nil || !passing || time.Since(began) > limit {
			return err
		}
	}
}
