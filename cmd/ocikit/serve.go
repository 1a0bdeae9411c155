package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/staging"
)

// serveCommand is the server's configuration: what the library's options are called on a command line.
type serveCommand struct {
	Listen      string `default:"127.0.0.1:5000" placeholder:"HOST:PORT" help:"Where to listen (${default}). \":5000\" is every address."`
	ExternalURL string `name:"external-url" placeholder:"URL" help:"What clients call this registry. Its path, if it has one, stands before /v2 in every URL."`
	TLSCert     string `name:"tls-cert" type:"path" placeholder:"FILE" help:"Certificate chain (PEM). Read again when the file changes."`
	TLSKey      string `name:"tls-key" type:"path" placeholder:"FILE" help:"Private key (PEM)."`

	storeFlags
	mirrorFlags
	Migrate bool `help:"Bring PostgreSQL's schema up to date before serving, as ocikit migrate up does."`

	Redirect       bool          `help:"Send clients to S3 for blobs, with a signed URL. They must be able to reach it, under a host name unrelated to the registry's."`
	RedirectExpiry time.Duration `default:"15m" placeholder:"DURATION" help:"How long a signed URL works (${default})."`

	Htpasswd string `type:"path" placeholder:"FILE" help:"Users and their passwords, as htpasswd -B writes them. Without it and --policy, anybody may do everything."`
	Policy   string `type:"path" placeholder:"FILE" help:"Who may pull, push and delete where (YAML). Without --htpasswd nobody can log in, and only what it gives to anonymous is allowed."`

	Delete                 bool     `default:"true" negatable:"" help:"Allow deleting."`
	ImmutableTags          []string `placeholder:"PATTERN" help:"Tags that can be created but not moved or deleted: v*, or team/**:v*."`
	AllowMissingReferences bool     `help:"Take manifests that refer to what is not here (sparse indexes)."`
	AllowUnknownManifests  bool     `help:"Take manifests of other types than OCI's and Docker's."`
	MaxManifest            size     `default:"4MiB" placeholder:"SIZE" help:"Largest manifest (${default})."`
	MaxBlob                size     `placeholder:"SIZE" help:"Largest blob (what the objects can take)."`
	UploadMemory           size     `default:"64MiB" placeholder:"SIZE" help:"Buffers of all uploads together (${default})."`

	UploadIdle   time.Duration `default:"24h" placeholder:"DURATION" help:"How long an upload without activity can be continued, and the end of a finished one be asked for again (${default})."`
	WriteTimeout time.Duration `default:"15m" placeholder:"DURATION" help:"How long one request to the objects may take, at most 15m (${default})."`
	GC           bool          `name:"gc" default:"true" negatable:"" help:"Collect what nothing refers to, all the time. Every replica may; --gc=false leaves it to others, or to ocikit gc, and only records what is pulled, for their policies."`
	GCGrace      time.Duration `name:"gc-grace" default:"24h" placeholder:"DURATION" help:"How long what no manifest refers to is kept, at least (${default})."`
	GCDelay      time.Duration `name:"gc-delay" default:"1h" placeholder:"DURATION" help:"How long an object is kept that the index has forgotten, for reads under way (${default})."`
	GCPolicies   string        `name:"gc-policies" type:"path" placeholder:"FILE" help:"What else may be deleted where, by age and number, and what never (YAML). Nothing by default; try it with ocikit gc --dry-run."`
	GCShare      float64       `name:"gc-share" default:"0.05" placeholder:"SHARE" help:"How much of the time to collect at most, while more is due: above 0, and at most 1 (${default}). More of it is done sooner, and clients notice it."`
	GCPause      time.Duration `name:"gc-pause" default:"1m" placeholder:"DURATION" help:"How long to rest when there is little or nothing to collect (${default})."`

	evictionFlags

	MetricsListen   string        `placeholder:"HOST:PORT" help:"Where to serve Prometheus metrics on /metrics, and /livez and /readyz. Off by default."`
	LogLevel        slog.Level    `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error (${default})."`
	LogFormat       string        `default:"text" enum:"text,json" placeholder:"FORMAT" help:"text or json (${default})."`
	LogRequests     slog.Level    `default:"info" placeholder:"LEVEL" help:"Level of the line about each request (${default})."`
	ShutdownDelay   time.Duration `default:"0s" placeholder:"DURATION" help:"How long to go on serving after SIGTERM, with /readyz saying no, so that load balancers notice (${default})."`
	ShutdownTimeout time.Duration `default:"10s" placeholder:"DURATION" help:"How long requests under way may go on after SIGTERM before uploads are saved as they are (${default})."`
}

