package postgres_test

import (
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"

	"github.com/ocikit/ocikit/store/postgres"
)

// newDatabase returns a pool for an empty database.
func newDatabase(t *testing.T, connections int32) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(backendtest.Postgres(t).Database(t))
	require.NoError(t, err)
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestMigrateMakesASchemaThatWorks(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"", "ocikit", "Of my-own", "select", "UPPER", "a_1-b"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			pool := newDatabase(t, 1)
			options := &postgres.Options{Schema: schema}
			if schema == "Of my-own" {
				require.ErrorContains(t, postgres.Migrate(t.Context(), pool, options), `schema "Of my-own"`)
				return
			}
			require.NoError(t, postgres.Migrate(t.Context(), pool, options))
			require.NoError(t, postgres.Migrate(t.Context(), pool, options), "a second time there is nothing to do")
			m := open(t, pool, options)
			require.NoError(t, m.PutContent(t.Context(), "a", inline("x")))
			require.NoError(t, m.Ping(t.Context()))
		})
	}
}

func TestSchemaThatDoesNotFitIsRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t, 2)
	_, err := postgres.New(t.Context(), pool, nil)
	require.ErrorIs(t, err, postgres.ErrNoSchema)
	assert.EqualError(t, err, `postgres: no schema "ocikit" in the database: run "ocikit migrate up"`)

	require.NoError(t, postgres.Migrate(t.Context(), pool, nil))
	applied, err := postgres.Status(t.Context(), pool, nil)
	require.NoError(t, err)
	newest := applied[len(applied)-1].Version
	_, err = postgres.New(t.Context(), pool, &postgres.Options{Schema: "other"})
	require.ErrorIs(t, err, postgres.ErrNoSchema, "each schema is one of its own")

	_, err = pool.Exec(t.Context(), `insert into ocikit.goose_db_version (version_id, is_applied) values (1000, true)`)
	require.NoError(t, err)
	for name, err := range map[string]error{"New": newError(t, pool), "Migrate": postgres.Migrate(t.Context(), pool, nil)} {
		require.ErrorIs(t, err, postgres.ErrNewerSchema, name)
		assert.ErrorContains(t, err, fmt.Sprintf(`"ocikit" has version 1000, and this program knows up to %d: upgrade it`, newest), name)
	}
	status, err := postgres.Status(t.Context(), pool, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1000, status[len(status)-1].Version, "a status tells of what a newer program has applied")

	_, err = pool.Exec(t.Context(), `delete from ocikit.goose_db_version where version_id > 0`)
	require.NoError(t, err)
	_, err = postgres.New(t.Context(), pool, nil)
	require.ErrorIs(t, err, postgres.ErrOlderSchema)
	assert.EqualError(t, err, fmt.Sprintf(`postgres: older schema: "ocikit" has version 0, and this program needs %d: run "ocikit migrate up"`, newest))
}

func newError(t *testing.T, pool *pgxpool.Pool) error {
	t.Helper()
	_, err := postgres.New(t.Context(), pool, nil)
	return err
}

func TestStatusTellsWhatIsApplied(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t, 1)
	_, err := pool.Exec(t.Context(), `set time zone 'America/St_Johns'`)
	require.NoError(t, err)
	status, err := postgres.Status(t.Context(), pool, nil)
	require.NoError(t, err)
	require.NotEmpty(t, status)
	assert.Equal(t, postgres.Migration{Version: 1, Name: "00001_index.sql"}, status[0])
	_, err = postgres.New(t.Context(), pool, nil)
	require.ErrorIs(t, err, postgres.ErrNoSchema, "a status changes nothing")

	require.NoError(t, postgres.Migrate(t.Context(), pool, nil))
	status, err = postgres.Status(t.Context(), pool, nil)
	require.NoError(t, err)
	for _, migration := range status {
		assert.WithinDuration(t, time.Now(), migration.Applied, time.Minute, migration.Name)
	}
}

func TestMigrateAtOnceWaitsForTheOther(t *testing.T) {
	t.Parallel()
	url := backendtest.Postgres(t).Database(t)
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			pool, err := pgxpool.New(t.Context(), url)
			if !assert.NoError(t, err) {
				return
			}
			defer pool.Close()
			assert.NoError(t, postgres.Migrate(t.Context(), pool, nil))
			_, err = postgres.New(t.Context(), pool, nil)
			assert.NoError(t, err)
		})
	}
	group.Wait()
}

func TestPlainMigrationsAndMigrateCanBeMixed(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t, 2)
	_, err := pool.Exec(t.Context(), "begin;"+plainSQL(t, "ocikit")+"commit", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	m := open(t, pool, nil)
	require.NoError(t, m.PutContent(t.Context(), "a", inline("x")))
	require.NoError(t, postgres.Migrate(t.Context(), pool, nil), "there is nothing to do")
	status, err := postgres.Status(t.Context(), pool, nil)
	require.NoError(t, err)
	assert.NotZero(t, status[0].Applied)
	_, err = m.Content(t.Context(), "a", inline("x").Digest)
	require.NoError(t, err)

	plain, migrated := columns(t, pool), newDatabase(t, 2)
	require.NoError(t, postgres.Migrate(t.Context(), migrated, nil))
	assert.Equal(t, columns(t, migrated), plain, "both ways lead to the same tables")
}

// columns describes all columns of the schema.
func columns(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		select format('%s %s %s %s %s', table_name, column_name, data_type, is_nullable, collation_name)
		from information_schema.columns where table_schema = 'ocikit' order by 1`)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(found), 50)
	return found
}

func TestMigrateNeedsNoRightsWhenThereIsNothingToDo(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t, 2)
	require.NoError(t, postgres.Migrate(t.Context(), pool, nil))
	_, err := pool.Exec(t.Context(), `
		grant usage on schema ocikit to pg_monitor;
		grant select, insert, update, delete on all tables in schema ocikit to pg_monitor`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	config := pool.Config()
	config.ConnConfig.RuntimeParams["role"] = "pg_monitor"
	limited, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(limited.Close)
	require.NoError(t, postgres.Migrate(t.Context(), limited, nil))
	m := open(t, limited, nil)
	require.NoError(t, m.PutContent(t.Context(), "a", inline("x")), "serving takes no more than rows")
	_, err = m.Content(t.Context(), "a", inline("x").Digest)
	require.NoError(t, err)

	require.ErrorContains(t, postgres.Migrate(t.Context(), limited, &postgres.Options{Schema: "other"}), "permission denied")
}

func TestMigrationsAreFilesOfPlainSQL(t *testing.T) {
	t.Parallel()
	files, err := postgres.Migrations("my_schema")
	require.NoError(t, err)
	names, err := fs.Glob(files, "*")
	require.NoError(t, err)
	require.Equal(t, []string{"00001_index.sql", "00002_collector.sql", "00003_due.sql", "00004_mirror.sql", "00005_preview.sql"}, names)
	text, err := fs.ReadFile(files, names[0])
	require.NoError(t, err)
	assert.Contains(t, string(text), `create table "my_schema".contents (`)
	assert.NotContains(t, string(text), "{schema}")
	_, err = postgres.Migrations(`no"pe`)
	require.ErrorContains(t, err, `schema "no\"pe"`)
}
