package storetest

import (
	"testing"

	"github.com/ocikit/ocikit/store"
)

// Objects proves that an implementation keeps the contract of [store.Objects].
//
// open returns one or more handles over the same, empty data, each of which may be used by many goroutines; what it
// opens it closes in t.Cleanup. It is called once for each subtest, concurrently.
func Objects(t *testing.T, open func(t *testing.T) []store.Objects) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests []objectsTest
	}{} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					handles := open(t)
					test.run(t, &objects{first: handles[0], last: handles[len(handles)-1]})
				})
			}
		})
	}
}

// objectsTest is one behaviour of [store.Objects].
type objectsTest struct {
	name string
	run  func(t *testing.T, o *objects)
}

// objects is the store under test, as two replicas see it.
type objects struct {
	first, last store.Objects
}
