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

// migrate brings the schema up to date, one transaction a migration, or refuses a newer one with [ErrNewerVersion].
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	return advance(ctx, provider)
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
			return fmt.Errorf("%w: %d, and this program knows up to %d", ErrNewerVersion, version, known)
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
