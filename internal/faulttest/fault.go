package faulttest

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is what happens to one request. The zero value passes it, and its answer.
type Fault struct {
	// Delay is how long the request is kept before anything else happens to it.
	Delay time.Duration
	// Cut ends the connection before anything of the request has reached the target.
	Cut bool
	// Status, if not zero, is answered instead of passing the request, in an S3 error with Code.
	Status int
	// Code is the S3 error's code, for instance "SlowDown"; with it, Status may be 200, as
	// CompleteMultipartUpload's errors have.
	Code string
	// CutRequestAfter, if not zero, passes so many bytes of the request's body, then ends both connections.
	CutRequestAfter int64
	// Hold keeps the request until the test releases it. Then it reaches the target, even if its sender has gone.
	Hold *Hold
	// LoseAnswer lets the request take effect, and ends the sender's connection instead of answering.
	LoseAnswer bool
	// CutAnswerAfter, if not zero, passes so many bytes of the answer's body, then ends the sender's connection.
	CutAnswerAfter int64
}

// Hold keeps requests until Release. Make one with NewHold.
type Hold struct {
	arrived, released, reached event
	status                     atomic.Int32
}

// NewHold returns a hold that keeps whatever it is given to, until Release.
func NewHold() *Hold {
	h := &Hold{}
	for _, each := range []*event{&h.arrived, &h.released, &h.reached} {
		each.happened = make(chan struct{})
	}
	return h
}

// Arrived is closed when a request is held, with the whole of its body.
func (h *Hold) Arrived() <-chan struct{} { return h.arrived.happened }

// Release lets what is held, and whatever comes, reach the target.
func (h *Hold) Release() { h.released.happens() }

// Reached is closed when the target has answered a request that was held, so
// that it has taken effect, if the target took it.
func (h *Hold) Reached() <-chan struct{} { return h.reached.happened }

// Status returns what the target answered to the first request that was held,
// once Reached is closed.
func (h *Hold) Status() int { return int(h.status.Load()) }

func (h *Hold) answered(status int) {
	h.status.CompareAndSwap(0, int32(status))
	h.reached.happens()
}

// event is something that happens once, or again without any effect.
type event struct {
	once     sync.Once
	happened chan struct{}
}

func (e *event) happens() { e.once.Do(func() { close(e.happened) }) }

// First returns a hook for HTTP.Intercept that does the fault to the first
// request that asks for the operation, and passes all others.
func First(operation Operation, fault Fault) func(*http.Request) Fault {
	return Nth(operation, 1, fault)
}

// Nth is First for the n-th such request, from 1.
func Nth(operation Operation, n int, fault Fault) func(*http.Request) Fault {
	var seen atomic.Int64
	return func(r *http.Request) Fault {
		if OperationOf(r) == operation && seen.Add(1) == int64(n) {
			return fault
		}
		return Fault{}
	}
}

// Every returns a hook for HTTP.Intercept that does the fault to every request
// for one of the operations, or to every request if there are none.
func Every(fault Fault, operations ...Operation) func(*http.Request) Fault {
	return func(r *http.Request) Fault {
		if len(operations) == 0 {
			return fault
		}
		asked := OperationOf(r)
		for _, operation := range operations {
			if asked == operation {
				return fault
			}
		}
		return Fault{}
	}
}
