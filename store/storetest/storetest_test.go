package storetest_test

import (
	"testing"
	"time"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestObjectsAcceptsACorrectStore(t *testing.T) {
	storetest.Objects(t, func(*testing.T) []store.Objects {
		return []store.Objects{memory.NewObjects(nil)}
	})
}

func TestMetadataAcceptsACorrectStore(t *testing.T) {
	storetest.Metadata(t, func(_ *testing.T, now func() time.Time) []store.Metadata {
		return []store.Metadata{memory.NewMetadata(&memory.MetadataOptions{Now: now})}
	})
}
