package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/docker/go-units"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
)

// uploadLife is how long uploads last, and what is left of them when they are finished.
func uploadLife(idle time.Duration) store.Life { return store.Life{Idle: idle, Tombstone: idle} }

// checkCollecting says what is wrong with the flags of collecting.
func (c *serveCommand) checkCollecting() []error {
	var errs []error
	for _, flag := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"upload-idle", c.UploadIdle, time.Second}, {"write-timeout", c.WriteTimeout, time.Second},
		{"gc-grace", c.GCGrace, time.Nanosecond}, {"gc-delay", c.GCDelay, time.Nanosecond}, {"gc-pause", c.GCPause, time.Millisecond},
	} {
		if flag.value < flag.least {
			errs = append(errs, fmt.Errorf("--%s: must be at least %v", flag.name, flag.least))
		}
	}
	if !(c.GCShare > 0 && c.GCShare <= 1) { // nor not a number
		errs = append(errs, errors.New("--gc-share: must be above 0, and at most 1"))
	}
	if c.WriteTimeout > staging.MaxWriteTimeout {
		errs = append(errs, fmt.Errorf("--write-timeout: must be at most %v", staging.MaxWriteTimeout))
	}
	if c.GC && c.Redirect && c.GCDelay <= c.RedirectExpiry {
		errs = append(errs, errors.New("--gc-delay: must be longer than --redirect-expiry: a signed URL would outlive the object that it leads to"))
	}
	return append(errs, c.evictionFlags.check()...)
}

// evictionFlags say what goes of what was pulled through.
type evictionFlags struct {
	EvictIdle time.Duration `placeholder:"DURATION" help:"Evict what was pulled through and has not been pulled for so long (never). Pulls are sampled: add two hours to what was pulled at all."`
	EvictOver size          `placeholder:"SIZE" help:"Evict what was pulled through and pulled least recently while all of it is larger (never)."`
}

func (c *evictionFlags) check() (errs []error) {
	if c.EvictIdle < 0 {
		errs = append(errs, errors.New("--evict-idle: must not be negative"))
	}
	if c.EvictOver < 0 {
		errs = append(errs, errors.New("--evict-over: must not be negative"))
	}
	return errs
}

func (c *evictionFlags) eviction() gc.Eviction {
	return gc.Eviction{Idle: c.EvictIdle, Budget: int64(c.EvictOver)}
}

// collecting is what the collector beside the server is told. What that would refuse is an error here, so that nobody serves who
// was told to collect and does not.
func (c *serveCommand) collecting(m *metrics, s settings, pulls *gc.Pulls) (*gc.Options, error) {
	options := &gc.Options{
		Policies: s.policies, Pulls: pulls, Immutable: s.immutable,
		Grace: c.GCGrace, Delay: c.GCDelay, Share: c.GCShare, Pause: c.GCPause, WriteTimeout: c.WriteTimeout, Life: uploadLife(c.UploadIdle),
		// What could not be deleted is tried again as soon as that is of use.
		Again:    min(max(c.GCDelay, 5*time.Second), 10*time.Minute),
		Observe:  m.collected,
		Eviction: c.eviction(),
	}
	if c.GC && c.Redirect { // who leaves collecting to others has told them
		options.URLLife = c.RedirectExpiry
	}
	if err := options.Validate(); err != nil {
		return nil, fmt.Errorf("collecting cannot be started: %w", err)
	}
	return options, nil
}

// readPolicies reads a file of policies; "" has none.
func readPolicies(file string) ([]gc.Policy, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	policies, err := gc.ParsePolicies(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return policies, nil
}

// startCollecting collects, or only records the pulls for whoever collects instead, until stop is called, which returns when that
// has ended. ctx's end does not end it: what is pulled until the last request has been answered counts, too.
func (c *serveCommand) startCollecting(ctx context.Context, log *slog.Logger, s *stores, options *gc.Options) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	options.Logger = log
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if !c.GC {
			if err := options.Pulls.Run(ctx, s.meta, options); err != nil {
				log.Error("no pulls are recorded", "error", err)
			}
			return
		}
		if err := gc.Run(ctx, s.meta, s.objects, options); err != nil {
			log.Error("nothing is collected", "error", err)
		}
	}()
	return func() { cancel(); <-ended }
}

// gcCommand collects by hand, or from somebody's own cron.
type gcCommand struct {
	storeFlags
	Grace        time.Duration `default:"24h" placeholder:"DURATION" help:"How long what no manifest refers to is kept, at least (${default}). No shorter than the servers' --gc-grace, by which they promise clients that what is there stays; shorter than a push takes, it makes pushes fail."`
	Delay        time.Duration `default:"1h" placeholder:"DURATION" help:"How long an object is kept that the index has forgotten, for reads under way (${default}). Longer than --redirect-expiry."`
	RedirectLife time.Duration `name:"redirect-expiry" default:"15m" placeholder:"DURATION" help:"How long a signed URL works, as the servers were told; 0s: they sign none, and --delay may be shorter (${default})."`
	UploadIdle   time.Duration `default:"24h" placeholder:"DURATION" help:"How long an upload without activity can be continued, as the servers were told (${default})."`
	WriteTimeout time.Duration `default:"15m" placeholder:"DURATION" help:"How long one request to the objects may take, as the servers were told (${default})."`
	Policies     string        `type:"path" placeholder:"FILE" help:"What else may be deleted where, by age and number, and what never (YAML)."`
	Immutable    []string      `name:"immutable-tags" placeholder:"PATTERN" help:"Tags that are never deleted, as the servers were told: v*, or team/**:v*."`
	evictionFlags
	DryRun bool `help:"Tell what would go, and change nothing."`
	JSON   bool `name:"json" help:"Tell it as JSON, a line for each and one for all."`
}

