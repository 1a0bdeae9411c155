package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// metadata is what an index will have to do to be a [store.Metadata].
type metadata interface {
	store.Metadata
	store.Collector
	store.Auditor
	store.Retention
}

// incomplete is an index without the collector's methods.
type incomplete struct {
	store.Metadata
	store.Collector
	store.Auditor
	store.Retention
}

func complete(m store.Metadata) metadata {
	if m, ok := m.(metadata); ok {
		return m
	}
	return incomplete{Metadata: m}
}

// openIndex opens the store under test.
func openIndex(t *testing.T, open func(t *testing.T, now func() time.Time) []store.Metadata) *index {
	t.Helper()
	clock := NewClock()
	handles := open(t, clock.Now)
	require.NotEmpty(t, handles, "the function that opens the store must return a handle")
	m := &index{first: complete(handles[0]), last: complete(handles[len(handles)-1]), clock: clock}
	_, lacks := m.first.(incomplete)
	m.collects = !lacks
	return m
}

// collecting skips tests that need the collector's methods, where the store has none.
func collecting(tests []metadataTest) []metadataTest {
	for i, test := range tests {
		tests[i].run = func(t *testing.T, m *index) {
			if !m.collects {
				t.Skip("the store does not collect")
			}
			test.run(t, m)
		}
	}
	return tests
}
