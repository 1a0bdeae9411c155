package memory_test

import (
	"testing"
	"time"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestObjects(t *testing.T) {
	t.Parallel()
	tests := map[string]store.Limits{
		"AnyParts":   {},
		"LargeParts": {MinPart: 5 << 10, MaxPart: 1 << 20, PartSize: 16 << 10, MaxParts: 10_000},
		"EqualParts": {MinPart: 16 << 10, MaxPart: 1 << 20, PartSize: 16 << 10, MaxParts: 10_000, EqualParts: true},
	}
	for name, limits := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Objects(t, func(*testing.T) []store.Objects {
				return []store.Objects{memory.NewObjects(&memory.ObjectsOptions{Limits: limits})}
			})
		})
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	storetest.Metadata(t, func(_ *testing.T, now func() time.Time) []store.Metadata {
		return []store.Metadata{memory.NewMetadata(&memory.MetadataOptions{Now: now})}
	})
}

func TestInterleavings(t *testing.T) {
	t.Parallel()
	storetest.Interleavings(t, 100, func(_ *testing.T, now func() time.Time) []store.Metadata {
		m := memory.NewMetadata(&memory.MetadataOptions{Now: now})
		return []store.Metadata{m, m}
	})
}
