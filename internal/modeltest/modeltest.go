package modeltest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

// Metadata sends random events to the reference and to the handles that open returns, which are over the same, empty index,
// and compares every answer. Each seed is a subtest of its own with that many events, and calls open once; what open opens
// it closes in t.Cleanup. now is the clock that the store must use. There are few names, so that most events meet the
// traces of others.
func Metadata(t *testing.T, seeds, events int, open func(t *testing.T, now func() time.Time) []store.Metadata) {
	t.Helper()
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			clock := storetest.NewClock()
			handles := open(t, clock.Now)
			reference := memory.NewMetadata(&memory.MetadataOptions{Now: clock.Now})
			r := &random{Rand: rand.New(rand.NewPCG(seed, 0)), versions: map[string]int64{}}
			var history []string
			for range events {
				name, event := r.event()
				want := event(t.Context(), reference)
				got := event(t.Context(), handles[r.IntN(len(handles))])
				history = append(history, name+" → "+want)
				require.Equal(t, want, got, "%s\nafter\n%s", name,
					strings.Join(history[max(0, len(history)-40):], "\n"))
				if r.IntN(6) == 0 {
					clock.Advance(time.Duration(r.IntN(3)) * time.Minute)
				}
			}
		})
	}
}

// random makes events.
type random struct {
	*rand.Rand
	sessions int              // how many were created
	versions map[string]int64 // of sessions, as last claimed
}

// call sends an event to an index, and returns the answer as text.
type call func(context.Context, store.Metadata) string

func (r *random) repository() string { return []string{"a", "b/c", "d"}[r.IntN(3)] }
func (r *random) tag() string        { return []string{"x", "y", "Z"}[r.IntN(3)] }
func (r *random) session() string    { return fmt.Sprint("session-", r.sessions-r.IntN(5)) } // a late one
func (r *random) text() string       { return fmt.Sprint("text ", r.IntN(9)) }
func (r *random) digest() digest.Digest {
	return digest.FromString(r.text())
}

// life is short enough for some sessions to end.
var life = store.Life{Idle: 40 * time.Minute, Total: 3 * time.Hour, Tombstone: 3 * time.Minute}

func (r *random) event() (string, call) {
	events := []func() (string, call){
		r.putContent, r.putContent, r.putManifest, r.putManifest, r.putManifest, r.putManifest,
		r.deleteManifest, r.deleteContent, r.deleteTag, r.mount, r.renew,
		r.create, r.claim, r.claim, r.claim, r.save, r.save, r.save, r.save, r.finish, r.drop,
		r.look, r.look, r.look,
	}
	return events[r.IntN(len(events))]()
}
