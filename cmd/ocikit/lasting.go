package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/ocikit/ocikit/staging"
)

// access is what a command does with what it opens.
type access int

const (
	changing access = iota
	looking         // what is opened is not changed, neither by opening it
)

// openLasting opens stores that outlive the process, and are there already: what is named by mistake would be empty, and to compare
// the objects of others with an empty index, or the other way round, finds nothing but damage.
func (c *storeFlags) openLasting(ctx context.Context, out output, access access) (*stores, error) {
	s := settings{access: access}
	if err := errors.Join(c.parse(&s)...); err != nil {
		return nil, err
	}
	if s.volatile() {
		return nil, errors.New("--objects: what is in another process's memory is out of reach: name the stores that the servers have")
	}
	if err := errors.Join(c.requireIndex(s.database), c.requireObjects(s.objects)); err != nil {
		return nil, err
	}
	return c.openStores(ctx, warnings(out), s, newMetrics(staging.NewBudget(0)))
}

// openIndex opens an index that outlives the process, and is there already, and no objects: what needs none works without, and
// for those who may not touch any. If none are named, that is no mistake; if some are, the flag has to be right.
func (c *storeFlags) openIndex(ctx context.Context, out output, access access) (s *stores, err error) {
	flags, settings := *c, settings{}
	if c.Objects == "" && c.Database != "" && c.Database != memoryURL {
		flags.Objects = "file:" + c.Data // it is not looked at
	}
	if err := errors.Join(flags.parse(&settings)...); err != nil {
		return nil, err
	}
	if settings.volatile() {
		return nil, errors.New("--database: what is in another process's memory is out of reach: name the database that the servers have")
	}
	if err := c.requireIndex(settings.database); err != nil {
		return nil, err
	}
	s = &stores{}
	if settings.database.kind == kindPostgres {
		err = c.openPostgres(ctx, warnings(out), s, settings.database, newMetrics(staging.NewBudget(0)))
	} else {
		err = c.openSQLite(s, settings.database.path, access)
	}
	if err != nil {
		s.close(nil)
		return nil, fmt.Errorf("%s: %w", c.blame("database", c.Database), err)
	}
	return s, nil
}

// requireIndex fails if opening the index would make one.
func (c *storeFlags) requireIndex(d database) error {
	if d.kind != kindSQLite {
		return nil // a schema is made by migrating only
	}
	return c.requirePath("database", c.Database, "index", d.path)
}

// requireObjects fails if opening the objects would make a folder of them.
func (c *storeFlags) requireObjects(o objects) error {
	if o.kind != kindFile {
		return nil
	}
	return c.requirePath("objects", c.Objects, "folder of objects", o.dir)
}

func (c *storeFlags) requirePath(flag, value, what, path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there is no %s at %s: name what the servers have, with --data, or --database and --objects", c.blame(flag, value), what, path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.blame(flag, value), err)
	}
	return nil
}

// warnings logs what somebody should know who has just started a command by hand.
func warnings(out output) *slog.Logger {
	return slog.New(slog.NewTextHandler(out.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
