package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// A migration that has been released is never edited: another one follows it.
//
//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is goose's: one row for each migration that was applied, and one for version 0.
const versionTable = "goose_db_version"

// Migration is a step of the schema.
type Migration struct {
	Version int64
	Name    string    // of its file
	Applied time.Time // zero: not yet
}

// Migrate brings the schema up to date, and makes it if it is not there: each migration in a transaction of its own. It fails
// with [ErrNewerSchema] when a newer version of the program has been there. options may be nil.
//
// Any number of callers may do it at once: they wait for each other, by a lock of a transaction, so that it works through a
// pooler too. The lock has a connection of its own, made as the pool makes them, and beside it one of the pool's is used.
func Migrate(ctx context.Context, pool *pgxpool.Pool, options *Options) error {
	o, err := options.withDefaults()
	if err == nil {
		err = migrate(ctx, pool, o.Schema)
	}
	if err != nil {
		return fmt.Errorf("postgres: migrate: %w", classify(ctx, err))
	}
	return nil
}

func migrate(ctx context.Context, pool *pgxpool.Pool, schema string) (err error) {
	unlock, err := lockMigrations(ctx, pool, schema)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := checkVersion(ctx, pool, schema); err == nil || errors.Is(err, ErrNewerSchema) {
		return err // also where this role may not change anything
	}
	if _, err := pool.Exec(ctx, createSchema(schema), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("create schema: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	provider, err := newProvider(db, schema)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// lockMigrations waits until nobody else migrates the schema, and keeps others from it until unlock. The lock is a transaction's,
// since a pooler may give each transaction of a connection another session.
func lockMigrations(ctx context.Context, pool *pgxpool.Pool, schema string) (unlock func() error, err error) {
	conn, err := connect(ctx, pool)
	if err != nil {
		return nil, err
	}
	// The transaction idles while migrations run, as long as they take. Its end gives the lock back.
	for _, statement := range []string{
		begin,
		`set local idle_in_transaction_session_timeout = 0`,
		`set local statement_timeout = 0`,
		`set local lock_timeout = 0`,
		`select pg_advisory_xact_lock(hashtextextended('ocikit migrations of ` + schema + `', 0))`,
	} {
		if _, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
	}
	return func() error {
		_, err := conn.Exec(ctx, `commit`, pgx.QueryExecModeSimpleProtocol)
		return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}, nil
}

// connect makes a connection as the pool does. It is not the pool's, which may have no more than one.
func connect(ctx context.Context, pool *pgxpool.Pool) (*pgx.Conn, error) {
	config := pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, config.ConnConfig)
}

// newProvider returns goose over the schema's migrations.
func newProvider(db *sql.DB, schema string) (*goose.Provider, error) {
	files, err := readMigrations(schema)
	if err != nil {
		return nil, err
	}
	inner, err := database.NewStore(goose.DialectPostgres, identifier(schema)+"."+versionTable)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectCustom, db, files,
		goose.WithStore(&versions{Store: inner, schema: schema}), goose.WithDisableGlobalRegistry(true))
}

// versions is goose's own table for PostgreSQL, found under a name that is quoted.
type versions struct {
	database.Store
	schema string
}

// TableExists is what goose asks before it makes the table.
func (v *versions) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, `select exists (select from pg_tables where schemaname = $1 and tablename = $2)`,
		v.schema, versionTable).Scan(&exists)
	return exists, err
}

// Status tells of every migration that this program knows, in order, and of those that a newer one has applied. It changes
// nothing. options may be nil.
func Status(ctx context.Context, pool *pgxpool.Pool, options *Options) ([]Migration, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("postgres: status: %w", err)
	}
	status, err := knownMigrations()
	if err != nil {
		return nil, fmt.Errorf("postgres: status: %w", err)
	}
	applied, err := appliedMigrations(ctx, pool, o.Schema)
	if err != nil && !errors.Is(err, ErrNoSchema) {
		return nil, fmt.Errorf("postgres: status: %w", classify(ctx, err))
	}
	for i, known := range status {
		if len(applied) > 0 && applied[0].Version == known.Version {
			status[i].Applied, applied = applied[0].Applied, applied[1:]
		}
	}
	return append(status, applied...), nil
}

