package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/filesystem"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/postgres"
	"github.com/ocikit/ocikit/store/sqlite"
)

const memoryURL = "memory:"

// maxRedirect is how long a signed URL may work: what is deleted is kept for longer.
const maxRedirect = 24 * time.Hour

// storeFlags say where everything is. Every command that works on it has them.
type storeFlags struct {
	Data     string `default:"ocikit-data" type:"path" placeholder:"DIR" help:"Folder of the index and the objects, unless they are elsewhere (./ocikit-data)."`
	Database string `placeholder:"URL" help:"Index: sqlite:PATH, memory:, or postgres://USER@HOST:PORT/NAME for any number of replicas (sqlite:DATA/index.sqlite)."`
	Objects  string `placeholder:"URL" help:"Objects: file:DIR, memory:, or s3://BUCKET?region=…, with endpoint=… elsewhere than on AWS (file:DATA/objects)."`
	Sync     bool   `default:"true" negatable:"" help:"Call nothing done before the disk has it. --sync=false is faster, and loses in a power cut."`
}

// stores is an index and objects that were opened.
type stores struct {
	meta         store.Metadata
	objects      store.Objects
	presign      func(context.Context, store.Key) (string, error) // nil: the objects cannot
	dependencies []dependency
	closers      []func() error
}

// checkStores reads the flags of the stores and of redirects, and says what is wrong with them, alone and together.
func (c *serveCommand) checkStores(s *settings) []error {
	errs := c.parse(s)
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: "+format, append([]any{flag}, args...)...))
	}
	if s.objects.kind != kindS3 && c.Redirect {
		wrong("redirect", "only S3 can sign URLs: set --objects s3://BUCKET, or leave --redirect out")
	}
	if c.RedirectExpiry < time.Second || c.RedirectExpiry > maxRedirect {
		wrong("redirect-expiry", "must be from 1s to 24h")
	}
	s.objects.options.PresignExpiry = c.RedirectExpiry
	return errs
}

// redirect returns what signs URLs for clients, or nil if they are not to be redirected.
func (c *serveCommand) redirect(s *stores) func(context.Context, store.Key) (string, error) {
	if !c.Redirect {
		return nil
	}
	return s.presign
}

// parse reads the flags, and says what is wrong with them, alone and together.
func (c *storeFlags) parse(s *settings) []error {
	var errs []error
	database, err := parseDatabase(c.databaseURL())
	if err != nil {
		errs = append(errs, fmt.Errorf("--database: %w", err))
	}
	objects, problems := parseObjects(c.objectsURL())
	for _, err := range problems {
		errs = append(errs, fmt.Errorf("--objects: %w", err))
	}
	s.database, s.objects = database, objects
	if database.kind != "" && objects.kind != "" {
		errs = append(errs, c.checkTogether(database, objects)...)
	}
	return errs
}

// checkTogether says which stores do not go together.
func (c *storeFlags) checkTogether(database database, objects objects) []error {
	switch {
	case objects.kind == kindMemory && database.kind != kindMemory:
		return []error{errors.New("--objects: the index would outlive objects in memory: set --database memory: too, or --objects file:DIR")}
	case objects.kind != kindMemory && database.kind == kindMemory:
		return []error{errors.New("--database: objects would outlive an index in memory, and nobody would know them: set --objects memory: too, or --database sqlite:PATH")}
	case database.kind == kindPostgres && c.Objects == "":
		return []error{errors.New("--objects: every replica has to see the same objects: set --objects s3://BUCKET, or file:DIR for replicas on this machine")}
	case objects.kind == kindS3 && c.Database == "":
		return []error{errors.New("--database: every replica has to see the same index: set --database postgres://…, or sqlite:PATH if there is one replica only")}
	case database.kind == kindPostgres && objects.kind == kindS3 && !c.Sync:
		return []error{errors.New("--sync: PostgreSQL and S3 decide themselves what is durable: leave --sync=false out")}
	}
	return nil
}

// databaseURL and objectsURL are the flags with their defaults, which are below the data folder; an index in memory goes with
// objects in memory.
func (c *storeFlags) databaseURL() string {
	if c.Database != "" {
		return c.Database
	}
	return "sqlite:" + filepath.Join(c.Data, "index.sqlite")
}

