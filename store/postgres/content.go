package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// selectContent finds linked content. It reads one row of each table, by its key. Written as a join it would give the same plan,
// after several times as long for finding it.
const selectContent = `
	select size, coalesce(key, ''), case when key is null then inline end from {schema}.contents
	where missing is null and digest = (
		select digest from {schema}.links
		where repository = (select id from {schema}.repositories where name = $1) and digest = $2)`

func scanContent(d digest.Digest) func(scan func(...any) error) (store.Content, error) {
	return func(scan func(...any) error) (store.Content, error) {
		content := store.Content{Digest: d}
		err := scan(&content.Size, &content.Key, &content.Inline)
		return content, err
	}
}

// Content implements [store.Contents]. It is one statement, and one round trip.
func (m *Metadata) Content(ctx context.Context, repository string, d digest.Digest) (store.Content, error) {
	return row(ctx, m, "content", store.ErrContentUnknown, selectContent, []any{repository, d.String()}, scanContent(d))
}

// content queues a look at linked content.
func (tx *transaction) content(repository string, d digest.Digest) *[]store.Content {
	return rows(tx, selectContent, []any{repository, d.String()}, scanContent(d))
}

// RenewContent implements [store.Contents]. It is two statements, and one round trip.
func (m *Metadata) RenewContent(ctx context.Context, repository string, d digest.Digest, grace time.Duration) (store.Content, error) {
	var found *[]store.Content
	err := change(ctx, m, "renew content", func(_ context.Context, tx *transaction) error {
		// Touches one candidate by its key, and waits for a collector that has locked it. The look comes after that, in a
		// statement of its own: so it sees what the collector has left, and what it sees is safe for grace/2.
		tx.exec(`
			update {schema}.candidates set touched = {now}
			where repository = $2 and digest = $3 and touched < {now} - $4::interval
				and exists (select from {schema}.links
					where repository = (select id from {schema}.repositories where name = $2) and digest = $3)`,
			m.clock(), repository, d.String(), grace/2)
		found = tx.content(repository, d)
		return nil
	})
	if err != nil {
		return store.Content{}, err
	}
	content, known := first(found)
	if !known {
		return store.Content{}, fmt.Errorf("postgres: renew content: %w", store.ErrContentUnknown)
	}
	return content, nil
}

// PutContent implements [store.Contents]. It is four statements, and one round trip.
func (m *Metadata) PutContent(ctx context.Context, repository string, content store.Content) error {
	return change(ctx, m, "put content", func(_ context.Context, tx *transaction) error {
		tx.touch(repository, content.Digest)
		tx.record(content)
		tx.appear(repository)
		tx.link(repository, content.Digest)
		return nil
	})
}

// record queues the statement that writes where content is, and condemns the key that it replaces: the newest verified one
// wins.
func (tx *transaction) record(content store.Content) {
	inline := content.Inline
	switch {
	case !content.IsInline():
		inline = nil
	case inline == nil:
		inline = []byte{} // not NULL
	}
	// Locks the content's row, for no key update, or inserts it; also one that a collector is deleting is waited for, and then
	// inserted. The row that is replaced is the one that was looked at, or it stays: then somebody else has replaced it since,
	// and it is as if they had come after. Either way each key that was named is named on or becomes garbage. Inline bytes
	// stay beside a key: manifests are read from them. What is there already is locked and not written. What either key is of has
	// the same digest, and so the same size.
	tx.exec(`
		with old as (
			select key from {schema}.contents where digest = $2
		), written as (
			insert into {schema}.contents as c (digest, size, key, inline) values ($2, $3, $4, $5)
			on conflict (digest) do update
			set size = excluded.size, key = excluded.key, inline = coalesce(excluded.inline, c.inline), missing = null
			where c.key = excluded.key or c.key is not distinct from (select key from old)
				and (c.key is not null or excluded.key is not null or c.missing is not null)
			returning 1
		)
		insert into {schema}.garbage (key, condemned, size)
		select case when exists (select from written) then old.key else $4 end, {now}, $3
		from (select 1) always left join old on true
		where old.key is distinct from $4
			and case when exists (select from written) then old.key else $4 end is not null
		on conflict (key) do update set condemned = excluded.condemned, size = excluded.size`,
		tx.m.clock(), content.Digest.String(), content.Size, optional(content.Key), inline)
}

// optional is the column of a key that may be absent.
func optional(key store.Key) *string {
	if key == "" {
		return nil
	}
	text := string(key)
	return &text
}

// DeleteContent implements [store.Catalog]. It is eight statements, nine if the repository goes with it, and two round trips.
func (m *Metadata) DeleteContent(ctx context.Context, repository string, d digest.Digest) error {
	return change(ctx, m, "delete content", func(ctx context.Context, tx *transaction) error {
		tx.touch(repository, d)
		lock := tx.lockLink(repository, d)
		// One row by its key.
		manifest := values[bool](tx, `
			select exists (select from {schema}.manifests
				where repository = (select id from {schema}.repositories where name = $1) and digest = $2)`,
			repository, d.String())
		parent := tx.parent(repository, d)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		link, err := lock.link()
		if err != nil {
			return err
		}
		if link == nil {
			return store.ErrContentUnknown
		}
		if (*manifest)[0] {
			return &store.ReferencedError{By: d}
		}
		if by := (*parent)[0]; by != "" {
			return &store.ReferencedError{By: by}
		}
		tx.unlink(*link, d)
		return nil
	})
}
