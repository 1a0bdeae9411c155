package postgres

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Tags implements [store.Catalog]. It is one statement, and one round trip.
func (m *Metadata) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	// One repository by its name, and a range of its tags by name, all in one state: a repository without tags is an empty
	// array, and an unknown one is no row.
	return row(ctx, m, "tags", store.ErrRepositoryUnknown, `
		select array(select name from {schema}.tags where repository = r.id and name > $2 order by name limit $3)
		from {schema}.repositories r where r.name = $1`,
		[]any{repository, position(after), max(limit, 0)}, scanOne[[]string])
}

// DeleteTag implements [store.Catalog]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) DeleteTag(ctx context.Context, repository, tag string) error {
	// One row by its key. A transaction that moves it is waited for, and then deletes what it has moved.
	deleted, err := single(ctx, m, "delete tag", `
		delete from {schema}.tags
		where repository = (select id from {schema}.repositories where name = $1) and name = $2
		returning name`,
		[]any{repository, tag}, scanOne[string])
	if err == nil && len(deleted) == 0 {
		err = fmt.Errorf("postgres: delete tag: %w", store.ErrManifestUnknown)
	}
	return err
}

// claimedTags is what [transaction.claimTags] will know.
type claimedTags struct {
	created  *[]string // that were absent
	existing *[]existingTag
}

type existingTag struct {
	name   string
	digest digest.Digest
	stale  bool // it was pushed more than a minute ago
}

// claimTags queues the statements that lock the put's tags: those that are absent are created, as the put wants them, and the
// others stay as they are for the moment.
func (tx *transaction) claimTags(put store.ManifestPut) (tags claimedTags) {
	if len(put.Tags) == 0 {
		return tags
	}
	names := sorted(put.Tags)
	// Rows by their keys, in order. Who creates one at the same time is waited for.
	tags.created = values[string](tx, `
		insert into {schema}.tags (repository, name, digest, pushed)
		select r.id, n, $3, {now} from (select (select id from {schema}.repositories where name = $2)) r (id), unnest($4::text[]) n
		on conflict do nothing
		returning name`,
		tx.m.clock(), put.Repository, put.Manifest.Digest.String(), names)
	// Locks rows by their keys, in order, and tells what they point to once whoever moves them has done.
	tags.existing = rows(tx, `
		select locked.name, locked.digest, locked.pushed <= {now} - interval '1 minute' from unnest($3::text[]) n
		cross join lateral (
			select name, digest, pushed from {schema}.tags
			where repository = (select id from {schema}.repositories where name = $2) and name = n for update
		) locked`,
		[]any{tx.m.clock(), put.Repository, names}, func(scan func(...any) error) (tag existingTag, err error) {
			err = scan(&tag.name, &tag.digest, &tag.stale)
			return tag, err
		})
	return tags
}

// moveTags queues the statements that point the put's tags to its manifest, all or none.
func (tx *transaction) moveTags(put store.ManifestPut, tags claimedTags) error {
	if len(put.Tags) == 0 {
		return nil
	}
	current, stale := map[string]digest.Digest{}, map[string]bool{}
	for _, tag := range *tags.existing {
		current[tag.name], stale[tag.name] = tag.digest, tag.stale
	}
	for _, name := range *tags.created {
		current[name], stale[name] = "", false
	}
	var moved []string
	for _, tag := range put.Tags {
		now, known := current[tag]
		if !known {
			return errAgain // it was there, and was deleted before it could be locked
		}
		if !put.Condition.Met(now) {
			return store.ErrConditionFailed
		}
		if now == "" || now == put.Manifest.Digest && !stale[tag] {
			continue
		}
		if now != put.Manifest.Digest && put.Locked != nil && put.Locked(tag) {
			return &store.TagLockedError{Tag: tag}
		}
		moved = append(moved, tag)
	}
	for _, tag := range sorted(moved) {
		// One row by its key, which is locked. A tag that is moved has not been pulled.
		tx.exec(`
			update {schema}.tags set pulled = case when digest = $4 then pulled end, digest = $4, pushed = {now}
			where repository = (select id from {schema}.repositories where name = $2) and name = $3`,
			tx.m.clock(), put.Repository, tag, put.Manifest.Digest.String())
	}
	return nil
}
