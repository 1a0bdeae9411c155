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

// Dependents implements [store.Auditor]. It is a statement for the repositories that hold the content, whose cost grows with their
// number, and one for each until the page is full, whose cost grows with the number of dependents in that repository.
func (m *Metadata) Dependents(ctx context.Context, d digest.Digest, after store.ManifestAt, limit int) ([]store.ManifestAt, error) {
	return read(ctx, m, "list dependents", func(c *connection) ([]store.ManifestAt, error) {
		var found []store.ManifestAt
		for name := after.Repository; ; {
			holders, err := dependentHolders(c, d, name, limit)
			if err != nil {
				return nil, err
			}
			for _, h := range holders {
				if len(found) >= limit {
					return found, nil
				}
				floor := digest.Digest("")
				if h.name == after.Repository {
					floor = after.Digest
				}
				page, err := dependentsIn(c, d, h, floor, limit-len(found))
				if err != nil {
					return nil, err
				}
				found = append(found, page...)
			}
			if len(holders) < limit || limit <= 0 {
				return found, nil
			}
			name = holders[len(holders)-1].name + "\x00" // the next one there can be
		}
	})
}

// holder is a repository that holds content.
type holder struct {
	id   int64
	name string
}

// dependentHolders returns the next repositories that hold content, by name, from one on.
func dependentHolders(c *connection, d digest.Digest, from string, limit int) ([]holder, error) {
	// The links to the content, and each repository by its id; sorted.
	return rows(c, `
		select r.id, r.name from links l cross join repositories r on r.id = l.repository
		where l.digest = ?1 and r.name > '/~' and r.name >= ?2 order by r.name limit ?3`,
		[]any{d, from, max(limit, 0)}, func(scan func(...any) error) (h holder, err error) {
			err = scan(&h.id, &h.name)
			return h, err
		})
}

// dependentsIn returns the next manifests of a repository that refer to content, or are it, by digest.
func dependentsIn(c *connection, d digest.Digest, in holder, after digest.Digest, limit int) ([]store.ManifestAt, error) {
	// A range of each of the indexes by child, of which a parent is in one, each parent by its id, and one manifest by its key; sorted, as
	// the indexes have a parent's id and not its digest. No more of it is kept than the page.
	return rows(c, `
		with dependents (id) as (
			select parent from edges where repository = ?1 and present = ?2
			union all
			select parent from edges where repository = ?1 and child = ?2 and present is null
			union all
			select id from manifests where repository = ?1 and digest = ?2)
		select m.digest from dependents d cross join manifests m on m.id = d.id
		where m.digest > ?3 order by m.digest limit ?4`,
		[]any{in.id, d, after, limit}, func(scan func(...any) error) (store.ManifestAt, error) {
			at := store.ManifestAt{Repository: in.name}
			err := scan(&at.Digest)
			return at, err
		})
}