func (c *storeFlags) objectsURL() string {
	switch {
	case c.Objects != "":
		return c.Objects
	case c.Database == memoryURL:
		return memoryURL
	}
	return "file:" + filepath.Join(c.Data, "objects")
}

// open opens what the flags name, and first brings the database up to date if that is wanted.
func (c *serveCommand) open(ctx context.Context, log *slog.Logger, settings settings, m *metrics) (*stores, error) {
	if c.Migrate && settings.database.kind == kindPostgres {
		if err := settings.database.migrate(ctx); err != nil {
			return nil, fmt.Errorf("--database: %w", err)
		}
	}
	return c.openStores(ctx, log, settings, m)
}

// openStores opens what the flags name. An error names the flag to look at.
func (c *storeFlags) openStores(ctx context.Context, log *slog.Logger, settings settings, m *metrics) (s *stores, err error) {
	s = &stores{}
	defer func() {
		if err != nil {
			s.close(nil)
		}
	}()
	switch settings.database.kind {
	case kindMemory:
		s.meta = memory.NewMetadata(nil)
	case kindSQLite:
		err = c.openSQLite(s, settings.database.path, settings.access)
	case kindPostgres:
		err = c.openPostgres(ctx, log, s, settings.database, m)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", c.blame("database", c.Database), err)
	}
	switch settings.objects.kind {
	case kindMemory:
		s.objects = memory.NewObjects(nil)
	case kindFile:
		s.objects, err = filesystem.New(settings.objects.dir, &filesystem.Options{NoSync: !c.Sync, ReadOnly: settings.access == looking})
	case kindS3:
		err = c.openS3(ctx, log, s, settings.objects, settings.access, m)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", c.blame("objects", c.Objects), err)
	}
	s.completeDependencies()
	return s, nil
}

func (c *storeFlags) openSQLite(s *stores, path string, access access) error {
	if access == changing {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("create the folder of the database: %w", err)
		}
	}
	meta, err := sqlite.Open(path, &sqlite.Options{NoSync: !c.Sync, ReadOnly: access == looking})
	if errors.Is(err, sqlite.ErrOlderVersion) {
		return fmt.Errorf("%w: to look changes nothing; a server of this version brings it up to date when it starts", err)
	}
	if err != nil {
		return err
	}
	s.meta, s.closers = meta, append(s.closers, meta.Close)
	return nil
}

func (c *storeFlags) openPostgres(ctx context.Context, log *slog.Logger, s *stores, d database, m *metrics) error {
	pool, err := d.connect(ctx, log, m)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { return closePool(pool) })
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	meta, err := postgres.New(ctx, pool, d.options())
	if err == nil {
		err = meta.Ping(ctx) // a standby takes no writes
	}
	if err != nil {
		return d.explain(err)
	}
	m.watchPool(pool)
	s.meta = meta
	s.dependencies = append(s.dependencies, dependency{"database", meta.Ping})
	return nil
}

// closePool takes leave of PostgreSQL, unless that does not answer: the process ends anyway, and must do so in time.
func closePool(pool *pgxpool.Pool) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-time.After(closeTimeout):
		return fmt.Errorf("no answer within %v", closeTimeout)
	}
}

const closeTimeout = 2 * time.Second

func (c *storeFlags) openS3(ctx context.Context, log *slog.Logger, s *stores, o objects, access access, m *metrics) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	bucket, err := o.open(ctx, log, access, m)
	if err != nil {
		return err
	}
	s.objects, s.presign = bucket, bucket.PresignGet
	s.dependencies = append(s.dependencies, dependency{"objects", bucket.Ping})
	return nil
}

// completeDependencies has readiness ask the embedded stores, too.
func (s *stores) completeDependencies() {
	known := map[string]bool{}
	for _, d := range s.dependencies {
		known[d.name] = true
	}
	if !known["database"] {
		s.dependencies = append(s.dependencies, dependency{"database", pingMetadata(s.meta)})
	}
	if !known["objects"] {
		s.dependencies = append(s.dependencies, dependency{"objects", pingObjects(s.objects)})
	}
}

// blame names the flag that a path came from.
func (c *storeFlags) blame(flag, value string) string {
	if value == "" {
		flag = "data"
	}
	return "--" + flag
}

func (s *stores) close(log *slog.Logger) {
	for _, closeStore := range s.closers {
		if err := closeStore(); err != nil && log != nil {
			log.Error("close the database", "error", err)
		}
	}
}
