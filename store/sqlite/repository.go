package sqlite

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Repositories implements [store.Catalog]. It is one statement.
func (m *Metadata) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	return read(ctx, m, "repositories", func(c *connection) ([]string, error) {
		// A range of the index by name, after those that were deleted.
		return values[string](c, `select name from repositories where name > max(?1, '/~') order by name limit ?2`,
			after, max(limit, 0))
	})
}

// Holders implements [store.Catalog]. It is one statement, whose cost grows with the number of holders.
func (m *Metadata) Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error) {
	return read(ctx, m, "holders", func(c *connection) ([]string, error) {
		// The holders' links, each one's name by its id, sorted. The order of the tables is forced: the other way round it would
		// look at every repository.
		return values[string](c, `
			select r.name from links l cross join repositories r on r.id = l.repository
			where l.digest = ?1 and r.name > max(?2, '/~')
			order by r.name limit ?3`,
			d, after, max(limit, 0))
	})
}

// Mount implements [store.Catalog]. It is four statements, and one more when the repository is new.
func (m *Metadata) Mount(ctx context.Context, d digest.Digest, from, to string) (store.Content, error) {
	return write(ctx, m, "mount content", func(tx *transaction) (store.Content, error) {
		if err := tx.touch(to, d); err != nil {
			return store.Content{}, err
		}
		content, err := tx.content(from, d)
		if err != nil {
			return store.Content{}, err
		}
		id, err := tx.repository(to)
		if err != nil {
			return store.Content{}, err
		}
		return content, tx.link(id, d)
	})
}

// repository returns the id of the repository, which appears if it was not there. The caller's next step is a link to it.
func (tx *transaction) repository(name string) (int64, error) {
	var id int64
	// One row by its name.
	found, err := tx.row(`select id from repositories where name = ?1`, []any{name}, &id)
	if err != nil || found {
		return id, err
	}
	// One row; that it is absent cannot change while the write lock is held.
	statement := `insert into repositories (name) values (?1) returning id`
	if store.IsMirror(name) {
		// The same, with the beginning of the key.
		statement = `
			insert into repositories (id, name) values ((select min(coalesce(min(id), 0), 0) - 1 from repositories), ?1) returning id`
	}
	_, err = tx.row(statement, []any{name}, &id)
	return id, err
}