// Run collects until nothing is due, and tells what that was.
func (c *gcCommand) Run(ctx context.Context, out output) error {
	options, err := c.options(out)
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.preview(ctx, out, options)
	}
	s, err := c.openLasting(ctx, out, changing)
	if err != nil {
		return err
	}
	defer s.close(nil)
	stats, err := gc.Once(ctx, s.meta, s.objects, options)
	return errors.Join(err, c.sum(out, stats))
}

// options reads the flags, and says what is wrong with them.
func (c *gcCommand) options(out output) (*gc.Options, error) {
	options := &gc.Options{
		Grace: c.Grace, Delay: c.Delay, URLLife: c.RedirectLife, WriteTimeout: c.WriteTimeout, Life: uploadLife(c.UploadIdle), Logger: warnings(out),
		Eviction: c.eviction(),
	}
	if err := errors.Join(c.evictionFlags.check()...); err != nil {
		return nil, err
	}
	for flag, value := range map[string]time.Duration{"grace": c.Grace, "delay": c.Delay, "upload-idle": c.UploadIdle, "write-timeout": c.WriteTimeout} {
		if value <= 0 {
			return nil, fmt.Errorf("--%s: must be more than 0", flag)
		}
	}
	if c.RedirectLife < 0 {
		return nil, errors.New("--redirect-expiry: must not be negative")
	}
	if c.Delay <= c.RedirectLife {
		return nil, fmt.Errorf("--delay: must be longer than --redirect-expiry, %v: a signed URL would outlive the object that it leads to; "+
			"if the servers sign none, say so with --redirect-expiry=0s", c.RedirectLife)
	}
	var err error
	if options.Policies, err = readPolicies(c.Policies); err != nil {
		return nil, fmt.Errorf("--policies: %w", err)
	}
	if options.Immutable, err = registry.ParseTagPatterns(c.Immutable...); err != nil {
		return nil, fmt.Errorf("--immutable-tags: %w", err)
	}
	return options, nil
}

// preview tells what would go. It asks the index alone.
func (c *gcCommand) preview(ctx context.Context, out output, options *gc.Options) error {
	s, err := c.openIndex(ctx, out, looking)
	if err != nil {
		return err
	}
	defer s.close(nil)
	encoder := json.NewEncoder(out.stdout)
	stats, err := gc.Preview(ctx, s.meta, options, func(finding gc.Finding) error {
		if c.JSON {
			return encoder.Encode(finding)
		}
		_, err := fmt.Fprintln(out.stdout, finding)
		return err
	})
	return errors.Join(err, c.sum(out, stats))
}

// sum tells what went, or would go, in all.
func (c *gcCommand) sum(out output, stats gc.Stats) error {
	if c.JSON {
		return json.NewEncoder(out.stdout).Encode(stats)
	}
	_, err := fmt.Fprintln(out.stdout, summary(stats, c.DryRun))
	return err
}

// summary tells in one line what went, or would go. What there is only with policies, upstreams, deleted repositories or failures is
// told if there is some.
func summary(stats gc.Stats, dryRun bool) string {
	went := "" // as in "1 contents of 1MiB would be collected, 1 objects of 1MiB deleted"
	if dryRun {
		went = "would be "
	}
	size := func(n int64) string { return units.BytesSize(float64(n)) }
	line := fmt.Sprintf("%d contents of %s %scollected, %d objects of %s deleted, %d uploads ended",
		stats.Contents, size(stats.Bytes), went, stats.Objects, size(stats.ObjectBytes), stats.Sessions)
	if stats.Manifests > 0 || stats.Tags > 0 {
		line += fmt.Sprintf(", %d manifests and %d tags deleted by policies", stats.Manifests, stats.Tags)
	}
	if stats.Evicted > 0 {
		line += fmt.Sprintf(", %d manifests of upstreams with %s evicted", stats.Evicted, size(stats.EvictedBytes))
	}
	if stats.Drained > 0 {
		line += fmt.Sprintf(", %d rows of deleted repositories deleted", stats.Drained)
	}
	if stats.Failed > 0 {
		line += fmt.Sprintf("; %d objects could not be deleted", stats.Failed)
	}
	return line
}

// deleteRepositoryCommand deletes a repository in one step.
type deleteRepositoryCommand struct {
	Name string `arg:"" help:"The repository, such as team/app."`
	storeFlags
}

// Run takes the repository's name away. Collectors do the rest.
func (c *deleteRepositoryCommand) Run(ctx context.Context, out output) error {
	s, err := c.openIndex(ctx, out, changing)
	if err != nil {
		return err
	}
	defer s.close(nil)
	err = s.meta.DeleteRepository(ctx, c.Name)
	if errors.Is(err, store.ErrRepositoryUnknown) {
		return fmt.Errorf("no repository is called %q", c.Name)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.stdout, "%s is deleted; what was in it is collected in time\n", c.Name)
	return err
}
