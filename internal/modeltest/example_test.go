package modeltest_test

import (
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/modeltest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

// An implementation is opened once for each sequence.
func Example() {
	_ = func(t *testing.T) { // TestAnswersAsTheReferenceDoes
		modeltest.Metadata(t, 12, 1500, func(_ *testing.T, now func() time.Time) []store.Metadata {
			return []store.Metadata{memory.NewMetadata(&memory.MetadataOptions{Now: now})}
		})
	}
}
