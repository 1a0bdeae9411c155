package storetest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// Gated is an index whose handles can be stopped in the middle of a call, for [RoundTrips].
type Gated struct {
	// Open returns one more handle over the index. It calls before, on whatever goroutine, ahead of each of its round trips: the
	// statements, batches or requests between which others get their turn. before may take its time. Calls of one handle are made
	// one after another.
	Open func(t *testing.T, before func()) store.Metadata

	// Waits reports whether some handle waits for what another one has locked. It is asked again and again while one handle is
	// stopped and another one is busy. nil: none ever waits.
	Waits func(t *testing.T) bool

	// Serial says that changes wait for each other, whatever they change. Otherwise no step of a collector may wait for a client.
	Serial bool
}

// RoundTrips proves what [Interleavings] proves, between any two round trips, for stores whose calls have several. It lets each
// client meet each collector, stops one of them before each of its round trips, has the other one go on until it is done or
// waits for what the first has locked, and then lets both come to their ends.
//
// open makes an empty index, and is called once for each subtest, concurrently. now is the clock that the index must use, as in
// [Metadata].
func RoundTrips(t *testing.T, open func(t *testing.T, now func() time.Time) Gated) {
	t.Run("RoundTrips", func(t *testing.T) {
		for _, s := range scenes() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				betweenRoundTrips(t, s, open)
			})
			if s.alone {
				s.kept = true
				t.Run(s.name+"WhereSomethingStays", func(t *testing.T) {
					t.Parallel()
					betweenRoundTrips(t, s, open)
				})
			}
		}
	})
}

// betweenRoundTrips plays a scene once for each round trip that either side has, and once more for each side.
func betweenRoundTrips(t *testing.T, s scene, open func(t *testing.T, now func() time.Time) Gated) {
	clock := NewClock()
	gated := open(t, clock.Now)
	client, rival := newSide(t, gated), newSide(t, gated)
	beside := gated.Open(t, func() {})
	m, b := &index{first: beside, last: beside, clock: clock}, newBucket()
	round := 0
	var played plays
	for _, s := range s.each() {
		acknowledged := 0
		for _, first := range []*side{client, rival} {
			for trip, stopped := 1, true; stopped; trip++ {
				x := newStage(t, m, b, s, round, fmt.Sprint("layer ", round))
				clock.Advance(grace)
				round++
				x.client = client.store
				calls := map[*side]func() error{
					client: inTurn(s.client(x)),
					rival:  inTurn(s.meets(x, &collector{store: rival.store, bucket: b})),
				}
				second, who := rival, "client"
				if first == rival {
					second, who = client, "collector"
				}
				message := fmt.Sprintf("%s: the %s was stopped before round trip %d", s.name, who, trip)
				var waited bool
				stopped, waited = gated.meet(t, first, trip, calls[first], calls[second], message)
				require.False(t, waited && first == client && s.rival == nil && !gated.Serial, "no step of a collector waits for a client: %s", message)
				require.False(t, trip == 1 && !stopped, "a handle must call before ahead of each round trip")
				x.requireKept(t, message)
				played.add(x, message)
				if len(x.promises) > 0 {
					acknowledged++
				}
			}
		}
		require.Positive(t, acknowledged, "a client is not refused whatever the order: %s", s.name)
	}
	played.requireLasting(t, m, b)
	requireNothingLeft(t, m, b)
}

// meet has first stop before its round trip of that number, second go on until it has ended or waits, and then both come to
// their ends. It reports whether first had so many round trips, and whether second waited.
func (g Gated) meet(t *testing.T, first *side, trip int, call, other func() error, message string) (stopped, waited bool) {
	t.Helper()
	reached, goOn := first.stopAt(trip)
	defer goOn()
	one := start(call)
	select {
	case <-reached:
	case <-one.ended:
		require.NoError(t, one.err, message)
		require.NoError(t, other(), message)
		return false, false
	}
	two := start(other)
	waited = g.goesOn(t, two)
	goOn()
	<-one.ended
	<-two.ended
	require.NoError(t, one.err, message)
	require.NoError(t, two.err, message)
	return true, waited
}

// goesOn returns once a call has ended, or waits; it tells which.
func (g Gated) goesOn(t *testing.T, call *running) (waits bool) {
	t.Helper()
	if g.Waits == nil {
		<-call.ended
		return false
	}
	for {
		select {
		case <-call.ended:
			return false
		default:
		}
		if g.Waits(t) {
			return true
		}
		runtime.Gosched()
	}
}

// running is a call that was started.
type running struct {
	ended chan struct{}
	err   error // once it has ended
}

func start(call func() error) *running {
	r := &running{ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = call()
	}()
	return r
}

// side is a handle that can be stopped.
type side struct {
	store store.Metadata

	mu      sync.Mutex
	left    int           // the round trips up to the one that it stops before; 0: it does not
	reached chan struct{} // closed when it stops
	resume  chan struct{} // closed when it may go on
}

func newSide(t *testing.T, gated Gated) *side {
	s := &side{}
	s.store = gated.Open(t, s.before)
	return s
}

// stopAt has it stop before the round trip of that number from now on, until goOn is called.
func (s *side) stopAt(trip int) (reached <-chan struct{}, goOn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resume := make(chan struct{})
	s.left, s.reached, s.resume = trip, make(chan struct{}), resume
	return s.reached, sync.OnceFunc(func() { close(resume) })
}

// before is called ahead of each round trip.
func (s *side) before() {
	s.mu.Lock()
	stops := s.left == 1
	s.left = max(s.left-1, 0)
	reached, resume := s.reached, s.resume
	s.mu.Unlock()
	if stops {
		close(reached)
		<-resume
	}
}
