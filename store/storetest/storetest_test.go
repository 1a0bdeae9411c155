package storetest_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestObjectsAcceptsACorrectStore(t *testing.T) {
	t.Parallel()
	storetest.Objects(t, func(*testing.T) []store.Objects {
		return []store.Objects{memory.NewObjects(nil)}
	})
}

func TestObjectsAcceptsAStoreOfLargeEqualParts(t *testing.T) {
	t.Parallel()
	limits := store.Limits{MinPart: 1 << 20, PartSize: 2 << 20, MaxPart: 4 << 20, MaxParts: 100, EqualParts: true}
	storetest.Objects(t, func(*testing.T) []store.Objects {
		return []store.Objects{memory.NewObjects(&memory.ObjectsOptions{Limits: limits})}
	})
}

func TestMetadataAcceptsACorrectStore(t *testing.T) {
	t.Parallel()
	storetest.Metadata(t, func(_ *testing.T, now func() time.Time) []store.Metadata {
		m := memory.NewMetadata(&memory.MetadataOptions{Now: now})
		return []store.Metadata{m, m}
	})
}

func TestRoundTripsAcceptsACorrectStore(t *testing.T) {
	t.Parallel()
	storetest.RoundTrips(t, gatedMemory(func(m store.Metadata) store.Metadata { return m }))
}

// gatedMemory opens indexes in memory each of whose calls is a round trip, but for those that plant makes several of.
func gatedMemory(plant func(store.Metadata) store.Metadata) func(*testing.T, func() time.Time) storetest.Gated {
	return func(_ *testing.T, now func() time.Time) storetest.Gated {
		m := memory.NewMetadata(&memory.MetadataOptions{Now: now})
		return storetest.Gated{Open: func(_ *testing.T, before func()) store.Metadata {
			return plant(storetest.HookMetadata(m, storetest.Hook{Before: func(context.Context, string) error { before(); return nil }}))
		}}
	}
}

// subject names the fault that the test binary plants when it runs itself.
const subject = "OCIKIT_STORETEST_FAULT"

// TestSubject is the kit on a store with the planted fault. It runs in a process of its own, since it must fail.
func TestSubject(t *testing.T) {
	name, ok := os.LookupEnv(subject)
	if !ok {
		return // TestKitCatches runs it
	}
	if fault, ok := objectsFaults()[name]; ok {
		storetest.Objects(t, func(*testing.T) []store.Objects {
			faulty := fault.plant(memory.NewObjects(nil))
			return []store.Objects{faulty, faulty}
		})
		return
	}
	if fault, ok := roundTripFaults()[name]; ok {
		storetest.RoundTrips(t, gatedMemory(fault.plant))
		return
	}
	fault, ok := metadataFaults()[name]
	if !ok {
		fault, ok = collectorFaults()[name]
	}
	if !ok {
		fault = mirrorFaults()[name]
	}
	storetest.Metadata(t, func(_ *testing.T, now func() time.Time) []store.Metadata {
		faulty := fault.plant(memory.NewMetadata(&memory.MetadataOptions{Now: now}))
		return []store.Metadata{faulty, faulty}
	})
}

func TestKitCatches(t *testing.T) {
	t.Parallel()
	catchers := map[string]string{}
	for name, fault := range objectsFaults() {
		catchers[name] = fault.caughtBy
	}
	for _, faults := range []map[string]metadataFault{metadataFaults(), collectorFaults(), mirrorFaults(), roundTripFaults()} {
		for name, fault := range faults {
			require.NotContains(t, catchers, name)
			catchers[name] = fault.caughtBy
		}
	}
	for name, caughtBy := range catchers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSubject$/^"+group(caughtBy)+"$/^"+behaviour(caughtBy)+"$")
			cmd.Env = append(os.Environ(), subject+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "the kit must fail on a store whose fault is that it %s; it said:\n%s", name, out)
			assert.Contains(t, string(out), "--- FAIL: TestSubject/"+caughtBy+" ", "the fault must be caught by the test of that behaviour")
			assert.NotContains(t, string(out), "panic:", "the kit must fail with a message")
		})
	}
}
