package storetest_test

import (
	"testing"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestObjectsAcceptsACorrectStore(t *testing.T) {
	storetest.Objects(t, func(*testing.T) []store.Objects {
		return []store.Objects{memory.NewObjects(nil)}
	})
}
