package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocikit/ocikit/store"
)

// How long a dependency may take to answer a probe, and how long an answer is good for: however often somebody probes, the
// dependencies see one question a second.
const (
	probeTimeout = 2 * time.Second
	probeAge     = time.Second
)

// dependency is something that the registry cannot do without.
type dependency struct {
	name string // as people call it
	ping func(context.Context) error
}

// health knows whether this replica can serve.
type health struct {
	dependencies []dependency
	log          *slog.Logger
	stopping     atomic.Bool

	mu      sync.Mutex // held while asking: who comes meanwhile gets the answer
	asked   time.Time
	answers []error // of each dependency
}

func newHealth(log *slog.Logger, dependencies []dependency) *health {
	return &health{dependencies: dependencies, log: log, answers: make([]error, len(dependencies))}
}

// live answers while the process is up, whatever it depends on: to restart it would not help.
func (h *health) live(w http.ResponseWriter, _ *http.Request) { tell(w, http.StatusOK, "ok") }

// ready answers whether requests should be sent here, and if not, because of what. It tells no more than that to whoever asks; the
// log has the rest.
func (h *health) ready(w http.ResponseWriter, _ *http.Request) {
	if h.stopping.Load() {
		tell(w, http.StatusServiceUnavailable, "shutting down")
		return
	}
	status, text := http.StatusOK, ""
	for i, err := range h.ask() {
		state := "ok"
		switch {
		case isTimeout(err):
			status, state = http.StatusServiceUnavailable, fmt.Sprintf("no answer within %v", probeTimeout)
		case err != nil:
			status, state = http.StatusServiceUnavailable, "down"
		}
		text += h.dependencies[i].name + ": " + state + "\n"
	}
	tell(w, status, text[:max(0, len(text)-1)])
}

func tell(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// ask returns what each dependency said, now or within the last second.
func (h *health) ask() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked.IsZero() && time.Since(h.asked) < probeAge {
		return h.answers
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout) // not the caller's: others wait for it, too
	defer cancel()
	answers := make([]error, len(h.dependencies))
	var asking sync.WaitGroup
	for i, dependency := range h.dependencies {
		asking.Go(func() { answers[i] = dependency.ping(ctx) })
	}
	asking.Wait()
	for i, err := range answers {
		h.report(h.dependencies[i].name, h.answers[i], err)
	}
	h.answers, h.asked = answers, time.Now()
	return answers
}

// report logs what has changed.
func (h *health) report(name string, before, now error) {
	switch {
	case now != nil && before == nil:
		h.log.Error("not ready", "dependency", name, "error", oneLine(now))
	case now == nil && before != nil:
		h.log.Info("ready again", "dependency", name)
	}
}

// Stores that know no ping of their own are asked for what is not there.

func pingMetadata(meta store.Metadata) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := meta.Manifest(ctx, "ping", store.ManifestRef{Tag: "ping"})
		if errors.Is(err, store.ErrManifestUnknown) {
			return nil
		}
		return err
	}
}

func pingObjects(objects store.Objects) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := objects.Open(ctx, store.NewBlobKey(), 0, 1)
		switch {
		case errors.Is(err, store.ErrObjectUnknown):
			return nil
		case err != nil:
			return err
		}
		return r.Close()
	}
}
