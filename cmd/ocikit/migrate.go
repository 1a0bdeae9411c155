package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/ocikit/ocikit/store/postgres"
)

// migrateCommand is the schema's life. Serving does not change the schema unless --migrate asks for it: whoever has several
// replicas wants to decide when that happens, and as which user.
type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Bring the schema up to date. Any number may run at once."`
	Status migrateStatus `cmd:"" help:"Tell which migrations are applied."`
	SQL    migrateSQL    `cmd:"" name:"sql" help:"Print the migrations as plain SQL, for tools and people of your own."`
}

// migrateFlags are those of every command that talks to the database.
type migrateFlags struct {
	Database string `required:"" placeholder:"URL" help:"postgres://USER@HOST:PORT/NAME, to PostgreSQL itself rather than to a pooler. schema=NAME chooses a schema other than ocikit."`
}

// parse returns the database, which has to be PostgreSQL.
func (f *migrateFlags) parse() (database, error) {
	d, err := parseDatabase(f.Database)
	switch {
	case err != nil:
		return d, fmt.Errorf("--database: %w", err)
	case d.kind != kindPostgres:
		return d, errors.New("--database: only PostgreSQL is migrated by hand: sqlite: is brought up to date by serve itself, and memory: begins anew")
	}
	return d, nil
}

type migrateUp struct{ migrateFlags }

// Run applies what is not applied yet, and tells what there is.
func (c *migrateUp) Run(ctx context.Context, out output) error {
	d, err := c.parse()
	if err != nil {
		return err
	}
	if err := d.migrate(ctx); err != nil {
		return fmt.Errorf("--database: %w", err)
	}
	return d.printStatus(ctx, out)
}

type migrateStatus struct{ migrateFlags }

// Run prints a table.
func (c *migrateStatus) Run(ctx context.Context, out output) error {
	d, err := c.parse()
	if err != nil {
		return err
	}
	return d.printStatus(ctx, out)
}

type migrateSQL struct {
	Schema string `default:"ocikit" placeholder:"NAME" help:"Schema that the tables are in (${default})."`
}

// Run prints every migration, in order. It connects to nothing.
func (c *migrateSQL) Run(out output) error {
	files, err := postgres.Migrations(c.Schema)
	if err != nil {
		return fmt.Errorf("--schema: %w", err)
	}
	return fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out.stdout, "-- %s\n%s\n", path, text)
		return err
	})
}

func (d database) options() *postgres.Options { return &postgres.Options{Schema: d.schema} }

// migrate brings the schema up to date. What it sends takes as long as it takes: an index of a large table is a while in the
// building.
func (d database) migrate(ctx context.Context) error {
	pool, err := d.connect(ctx, nil, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool, d.options()); err != nil {
		return d.explain(err)
	}
	return nil
}

func (d database) printStatus(ctx context.Context, out output) error {
	pool, err := d.connect(ctx, nil, nil)
	if err != nil {
		return fmt.Errorf("--database: %w", err)
	}
	defer pool.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	all, err := postgres.Status(ctx, pool, d.options())
	if err != nil {
		return fmt.Errorf("--database: %w", d.explain(err))
	}
	table := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VERSION\tNAME\tAPPLIED")
	for _, migration := range all {
		applied := "no"
		if !migration.Applied.IsZero() {
			applied = migration.Applied.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\n", migration.Version, migration.Name, applied)
	}
	return table.Flush()
}
