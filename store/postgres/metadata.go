package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ocikit/ocikit/store"
)

// Options are what [New] and its companions may be told. The zero value, and a nil pointer, are right.
type Options struct {
	// Schema is the PostgreSQL schema that the tables are in: letters, digits, hyphens and underscores, at most 63, the first a
	// letter or an underscore. Its case matters. "" means DefaultSchema.
	Schema string

	// Now replaces the database's clock, for tests; it is called from any goroutine, and must not block. PostgreSQL keeps
	// times to the microsecond. nil means the database's clock, which is what several processes can agree on.
	Now func() time.Time
}

// DefaultSchema is the schema that is used when [Options] name none.
const DefaultSchema = "ocikit"

// Metadata is the index in a PostgreSQL database. It is safe for concurrent use, by any number of processes over one
// database. It holds nothing that must be closed: the pool is the caller's.
type Metadata struct {
	pool *pgxpool.Pool
	now  func() time.Time // nil: the database's clock

	schema     string   // as an identifier in statements
	statements sync.Map // text with placeholders → text
}

var _ store.Metadata = (*Metadata)(nil)

// New returns the index that is in the pool's database. It only looks at the schema's version, and fails with
// [ErrNoSchema], [ErrOlderSchema] or [ErrNewerSchema] when [Migrate], or another program, is needed first; with
// store.ErrUnavailable when the database cannot be reached now. options may be nil. The pool stays the caller's, who
// closes it after the last call; one connection is enough, and no call takes two.
func New(ctx context.Context, pool *pgxpool.Pool, options *Options) (*Metadata, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if err := checkVersion(ctx, pool, o.Schema); err != nil {
		return nil, fmt.Errorf("postgres: %w", classify(ctx, err))
	}
	return &Metadata{pool: pool, now: o.Now, schema: identifier(o.Schema)}, nil
}

// Ping reports, in one round trip, whether the index can be read and written: nil, or an error, which wraps
// store.ErrUnavailable when the database is out of reach for now, or takes no writes, as a standby does.
func (m *Metadata) Ping(ctx context.Context) error {
	// Looks at the server, and whether the tables can be read.
	readOnly, err := row(ctx, m, "ping", store.ErrUnavailable, `
		select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean,
			exists (select from {schema}.repositories where id = 0)`, nil,
		func(scan func(...any) error) (readOnly bool, err error) {
			err = scan(&readOnly, new(bool))
			return readOnly, err
		})
	if err != nil {
		return err
	}
	if readOnly {
		return fmt.Errorf("postgres: ping: %w: the database takes no writes", store.ErrUnavailable)
	}
	return nil
}

// schemaForm is what a schema's name must look like: it stands in statements, in migrations and on command lines.
var schemaForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,62}$`)

func (o *Options) withDefaults() (Options, error) {
	var filled Options
	if o != nil {
		filled = *o
	}
	if filled.Schema == "" {
		filled.Schema = DefaultSchema
	}
	if !schemaForm.MatchString(filled.Schema) {
		return Options{}, fmt.Errorf("schema %q: %w", filled.Schema, errSchemaName)
	}
	return filled, nil
}

var errSchemaName = errors.New("a name has letters, digits, hyphens and underscores, at most 63, and does not begin with a digit or a hyphen")

// identifier is the schema's name as it stands in a statement.
func identifier(schema string) string { return pgx.Identifier{schema}.Sanitize() }

// Placeholders of this package's statements.
const (
	// schemaPlaceholder stands for the schema's name, as an identifier.
	schemaPlaceholder = "{schema}"
	// nowPlaceholder stands for the time. Its statement's first argument is [Metadata.clock].
	nowPlaceholder = "{now}"
	// beganPlaceholder stands for the time at which the statement began: PostgreSQL knows it when it plans, so that it can tell how
	// many rows are older. Its statement's first argument is the same.
	beganPlaceholder = "{began}"
)

// statement returns the text that the database gets. It is made once for each statement.
func (m *Metadata) statement(text string) string {
	if made, ok := m.statements.Load(text); ok {
		return made.(string)
	}
	made := strings.NewReplacer(
		schemaPlaceholder, m.schema,
		nowPlaceholder, `coalesce($1::timestamptz, clock_timestamp())`,
		beganPlaceholder, `coalesce($1::timestamptz, statement_timestamp())`,
	).Replace(text)
	m.statements.Store(text, made)
	return made
}

// clock is the argument for {now}: a test's time, or nil for the database's own.
func (m *Metadata) clock() any {
	if m.now == nil {
		return nil
	}
	return m.now()
}
