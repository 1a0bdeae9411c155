package sqlite

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Content implements [store.Contents]. It is one statement.
func (m *Metadata) Content(ctx context.Context, repository string, d digest.Digest) (store.Content, error) {
	return read(ctx, m, "content", func(c *connection) (store.Content, error) { return c.content(repository, d) })
}

// content returns linked content, else [store.ErrContentUnknown].
func (c *connection) content(repository string, d digest.Digest) (store.Content, error) {
	content := store.Content{Digest: d}
	// Reads one row of each table, by its key.
	found, err := c.row(`
		select c.size, coalesce(c.key, ''), case when c.key is null then c.inline end
		from repositories r
		cross join links l on l.repository = r.id and l.digest = ?2
		cross join contents c on c.digest = l.digest
		where r.name = ?1 and c.missing is null`,
		[]any{repository, d}, &content.Size, &content.Key, &content.Inline)
	if err != nil {
		return store.Content{}, err
	}
	if !found {
		return store.Content{}, store.ErrContentUnknown
	}
	return content, nil
}

// RenewContent implements [store.Contents]. It is one statement, or three when the candidate must be touched, of which two
// are an event.
func (m *Metadata) RenewContent(ctx context.Context, repository string, d digest.Digest, grace time.Duration) (store.Content, error) {
	// The query sees one state: content that is linked in it, and no candidate or a fresh one, needs nothing.
	var due bool
	content, err := read(ctx, m, "renew content", func(c *connection) (content store.Content, err error) {
		content, due, err = c.renewal(repository, d, grace, m.now())
		return content, err
	})
	if err != nil || !due {
		return content, err
	}
	return write(ctx, m, "renew content", func(tx *transaction) (store.Content, error) {
		// Touches one candidate by its key. The write lock is held since the beginning: whatever a collector did, it did
		// before, and the look that follows sees it.
		if _, err := tx.exec(`update candidates set touched = ?3 where repository = ?1 and digest = ?2`,
			repository, d, tx.now.UnixNano()); err != nil {
			return store.Content{}, err
		}
		return tx.content(repository, d)
	})
}

// renewal is content, and tells whether the content is a candidate that must be touched before anybody is told of it.
func (c *connection) renewal(repository string, d digest.Digest, grace time.Duration, now time.Time) (store.Content, bool, error) {
	content := store.Content{Digest: d}
	var touched *int64
	// Reads one row of each table, by its key.
	found, err := c.row(`
		select c.size, coalesce(c.key, ''), case when c.key is null then c.inline end, k.touched
		from repositories r
		cross join links l on l.repository = r.id and l.digest = ?2
		cross join contents c on c.digest = l.digest
		left join candidates k on k.repository = ?1 and k.digest = ?2
		where r.name = ?1 and c.missing is null`,
		[]any{repository, d}, &content.Size, &content.Key, &content.Inline, &touched)
	if err != nil {
		return store.Content{}, false, err
	}
	if !found {
		return store.Content{}, false, store.ErrContentUnknown
	}
	due := touched != nil && grace-now.Sub(time.Unix(0, *touched)) < grace/2
	return content, due, nil
}

// PutContent implements [store.Contents]. It is five statements, and one more each when the repository is new or an object
// is replaced.
func (m *Metadata) PutContent(ctx context.Context, repository string, content store.Content) error {
	return change(ctx, m, "put content", func(tx *transaction) error {
		return tx.putContent(repository, content)
	})
}

// putContent records and links content, and makes it a candidate.
func (tx *transaction) putContent(repository string, content store.Content) error {
	if err := tx.touch(repository, content.Digest); err != nil {
		return err
	}
	if err := tx.record(content); err != nil {
		return err
	}
	id, err := tx.repository(repository)
	if err != nil {
		return err
	}
	return tx.link(id, content.Digest)
}

