package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// A migration that has been released is never edited: another one follows it.
//
//go:embed migrations/*.sql
var migrations embed.FS

// prepare brings the schema up to date, or only looks whether it is.
func prepare(ctx context.Context, db *sql.DB, o Options) error {
	if o.ReadOnly {
		return check(ctx, db)
	}
	return migrate(ctx, db)
}

// migrate brings the schema up to date, one transaction a migration, or refuses a newer one with [ErrNewerVersion].
func migrate(ctx context.Context, db *sql.DB) error {
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	return advance(ctx, provider)
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
}

// check refuses a schema that is not this program's, with [ErrOlderVersion] or [ErrNewerVersion].
func check(ctx context.Context, db *sql.DB) error {
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	var made bool // else goose would make its table
	err = db.QueryRowContext(ctx, `select exists (select 1 from sqlite_master where type = 'table' and name = 'goose_db_version')`).Scan(&made)
	if err != nil {
		return err
	}
	if !made {
		return fmt.Errorf("%w: it has no schema", ErrOlderVersion)
	}
	version, known, err := provider.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case version < known:
		return fmt.Errorf("%w: %d, and this program wants %d", ErrOlderVersion, version, known)
	case version > known:
		return newer(version, known)
	}
	return nil
}

func newer(version, known int64) error {
	return fmt.Errorf("%w: %d, and this program knows up to %d", ErrNewerVersion, version, known)
}

// advance applies what is missing. Another process may do the same at the same time; then one of the two finds that a migration
// cannot be applied twice, but also that the schema has moved on meanwhile, and looks again.
func advance(ctx context.Context, provider *goose.Provider) error {
	version, known, err := provider.GetVersions(ctx)
	for {
		if err != nil {
			return err
		}
		if version > known {
			return newer(version, known)
		}
		if version == known {
			return nil
		}
		_, failure := provider.Up(ctx)
		before := version
		version, known, err = provider.GetVersions(ctx)
		if failure != nil && version == before {
			return failure
		}
	}
}