// Run serves until ctx ends. It fails before it has changed anything if the configuration is wrong.
func (c *serveCommand) Run(ctx context.Context, out output, file *configFile) error {
	settings, err := c.check(file)
	if err != nil {
		return err
	}
	log := c.logger(out)
	authorize, err := c.authorize(log)
	if err != nil {
		return err
	}
	listeners, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer listeners.close()
	if err := settings.mirrors.refuseLoops(listeners.registry.Addr(), c.ExternalURL); err != nil {
		return err
	}
	budget := staging.NewBudget(int64(c.UploadMemory))
	metrics := newMetrics(budget)
	pulls := gc.NewPulls(0)
	collecting, err := c.collecting(metrics, settings, pulls)
	if err != nil {
		return err
	}
	stores, err := c.open(ctx, log, settings, metrics)
	if err != nil {
		return err
	}
	defer stores.close(log)
	defer c.startCollecting(ctx, log, stores, collecting)()

	options := registry.LocalOptions{
		Budget:                budget,
		MaxBlob:               int64(c.MaxBlob),
		Redirect:              c.redirect(stores),
		Grace:                 c.GCGrace,
		Pulled:                pulls.Record,
		UploadLife:            uploadLife(c.UploadIdle),
		WriteTimeout:          c.WriteTimeout,
		Immutable:             settings.immutable,
		NoDelete:              !c.Delete,
		AllowMissing:          c.AllowMissingReferences,
		AllowUnknownManifests: c.AllowUnknownManifests,
	}
	via := newVia()
	upstreams, err := c.mirrorFlags.open(settings.mirrors, stores, options, log, via, metrics.pulledThrough)
	if err != nil {
		return err
	}
	defer upstreams.close()
	metrics.watchSpool(upstreams.spool)
	var all registry.Registry = registry.NewLocal(stores.meta, stores.objects, &options)
	routes, err := upstreams.route(settings.mirrors, all)
	if err != nil {
		return err
	}
	if routes != nil {
		all, authorize = routes, via.refuseLoops(authorize)
	}
	handler := registry.NewHandler(metrics.count(all), &registry.HandlerOptions{
		Authorize:   authorize,
		Namespace:   settings.mirrors.namespace(routes),
		Observe:     observers(metrics.observe, requestLog(log, c.LogRequests)),
		Logger:      log,
		BasePath:    settings.basePath,
		MaxManifest: int64(c.MaxManifest),
	})
	c.limitMemory(settings)
	c.announce(log, listeners, settings)
	health := newHealth(log, stores.dependencies)
	return c.serve(ctx, health, newServers(log, listeners, settings, via.follow(handler), operatorHandler(metrics, health)))
}

// operatorHandler serves those who watch the registry.
func operatorHandler(m *metrics, h *health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.handler())
	mux.HandleFunc("GET /livez", h.live)
	mux.HandleFunc("GET /readyz", h.ready)
	return mux
}

// announce says where the registry is, what it stores on, and what somebody should know who has just started it.
func (c *serveCommand) announce(log *slog.Logger, l listeners, settings settings) {
	scheme := "http"
	if settings.tls != nil {
		scheme = "https"
	}
	attrs := []any{
		"url", fmt.Sprintf("%s://%s%s", scheme, l.registry.Addr(), settings.basePath),
		"database", settings.database.name, "objects", settings.objects.name,
	}
	if texts := settings.mirrors.describe(); len(texts) > 0 {
		attrs = append(attrs, "upstreams", strings.Join(texts, " "))
	}
	if settings.embedded() {
		attrs = append(attrs, "sync", c.Sync)
	}
	if l.metrics != nil {
		attrs = append(attrs, "metrics", fmt.Sprintf("http://%s/metrics", l.metrics.Addr()))
	}
	log.Info("serving", attrs...)
	if c.Htpasswd == "" && c.Policy == "" && !isLoopback(l.registry.Addr()) {
		log.Warn("anybody who reaches this address may push and delete: set --htpasswd, or listen on 127.0.0.1 behind a proxy that authenticates")
	}
	volatile := settings.volatile()
	if volatile {
		log.Warn("everything is kept in memory and gone when this process ends")
	}
	if !c.Sync && !volatile {
		log.Warn("--sync=false: a power cut can lose what was acknowledged, or damage the index beyond use")
	}
}

func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// serve runs the servers until ctx ends, or one of them fails.
func (c *serveCommand) serve(ctx context.Context, health *health, servers *servers) error {
	failed := servers.start()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	health.stopping.Store(true)
	health.log.Info("shutting down", "delay", c.ShutdownDelay, "timeout", c.ShutdownTimeout)
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-time.After(c.ShutdownDelay):
	}
	return servers.shutdown(c.ShutdownTimeout)
}
