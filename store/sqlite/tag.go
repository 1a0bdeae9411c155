package sqlite

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Tags implements [store.Catalog]. It is one statement.
func (m *Metadata) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	return read(ctx, m, "tags", func(c *connection) ([]string, error) {
		// One repository by its name, and a range of its tags by name, all in one state: a repository without tags is one
		// row of NULL, and an unknown one is none, also when no tag is asked for.
		names, err := values[*string](c, `
			select t.name from repositories r
			left join tags t on t.repository = r.id and t.name > ?2
			where r.name = ?1
			order by t.name limit ?3`,
			repository, after, max(limit, 1))
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, store.ErrRepositoryUnknown
		}
		tags := make([]string, 0, len(names))
		for _, name := range names[:min(len(names), max(limit, 0))] {
			if name != nil {
				tags = append(tags, *name)
			}
		}
		return tags, nil
	})
}

// DeleteTag implements [store.Catalog]. It is one statement.
func (m *Metadata) DeleteTag(ctx context.Context, repository, tag string) error {
	return change(ctx, m, "delete tag", func(tx *transaction) error {
		// One row by its key.
		deleted, err := tx.exec(`
			delete from tags
			where repository = (select id from repositories where name = ?1) and name = ?2`, repository, tag)
		if err != nil {
			return err
		}
		if deleted == 0 {
			return store.ErrManifestUnknown
		}
		return nil
	})
}

// moveTags points the put's tags to its manifest, all or none.
func (tx *transaction) moveTags(repository, manifest int64, put store.ManifestPut) error {
	for _, tag := range put.Tags {
		var current digest.Digest
		// One row of each table by its key. It stays as it is until the write lock is released.
		if _, err := tx.row(`
			select m.digest from tags t cross join manifests m on m.id = t.manifest
			where t.repository = ?1 and t.name = ?2`, []any{repository, tag}, &current); err != nil {
			return err
		}
		if !put.Condition.Met(current) {
			return store.ErrConditionFailed
		}
		if current != "" && current != put.Manifest.Digest && put.Locked != nil && put.Locked(tag) {
			return &store.TagLockedError{Tag: tag}
		}
	}
	if len(put.Tags) == 0 {
		return nil
	}
	// Rows by their keys. A tag that is moved has not been pulled.
	_, err := tx.exec(`
		insert into tags (repository, name, manifest, pushed) select ?1, value, ?3, ?4 from json_each(?2) where true
		on conflict (repository, name) do update
		set pulled = case when manifest = excluded.manifest then pulled end, manifest = excluded.manifest, pushed = excluded.pushed`,
		repository, list(put.Tags), manifest, tx.now.UnixNano())
	return err
}