// record writes where content is, and condemns the key that it replaces.
func (tx *transaction) record(content store.Content) error {
	var replaced store.Key
	// One row by its key.
	_, err := tx.row(`select key from contents where digest = ?1 and key is not null`, []any{content.Digest}, &replaced)
	if err != nil {
		return err
	}
	if replaced != "" && replaced != content.Key {
		if err := tx.condemn(store.Garbage{Key: replaced, Unfinished: true, Size: content.Size}); err != nil {
			return err
		}
	}
	inline := content.Inline
	switch {
	case !content.IsInline():
		inline = nil
	case inline == nil:
		inline = []byte{} // not NULL
	}
	// One row by its key. Inline bytes stay beside a key: manifests are read from them.
	_, err = tx.exec(`
		insert into contents (digest, size, key, inline) values (?1, ?2, nullif(?3, ''), ?4)
		on conflict (digest) do update
		set size = excluded.size, key = excluded.key, inline = coalesce(excluded.inline, inline), missing = null`,
		content.Digest, content.Size, content.Key, inline)
	return err
}

// link makes recorded content visible in the repository.
func (tx *transaction) link(repository int64, d digest.Digest) error {
	// One row by its key.
	_, err := tx.exec(`insert into links (repository, digest) values (?1, ?2) on conflict do nothing`, repository, d)
	return err
}

// DeleteContent implements [store.Catalog]. It is six statements.
func (m *Metadata) DeleteContent(ctx context.Context, repository string, d digest.Digest) error {
	return change(ctx, m, "delete content", func(tx *transaction) error {
		if err := tx.touch(repository, d); err != nil {
			return err
		}
		id, found, err := tx.linked(repository, d)
		if err != nil {
			return err
		}
		if !found {
			return store.ErrContentUnknown
		}
		// One row by its key.
		manifest, err := tx.row(`select 1 from manifests where repository = ?1 and digest = ?2`, []any{id, d}, new(int))
		if err != nil {
			return err
		}
		if manifest {
			return &store.ReferencedError{By: d}
		}
		if err := tx.unreferenced(id, d); err != nil {
			return err
		}
		return tx.unlink(id, d)
	})
}

// linked returns the repository's id if it links to the content.
func (tx *transaction) linked(repository string, d digest.Digest) (id int64, found bool, err error) {
	// One row of each table, by its key.
	found, err = tx.row(`
		select r.id from repositories r cross join links l on l.repository = r.id and l.digest = ?2
		where r.name = ?1`, []any{repository, d}, &id)
	return id, found, err
}

// unreferenced fails with a [*store.ReferencedError], which names the smallest digest, when a manifest of the repository,
// other than itself, refers to the content, present or not.
func (tx *transaction) unreferenced(repository int64, d digest.Digest) error {
	var by digest.Digest
	// A range of each of the two indexes by child, and each one's manifest by its id.
	if _, err := tx.row(`
		select coalesce(min(m.digest), '') from manifests m
		where m.digest <> ?2 and m.id in (
			select parent from edges where repository = ?1 and present = ?2
			union all
			select parent from edges where repository = ?1 and child = ?2 and present is null)`,
		[]any{repository, d}, &by); err != nil {
		return err
	}
	if by != "" {
		return &store.ReferencedError{By: by}
	}
	return nil
}

// unlink takes content out of the repository, which goes with its last link. It stays a content until the collector has
// reviewed it.
func (tx *transaction) unlink(repository int64, d digest.Digest) error {
	// One row by its key; foreign keys see to it that no edge and no manifest still needs it.
	if _, err := tx.exec(`delete from links where repository = ?1 and digest = ?2`, repository, d); err != nil {
		return err
	}
	return tx.vanish(repository)
}

// vanish deletes the repository if it has no link.
func (tx *transaction) vanish(repository int64) error {
	// One row by its key, and a look at one link. With the write lock held, no link can come in between.
	_, err := tx.exec(`
		delete from repositories
		where id = ?1 and not exists (select 1 from links where repository = ?1)`, repository)
	return err
}
