package e2e_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/faulttest"
)

// outage is something that happens to what the server needs, while clients push.
type outage struct {
	name string
	// own: the servers are the test's own, and no proxy stands before them.
	own   bool
	begin func(t *testing.T, s *storm)
	end   func(t *testing.T, s *storm)
	// refusals, if not zero: nothing can be pushed meanwhile, so that every client must be told so often to
	// come again. Else clients must make progress, and begin has the storm's faults counted.
	refusals int64
}

var outages = []outage{
	{
		name: "PostgreSQL is killed", own: true, refusals: 2,
		begin: func(_ *testing.T, s *storm) { s.postgres.Kill() },
		end:   func(t *testing.T, s *storm) { s.postgres.Start(t) },
	},
	{
		name: "PostgreSQL is stopped", own: true, refusals: 2,
		begin: func(t *testing.T, s *storm) { s.postgres.Stop(t) },
		end:   func(t *testing.T, s *storm) { s.postgres.Start(t) },
	},
	{
		name: "PostgreSQL is slow",
		begin: func(_ *testing.T, s *storm) {
			s.index.Delay(20 * time.Millisecond)
			s.faults.Add(1)
		},
		end: func(_ *testing.T, s *storm) { s.index.Delay(0) },
	},
	{
		name: "PostgreSQL does not answer", refusals: 1,
		begin: func(_ *testing.T, s *storm) { s.index.Stall(true) },
		end:   func(_ *testing.T, s *storm) { s.index.Stall(false) },
	},
	{
		name: "PostgreSQL is out of reach", refusals: 2,
		begin: func(t *testing.T, s *storm) { s.index.Refuse(t, true); s.index.Cut() },
		end:   func(t *testing.T, s *storm) { s.index.Refuse(t, false) },
	},
	{
		name: "connections to PostgreSQL are cut",
		begin: func(_ *testing.T, s *storm) {
			s.again(200*time.Millisecond, 0.05, func() {
				s.index.Cut()
				s.faults.Add(1)
			})
		},
		end: func(_ *testing.T, s *storm) { s.stop() },
	},
	{
		name: "PostgreSQL's answers are lost",
		begin: func(_ *testing.T, s *storm) {
			var messages atomic.Int64
			s.again(time.Millisecond, 0, func() {
				lost := s.index.LoseAnswer(func([]byte) bool { return messages.Add(1)%7 == 0 })
				select {
				case <-lost:
					s.faults.Add(1)
				case <-s.calm:
				}
			})
		},
		end: func(_ *testing.T, s *storm) { s.stop() },
	},
	{
		name: "the store is killed", own: true, refusals: 2,
		begin: func(_ *testing.T, s *storm) { s.store.Kill() },
		end:   func(t *testing.T, s *storm) { s.store.Start(t) },
	},
	{
		name: "the store is stopped", own: true, refusals: 2,
		begin: func(t *testing.T, s *storm) { s.store.Stop(t) },
		end:   func(t *testing.T, s *storm) { s.store.Start(t) },
	},
	{
		name:  "the store is slow",
		begin: inStore(faulttest.Every(faulttest.Fault{Delay: 100 * time.Millisecond})), end: calmStore,
	},
	{
		name: "the store does not answer", refusals: 1,
		begin: inStore(faulttest.Every(faulttest.Fault{Delay: time.Hour},
			// But for completing, which may take minutes.
			faulttest.PutObject, faulttest.GetObject, faulttest.CreateMultipartUpload, faulttest.UploadPart)),
		end: calmStore,
	},
	{
		name: "the store says that it is busy", refusals: 2,
		begin: inStore(faulttest.Every(faulttest.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"})), end: calmStore,
	},
	{
		name: "the store has internal errors", refusals: 2,
		begin: inStore(faulttest.Every(faulttest.Fault{Status: http.StatusInternalServerError, Code: "InternalError"})), end: calmStore,
	},
	{
		name:  "the store completes with an error in a 200",
		begin: inStore(most(faulttest.CompleteMultipartUpload, faulttest.Fault{Status: http.StatusOK, Code: "InternalError"})), end: calmStore,
	},
	{
		name:  "connections to the store are cut",
		begin: inStore(nowAndThen(faulttest.Fault{Cut: true})), end: calmStore,
	},
	{
		name:  "the store is cut off in the middle of requests",
		begin: inStore(nowAndThen(faulttest.Fault{CutRequestAfter: 100})), end: calmStore,
	},
	{
		name:  "the store is cut off in the middle of answers",
		begin: inStore(nowAndThen(faulttest.Fault{CutAnswerAfter: 100 << 10})), end: calmStore,
	},
	{
		name:  "the store's answers are lost",
		begin: inStore(nowAndThen(faulttest.Fault{LoseAnswer: true})), end: calmStore,
	},
}

// inStore does faults to requests to the store.
func inStore(hook func(*http.Request) faulttest.Fault) func(*testing.T, *storm) {
	return func(_ *testing.T, s *storm) {
		s.objects.Intercept(func(r *http.Request) faulttest.Fault {
			fault := hook(r)
			if fault != (faulttest.Fault{}) {
				s.faults.Add(1)
			}
			return fault
		})
	}
}

func calmStore(_ *testing.T, s *storm) { s.objects.Intercept(nil) }

// nowAndThen does the fault to one of three requests: the server's own second
// tries fail too, sometimes.
func nowAndThen(fault faulttest.Fault) func(*http.Request) faulttest.Fault {
	var requests atomic.Int64
	return func(*http.Request) faulttest.Fault {
		if requests.Add(1)%3 == 0 {
			return fault
		}
		return faulttest.Fault{}
	}
}

// most does the fault to three of four requests for the operation, which is as
// often as the server tries by itself.
func most(operation faulttest.Operation, fault faulttest.Fault) func(*http.Request) faulttest.Fault {
	var requests atomic.Int64
	return func(r *http.Request) faulttest.Fault {
		if faulttest.OperationOf(r) == operation && requests.Add(1)%4 != 0 {
			return fault
		}
		return faulttest.Fault{}
	}
}

// Whatever happens to PostgreSQL or to the store while clients push and pull: a
// client that cannot be served is told to try again, nothing else; nobody gets a
// wrong byte; what was acknowledged is there and whole; and everything goes on
// when it is over, in the same process.
func TestPushesOutliveWhatHappensToTheirStores(t *testing.T) {
	if testing.Short() {
		t.Skip("breaks servers in many ways")
	}
	t.Parallel()
	for _, each := range outages {
		t.Run(each.name, func(t *testing.T) {
			t.Parallel()
			s := newStorm(t, each.own)
			s.requireProgress(t, 1, "before it began")
			each.begin(t, s)
			if each.refusals > 0 {
				s.requireRefusals(t, each.refusals)
			} else {
				s.requireFaults(t)
				s.requireProgress(t, 2, "meanwhile")
			}
			each.end(t, s)
			s.requireProgress(t, 2, "when it was over")
			s.requireAllThere(t)
		})
	}
}
