package sqlite

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Mirror = (*Metadata)(nil)

// mostForgotten is how many claims whose time is over a new one forgets at most.
const mostForgotten = 16

// MirroredTag implements [store.Mirror]. It is one statement.
func (m *Metadata) MirroredTag(ctx context.Context, repository, tag string) (store.MirroredTag, error) {
	return read(ctx, m, "mirrored tag", func(c *connection) (found store.MirroredTag, err error) {
		var annotations []byte
		var pushed int64
		// Reads one row of each table, by its key.
		known, err := c.row(`
			select m.digest, m.media_type, m.artifact_type, m.subject, m.annotations, c.inline, t.pushed
			from repositories r
			cross join tags t on t.repository = r.id and t.name = ?2
			cross join manifests m on m.id = t.manifest
			cross join contents c on c.digest = m.digest
			where r.name = ?1`, []any{repository, tag}, &found.Digest, &found.MediaType,
			&found.ArtifactType, &found.Subject, &annotations, &found.Bytes, &pushed)
		if err != nil {
			return store.MirroredTag{}, err
		}
		if !known {
			return store.MirroredTag{}, store.ErrManifestUnknown
		}
		found.Age = m.now().Sub(instant(pushed))
		found.Annotations, err = decodeAnnotations(annotations)
		return found, err
	})
}

// ConfirmTag implements [store.Mirror]. It is one statement.
func (m *Metadata) ConfirmTag(ctx context.Context, repository, tag string, d digest.Digest) error {
	return change(ctx, m, "confirm tag", func(tx *transaction) error {
		// One row by its key, and its manifest by the digest.
		confirmed, err := tx.exec(`
			update tags set pushed = ?4
			where repository = (select id from repositories where name = ?1) and name = ?2
				and manifest = (select id from manifests m where m.repository = tags.repository and m.digest = ?3)`,
			repository, tag, d, tx.now.UnixNano())
		if err == nil && confirmed == 0 {
			err = store.ErrManifestUnknown
		}
		return err
	})
}

// ClaimFetch implements [store.Mirror]. It is two statements.
func (m *Metadata) ClaimFetch(ctx context.Context, d digest.Digest, holder string, life time.Duration) (bool, error) {
	return write(ctx, m, "claim fetch", func(tx *transaction) (bool, error) {
		// A few rows from the beginning of the index by time.
		if _, err := tx.exec(`
			delete from fetches where digest in (select digest from fetches where until <= ?1 order by until limit ?2)`,
			tx.now.UnixNano(), mostForgotten); err != nil {
			return false, err
		}
		// One row by its key.
		claimed, err := tx.exec(`
			insert into fetches (digest, holder, until) values (?1, ?2, ?3)
			on conflict (digest) do update set holder = excluded.holder, until = excluded.until
			where holder = excluded.holder or until <= ?4`,
			d, holder, tx.now.Add(life).UnixNano(), tx.now.UnixNano())
		return claimed > 0, err
	})
}

// ReleaseFetch implements [store.Mirror]. It is one statement.
func (m *Metadata) ReleaseFetch(ctx context.Context, d digest.Digest, holder string) error {
	return change(ctx, m, "release fetch", func(tx *transaction) error {
		// One row by its key.
		_, err := tx.exec(`delete from fetches where digest = ?1 and holder = ?2`, d, holder)
		return err
	})
}

// isMirror is [store.IsMirror] of a column, as a range of the index by name.
func isMirror(name string) string { return fmt.Sprintf(`%[1]s >= '~' and %[1]s < char(127)`, name) }

// mirrored is the condition that a manifest of a mirrored repository whose id is less than before refers to content, or is it. It
// looks at links from the beginning of a range of the index by digest, and the first that counts is enough.
func mirrored(d, before string) string {
	return fmt.Sprintf(`exists (
		select 1 from links o cross join repositories p on p.id = o.repository
		where o.digest = %[1]s and o.repository < %[2]s and `+isMirror("p.name")+` and `+neededBy("p.id", "o.digest")+`)`, d, before)
}

// MirroredSize implements [store.Mirror]. It is one statement.
func (m *Metadata) MirroredSize(ctx context.Context, after store.ManifestAt, limit int) (store.MirroredPage, error) {
	return read(ctx, m, "add up what is mirrored", func(c *connection) (store.MirroredPage, error) {
		page, looked := store.MirroredPage{Last: after}, 0
		// A range of the index by name, and for each repository of its links. For each link a few rows by their keys, and the
		// first link to its content.
		_, err := rows(c, `
			select r.name, l.digest, c.size, `+neededBy("l.repository", "l.digest")+` and not `+mirrored("l.digest", "l.repository")+`
			from repositories r
			cross join links l on l.repository = r.id and l.digest > case when r.name = ?1 then ?2 else '' end
			cross join contents c on c.digest = l.digest
			where r.name >= ?1 and `+isMirror("r.name")+`
			order by r.name, l.digest limit ?3`,
			[]any{max(after.Repository, store.MirrorPrefix), after.Digest, max(limit, 0)},
			func(scan func(...any) error) (none struct{}, err error) {
				var size int64
				var counts bool
				if err := scan(&page.Last.Repository, &page.Last.Digest, &size, &counts); err != nil {
					return none, err
				}
				looked++
				if counts {
					page.Contents++
					page.Bytes += size
				}
				return none, nil
			})
		page.Done = looked < limit
		return page, err
	})
}

// EvictManifest implements [store.Mirror]. It is [Metadata.DeleteManifest] with two statements more.
func (m *Metadata) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (int64, error) {
	return write(ctx, m, "evict manifest", func(tx *transaction) (freed int64, err error) {
		err = tx.deleteManifest(eviction.Repository, eviction.Digest, deletion{
			may: func(_, id int64) error { return tx.evictable(id, eviction) },
			erased: func(inside int64, children []digest.Digest) error {
				if !slices.Contains(children, eviction.Digest) {
					children = append(children, eviction.Digest)
				}
				freed, err = tx.freed(inside, children)
				return err
			},
		})
		return freed, err
	})
}

// evictable fails with [store.ErrConditionFailed] unless a manifest may be evicted.
func (tx *transaction) evictable(id int64, eviction store.ManifestEviction) error {
	var evictable bool
	// One row by its key.
	_, err := tx.row(`select max(pushed, coalesce(pulled, pushed)) <= ?2 from manifests where id = ?1`,
		[]any{id, tx.now.Add(-eviction.Quiet).UnixNano()}, &evictable)
	if err == nil && (!evictable || !store.IsMirror(eviction.Repository)) {
		err = store.ErrConditionFailed
	}
	return err
}

// freed adds up what is here of contents, each of which is named once, that no manifest of a mirrored repository needs.
func (tx *transaction) freed(repository int64, digests []digest.Digest) (freed int64, err error) {
	// One row of each table by its key for each, and the first link to its content.
	_, err = tx.row(`
		select coalesce(sum(c.size), 0)
		from json_each(?2) j
		cross join links l on l.repository = ?1 and l.digest = j.value
		cross join contents c on c.digest = l.digest
		where not `+mirrored("l.digest", "0"), []any{repository, list(digests)}, &freed)
	return freed, err
}
