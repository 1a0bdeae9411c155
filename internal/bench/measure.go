package main

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// line is a row of the report.
type line struct {
	Key     string
	Title   string
	Unit    string
	Lower   bool // less is better
	Highest bool // the highest of all rounds counts, not the median
}

// measure is something that is timed, on one peer. It keeps what it has pushed there.
type measure interface {
	// prepare pushes what run needs, and checks that the peer gives it back. It is called once and not timed.
	prepare(ctx context.Context, s *session) error
	// run measures once.
	run(ctx context.Context, s *session) (result, error)
}

// result is what one run of a measure found.
type result struct {
	values     []float64 // one a line of the definition
	operations int
	elapsed    time.Duration
}

// definition names a measure, and makes one for each peer.
type definition struct {
	key   string
	lines []line
	make  func() measure
	bare  bool // can be measured on a bucket without a registry
}

// definitions are all measures, in the order of the report.
func definitions() []definition {
	return []definition{
		{"large-push", []line{
			{Key: "large-push", Title: "push of a large blob", Unit: "MB/s"},
			{Key: "finalise", Title: "its closing PUT", Unit: "ms", Lower: true},
		}, func() measure { return &largePush{} }, true},
		{"large-pull", []line{{Key: "large-pull", Title: "pull of a large blob", Unit: "MB/s"}}, func() measure { return &largePull{} }, true},
		{"images", []line{{Key: "images", Title: "small images pushed", Unit: "/s"}}, func() measure { return &imagePush{} }, false},
		{"manifest-get", []line{
			{Key: "manifest-get", Title: "manifest GET by tag", Unit: "/s"},
			{Key: "manifest-get-p99", Title: "its 99th percentile", Unit: "ms", Lower: true},
		}, func() measure { return &manifestRead{} }, false},
		{"manifest-head", []line{
			{Key: "manifest-head", Title: "manifest HEAD by tag", Unit: "/s"},
			{Key: "manifest-head-p99", Title: "its 99th percentile", Unit: "ms", Lower: true},
		}, func() measure { return &manifestRead{headOnly: true} }, false},
		{"blob-head", []line{{Key: "blob-head", Title: "blob HEAD", Unit: "/s"}}, func() measure { return &blobRead{headOnly: true} }, false},
		{"blob-get", []line{{Key: "blob-get", Title: "1 MiB blob GET", Unit: "/s"}}, func() measure { return &blobRead{} }, false},
		{"tag-push", []line{{Key: "tag-push", Title: "tags pushed", Unit: "/s"}}, func() measure { return &tagPush{} }, false},
		{"tag-page", []line{{Key: "tag-page", Title: "a page of tags", Unit: "ms", Lower: true}}, func() measure { return &tagPage{} }, false},
	}
}

// memory is not a measure of its own: it is read at the end of each round.
func memory() line {
	return line{Key: "rss", Title: "peak RSS", Unit: "MiB", Lower: true, Highest: true}
}

// on reports whether a peer has the measure.
func (d definition) on(p *peer) bool { return p.bare == nil || d.bare }

// session is what measures of one peer share. Its clients are connected when a measure is called.
type session struct {
	settings *settings
	log      *slog.Logger
	source   *source
	peer     *peer
	clients  []*client
}

func newSession(settings *settings, log *slog.Logger, source *source, peer *peer) *session {
	s := &session{settings: settings, log: log, source: source, peer: peer}
	for range settings.Clients {
		s.clients = append(s.clients, newClient(peer.base))
	}
	return s
}

func (s *session) connect(ctx context.Context) error {
	if s.peer.bare != nil {
		return nil
	}
	for _, c := range s.clients {
		if err := c.connect(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) close() {
	for _, c := range s.clients {
		c.close()
	}
}

// load is what many clients at once did.
type load struct {
	operations int
	elapsed    time.Duration // until the last operation ended
	delays     []time.Duration
}

func (l *load) rate() float64 { return float64(l.operations) / l.elapsed.Seconds() }

// drive calls operation from every client, again and again, for a duration, or until n, which counts all calls, reaches
// limit (of either, 0 means none). An operation that was begun is finished and counted, with the time that it took, so
// that slow operations are not cut off. The first error ends it.
func (s *session) drive(duration time.Duration, limit int, operation func(c *client, n int) error) (load, error) {
	var (
		group   sync.WaitGroup
		stopped atomic.Bool
		failure = make(chan error, len(s.clients))
	)
	start := time.Now()
	for worker, c := range s.clients {
		c.delays = c.delays[:0]
		group.Go(func() {
			begun := time.Now()
			for n := worker; (duration == 0 || begun.Sub(start) < duration) && (limit == 0 || n < limit) && !stopped.Load(); n += len(s.clients) {
				if err := operation(c, n); err != nil {
					stopped.Store(true)
					failure <- err
					return
				}
				now := time.Now()
				c.delays = append(c.delays, now.Sub(begun))
				begun = now
			}
		})
	}
	group.Wait()
	did := load{elapsed: time.Since(start)}
	select {
	case err := <-failure:
		return load{}, err
	default:
	}
	for _, c := range s.clients {
		did.operations += len(c.delays)
		did.delays = append(did.delays, c.delays...)
	}
	slices.Sort(did.delays)
	return did, nil
}

// calm collects the client's own garbage before something is timed.
func calm() { runtime.GC() }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
