package tooltest

import (
	"testing"
	"time"
)

// RequireEvent waits until the channel is closed, and fails the test if that
// takes two minutes. what completes the sentence "… should happen".
func RequireEvent(t testing.TB, event <-chan struct{}, what string) {
	t.Helper()
	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case <-event:
	case <-timer.C:
		t.Fatalf("this should happen: %s", what)
	}
}
