package modeltest_test

import (
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/modeltest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

func TestTheReferenceAnswersAsItself(t *testing.T) {
	t.Parallel()
	modeltest.Metadata(t, 4, 1500, func(_ *testing.T, now func() time.Time) []store.Metadata {
		return []store.Metadata{memory.NewMetadata(&memory.MetadataOptions{Now: now})}
	})
}
