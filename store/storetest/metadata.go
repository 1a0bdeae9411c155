package storetest

import (
	"testing"
	"time"

	"github.com/ocikit/ocikit/store"
)

// Metadata proves that an implementation keeps the contract of [store.Metadata].
//
// open returns one or more handles over the same, empty index, each of which may be used by many goroutines; what it
// opens it closes in t.Cleanup. It is called once for each subtest, concurrently. now is the clock that the store must
// use, for all handles; it may be called from any goroutine, and does not block.
func Metadata(t *testing.T, open func(t *testing.T, now func() time.Time) []store.Metadata) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests []metadataTest
	}{} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					clock := NewClock()
					handles := open(t, clock.Now)
					test.run(t, &index{first: handles[0], last: handles[len(handles)-1], clock: clock})
				})
			}
		})
	}
}

// metadataTest is one behaviour of [store.Metadata].
type metadataTest struct {
	name string
	run  func(t *testing.T, m *index)
}

// index is the store under test, as two replicas see it.
type index struct {
	first, last store.Metadata
	clock       *Clock
}