// knownMigrations returns this program's, by version.
func knownMigrations() ([]Migration, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	known := make([]Migration, len(files))
	for i, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, err
		}
		known[i] = Migration{Version: version, Name: path.Base(file)}
	}
	return known, nil
}

// appliedMigrations returns those that the schema has had, by version, or [ErrNoSchema].
func appliedMigrations(ctx context.Context, pool *pgxpool.Pool, schema string) ([]Migration, error) {
	var applied []Migration
	rows, err := pool.Query(ctx, `
		select version_id, min(tstamp) at time zone current_setting('TimeZone') from `+identifier(schema)+`.`+versionTable+`
		where is_applied and version_id > 0 group by version_id order by version_id`)
	if err == nil {
		applied, err = collect(rows, func(scan func(...any) error) (m Migration, err error) {
			err = scan(&m.Version, &m.Applied)
			m.Applied = m.Applied.UTC()
			return m, err
		})
	}
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "42P01" || e.Code == "3F000") { // undefined table, undefined schema
		return nil, ErrNoSchema
	}
	return applied, err
}

// checkVersion fails unless the schema is the one that this program is made for.
func checkVersion(ctx context.Context, pool *pgxpool.Pool, schema string) error {
	known, err := knownMigrations()
	if err != nil {
		return err
	}
	applied, err := appliedMigrations(ctx, pool, schema)
	if errors.Is(err, ErrNoSchema) {
		return fmt.Errorf("%w %q in the database: run \"ocikit migrate up\"", ErrNoSchema, schema)
	}
	if err != nil {
		return err
	}
	var has int64
	if len(applied) > 0 {
		has = applied[len(applied)-1].Version
	}
	switch needs := known[len(known)-1].Version; {
	case has < needs:
		return fmt.Errorf("%w: %q has version %d, and this program needs %d: run \"ocikit migrate up\"", ErrOlderSchema, schema, has, needs)
	case has > needs:
		return fmt.Errorf("%w: %q has version %d, and this program knows up to %d: upgrade it", ErrNewerSchema, schema, has, needs)
	}
	return nil
}

// Migrations returns the migrations as plain SQL, for people with tools of their own: files that are run in the order of
// their names, each in one transaction. Each records that it was applied, where [New], [Migrate] and [Status] look, so
// that the ways can be mixed. schema is as in [Options].
func Migrations(schema string) (fs.FS, error) {
	o, err := (&Options{Schema: schema}).withDefaults()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	files, err := readMigrations(o.Schema)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	known, err := knownMigrations()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	table := identifier(o.Schema) + "." + versionTable
	for i, migration := range known {
		file := files[migration.Name]
		text := string(file.Data)
		if i == 0 {
			text = createSchema(o.Schema) + ";\n\n" + createVersionTable(table) + "\n" + text
		}
		file.Data = fmt.Appendf(nil, "%s\ninsert into %s (version_id, is_applied) values (%d, true);\n", text, table, migration.Version)
	}
	return files, nil
}

// createSchema makes the schema, if it is not there: only then does it need the right to.
func createSchema(schema string) string {
	return `do $$ begin if to_regnamespace('` + identifier(schema) + `') is null then create schema ` + identifier(schema) + `; end if; end $$`
}

// createVersionTable makes the table as goose does.
func createVersionTable(table string) string {
	return `create table if not exists ` + table + ` (
    id integer primary key generated by default as identity,
    version_id bigint not null,
    is_applied boolean not null,
    tstamp timestamp not null default now()
);
insert into ` + table + ` (version_id, is_applied) values (0, true);
`
}

// readMigrations returns the files with the schema's name in its place.
func readMigrations(schema string) (fstest.MapFS, error) {
	known, err := knownMigrations()
	if err != nil {
		return nil, err
	}
	files := fstest.MapFS{} // which is a file system in a map, and no more of testing than that
	for _, migration := range known {
		text, err := migrations.ReadFile("migrations/" + migration.Name)
		if err != nil {
			return nil, err
		}
		files[migration.Name] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(string(text), schemaPlaceholder, identifier(schema)))}
	}
	return files, nil
}
