package sqlite_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
	"github.com/ocikit/ocikit/store/storetest"
)

// TestClientsMeetCollectorsBetweenAnyTwoChanges is of two processes that have the file. Within one, events are run one after
// another.
func TestClientsMeetCollectorsBetweenAnyTwoChanges(t *testing.T) {
	t.Parallel()
	storetest.RoundTrips(t, func(t *testing.T, now func() time.Time) storetest.Gated {
		path := filepath.Join(t.TempDir(), "index.db")
		var waiting atomic.Int32
		return storetest.Gated{
			Open: func(t *testing.T, before func()) store.Metadata {
				m := open(t, path, &sqlite.Options{NoSync: true, Now: now})
				require.NoError(t, m.Before(t.Context(), (&locking{before: before, waiting: &waiting}).statement))
				return m
			},
			Waits:  func(*testing.T) bool { return waiting.Load() > 0 },
			Serial: true,
		}
	})
}

// locking follows a handle's statements. It stops before those that read, before the one that locks the file, and before the
// commit: what is in between happens at once for everybody else.
type locking struct {
	before  func()
	waiting *atomic.Int32 // the handles that wait for the lock

	asked, waits, locked bool
}

func (l *locking) statement(query string) {
	locks, ends := query == "begin immediate", query == "commit" || query == "rollback"
	if locks && l.asked { // and was refused
		if !l.waits {
			l.waiting.Add(1)
		}
		l.waits = true
		return
	}
	if l.waits {
		l.waiting.Add(-1)
	}
	l.asked, l.waits = locks, false
	if !l.locked || ends {
		l.before()
	}
	l.locked = (l.locked || locks) && !ends
}
