package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/singleflight"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store"
)

// Registry is a [registry.Registry] that reads from an upstream, and keeps what it saw. Writing and deleting fail with ErrUnsupported.
// Make one with [New], and close it.
type Registry struct {
	registry.Unsupported

	name    string
	prefix  string // of the names of kept repositories
	options Options
	remote  *remote
	meta    store.Metadata
	kept    *registry.Local

	flights singleflight.Group
	missing *lru.Cache[string, absence] // what the upstream did not have, or does not let us have
	lists   *lists                      // of tags and referrers
	turns   chan struct{}               // has one for each page of a list that is read
	ctx     context.Context             // of everything that outlives a request
	end     context.CancelFunc
	work    sync.WaitGroup

	underWay atomic.Int64 // bytes of memory of the lists that are read

	mu      sync.Mutex
	closed  bool
	fetches map[blobName]*fetch
}

var _ registry.Registry = (*Registry)(nil)

// blobName is a blob of one of the upstream's repositories.
type blobName struct {
	repository string // as the upstream calls it
	digest     digest.Digest
}

// mostMissing is how much is remembered that the upstream does not have. What is lost is asked for again.
const mostMissing = 10_000

// New returns a registry that pulls through from the one at address, a URL, and keeps what it saw in the stores. name tells what is
// kept from other upstreams' and has the form of a path component, "hub" for instance; another name is another cache. opts may be nil.
// The stores are the caller's.
func New(name, address string, meta store.Metadata, objects store.Objects, opts *Options) (*Registry, error) {
	if !registry.ValidRepository(name) || strings.Contains(name, "/") {
		return nil, fmt.Errorf("new upstream: name %q: want lower-case letters, digits, and separators between them", name)
	}
	options, err := opts.complete()
	if err != nil {
		return nil, fmt.Errorf("new upstream %q: %w", name, err)
	}
	base, err := ParseURL(address)
	if err != nil {
		return nil, fmt.Errorf("new upstream %q: %w", name, err)
	}
	r := &Registry{
		name: name, prefix: keptPrefix(name), options: options, meta: meta,
		kept:    registry.NewLocal(meta, objects, &options.Kept),
		lists:   newLists(),
		turns:   make(chan struct{}, parallelPages),
		fetches: map[blobName]*fetch{},
	}
	r.remote = newRemote(base, &r.options)
	if r.missing, err = lru.New[string, absence](mostMissing); err != nil {
		return nil, fmt.Errorf("new upstream %q: %w", name, err)
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r, nil
}

// Close ends what is on its way from the upstream, and waits until it has ended. Clients who still wait for some of it get an
// error.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.work.Wait()
	r.remote.close()
	return nil
}

// keptName is the kept repository of one of the upstream's.
func (r *Registry) keptName(repository string) string { return r.prefix + repository }

// fly does something once for all who ask for it at the same time. It goes on when they leave, up to a time-out, and ends with the
// registry.
func fly[T any](ctx context.Context, r *Registry, key string, do func(ctx context.Context) (T, error)) (T, error) {
	var zero T
	done := r.flights.DoChan(key+r.cause(ctx), func() (any, error) {
		if !r.begin() {
			return zero, errClosed
		}
		defer r.work.Done()
		ctx, cancel := context.WithTimeout(caused{r.ctx, ctx}, longestFlight)
		defer cancel()
		value, err := do(ctx)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) { // nobody else's time is over
			err = fmt.Errorf("%w: %w", unavailable(), err)
		}
		return value, err
	})
	select {
	case result := <-done:
		value, _ := result.Val.(T)
		return value, result.Err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// longestFlight is how long something small may take in all: many answers, each within its own time.
const longestFlight = 5 * time.Minute

var errClosed = fmt.Errorf("%w: the upstream was closed", &registry.RetryError{Err: registry.ErrUnavailable})

// begin registers work that Close waits for, unless that was called.
func (r *Registry) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.work.Add(1)
	}
	return !r.closed
}

// absence is that the upstream has said no.
type absence struct {
	err   error // of the kind that clients see
	until time.Time
}

// absent returns what the upstream has lately said of something that it did not give, or nil.
func (r *Registry) absent(key string) error {
	if a, ok := r.missing.Get(key); ok && time.Now().Before(a.until) {
		return a.err
	}
	return nil
}

// remember notes that the upstream did not give something. What it did not give in the name of another registry, it may give to us.
func (r *Registry) remember(ctx context.Context, key string, err error) {
	if r.options.MissingAge > 0 && r.cause(ctx) == "" {
		r.missing.Add(key, absence{err, time.Now().Add(r.options.MissingAge)})
	}
}

func (r *Registry) observe(e Event) {
	e.Upstream = r.name
	r.options.Observe(e)
}

// notKept logs why something is not kept that the upstream gave us. The client gets it all the same.
func (r *Registry) notKept(ctx context.Context, what string, err error) {
	if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		r.options.Logger.LogAttrs(ctx, slog.LevelWarn, "not kept",
			slog.String("upstream", r.name), slog.String("what", what), slog.Any("error", err))
	}
}
