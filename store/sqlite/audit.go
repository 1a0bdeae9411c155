package sqlite

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Auditor = (*Metadata)(nil)

// unknownKeys is the query for those of a list of keys that no row names: rows by each of the indexes by key, and the sessions
// that are under way.
const unknownKeys = `
	select j.value from json_each(?1) j
	where not exists (select 1 from contents where key = j.value)
		and not exists (select 1 from garbage where key = j.value)
		and not exists (select 1 from tails where key = j.value)
		and j.value not in (
			select reserved_blob from sessions indexed by sessions_under_way where state <> 2
			union all select reserved_tail from sessions indexed by sessions_under_way where state <> 2
			union all select multipart_key from sessions indexed by sessions_under_way where state <> 2)`

// UnknownKeys implements [store.Auditor]. It is one statement.
func (m *Metadata) UnknownKeys(ctx context.Context, keys []store.Key) ([]store.Key, error) {
	return read(ctx, m, "look for keys", func(c *connection) ([]store.Key, error) {
		return values[store.Key](c, unknownKeys, list(keys))
	})
}

// CondemnKeys implements [store.Auditor]. It is at most two statements.
func (m *Metadata) CondemnKeys(ctx context.Context, keys []store.Key) ([]store.Key, error) {
	return write(ctx, m, "condemn keys", func(tx *transaction) ([]store.Key, error) {
		unknown, err := values[store.Key](tx.connection, unknownKeys, list(keys))
		if err != nil {
			return nil, err
		}
		return unknown, tx.condemn(store.GarbageOf(unknown, nil)...)
	})
}

// StoredContents implements [store.Auditor]. It is one statement.
func (m *Metadata) StoredContents(ctx context.Context, after store.Key, limit int) ([]store.StoredContent, error) {
	return read(ctx, m, "list contents", func(c *connection) ([]store.StoredContent, error) {
		// A range of the index by key.
		return rows(c, `
			select key, digest, size, missing is not null from contents where key is not null and key > ?1 order by key limit ?2`,
			[]any{after, max(limit, 0)}, func(scan func(...any) error) (stored store.StoredContent, err error) {
				err = scan(&stored.Key, &stored.Digest, &stored.Size, &stored.Missing)
				return stored, err
			})
	})
}

// MarkContent implements [store.Auditor]. It is one statement.
func (m *Metadata) MarkContent(ctx context.Context, d digest.Digest, key store.Key, missing bool) (bool, error) {
	return write(ctx, m, "mark content", func(tx *transaction) (bool, error) {
		// One row by its key.
		changed, err := tx.exec(`
			update contents set missing = case when ?3 then ?4 end
			where digest = ?1 and key = ?2 and (missing is not null) <> ?3`, d, key, missing, tx.now.UnixNano())
		return changed > 0, err
	})
}

// Dependents implements [store.Auditor]. It is one statement, whose cost grows with the number of dependents.
func (m *Metadata) Dependents(ctx context.Context, d digest.Digest, after store.ManifestAt, limit int) ([]store.ManifestAt, error) {
	return read(ctx, m, "list dependents", func(c *connection) ([]store.ManifestAt, error) {
		// The links to the content, for each a range of each of the indexes by child, and each parent by its id; sorted.
		return rows(c, `
			with dependents (repository, id) as (
				select l.repository, e.parent from links l
				cross join edges e on e.repository = l.repository and e.present = ?1 where l.digest = ?1
				union
				select l.repository, e.parent from links l
				cross join edges e on e.repository = l.repository and e.child = ?1 and e.present is null where l.digest = ?1
				union
				select l.repository, m.id from links l
				cross join manifests m on m.repository = l.repository and m.digest = ?1 where l.digest = ?1)
			select r.name, m.digest from dependents d
			cross join repositories r on r.id = d.repository
			cross join manifests m on m.id = d.id
			where r.name > '/~' and (r.name, m.digest) > (?2, ?3)
			order by r.name, m.digest limit ?4`,
			[]any{d, after.Repository, after.Digest, max(limit, 0)}, func(scan func(...any) error) (at store.ManifestAt, err error) {
				err = scan(&at.Repository, &at.Digest)
				return at, err
			})
	})
}
