package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Mirror = (*Metadata)(nil)

// mostForgotten is how many claims whose time is over a new one forgets at most.
const mostForgotten = 16

// MirroredTag implements [store.Mirror]. It is one statement, and one round trip.
func (m *Metadata) MirroredTag(ctx context.Context, repository, tag string) (store.MirroredTag, error) {
	// Reads one row of each table, by its key. As a join of all it would take long to plan, as in selectContent.
	return row(ctx, m, "mirrored tag", store.ErrManifestUnknown, `
		select m.digest, m.media_type, m.artifact_type, m.subject, m.annotations,
			(select inline from {schema}.contents c where c.digest = m.digest), t.pushed, {now}
		from {schema}.tags t
		cross join lateral (
			select * from {schema}.manifests where repository = t.repository and digest = t.digest limit 1
		) m
		where t.repository = (select id from {schema}.repositories where name = $2) and t.name = $3`,
		[]any{m.clock(), repository, tag}, func(scan func(...any) error) (found store.MirroredTag, err error) {
			var annotations []byte
			var pushed, now time.Time
			if err := scan(&found.Digest, &found.MediaType, &found.ArtifactType, &found.Subject,
				&annotations, &found.Bytes, &pushed, &now); err != nil {
				return store.MirroredTag{}, err
			}
			found.Age = now.Sub(pushed)
			found.MediaType, found.ArtifactType, found.Annotations, err = decodeDescription(
				found.MediaType, found.ArtifactType, annotations)
			return found, err
		})
}

// ConfirmTag implements [store.Mirror]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) ConfirmTag(ctx context.Context, repository, tag string, d digest.Digest) error {
	// One row by its key. A transaction that moves it is waited for, and then it is left alone.
	confirmed, err := single(ctx, m, "confirm tag", `
		update {schema}.tags set pushed = {now}
		where repository = (select id from {schema}.repositories where name = $2) and name = $3 and digest = $4
		returning name`,
		[]any{m.clock(), repository, tag, d.String()}, scanOne[string])
	if err == nil && len(confirmed) == 0 {
		err = fmt.Errorf("postgres: confirm tag: %w", store.ErrManifestUnknown)
	}
	return err
}

// ClaimFetch implements [store.Mirror]. It is two statements, and one round trip.
func (m *Metadata) ClaimFetch(ctx context.Context, d digest.Digest, holder string, life time.Duration) (bool, error) {
	var claimed *[]string
	err := change(ctx, m, "claim fetch", func(_ context.Context, tx *transaction) error {
		// One row by its key. Who claims it at the same time is waited for, and what he has written decides.
		claimed = values[string](tx, `
			insert into {schema}.fetches as f (digest, holder, until) values ($2, $3, {now} + $4::interval)
			on conflict (digest) do update set holder = excluded.holder, until = excluded.until
			where f.holder = excluded.holder or f.until <= {now}
			returning digest`,
			m.clock(), d.String(), holder, life)
		// A few rows from the beginning of the index by time. It comes second and waits for nobody, so that there is no circle.
		tx.exec(`
			delete from {schema}.fetches where ctid = any(array(
				select ctid from {schema}.fetches where until <= {began} and digest <> $2
				order by until limit $3 for update skip locked))`,
			m.clock(), d.String(), mostForgotten)
		return nil
	})
	return err == nil && len(*claimed) > 0, err
}

// ReleaseFetch implements [store.Mirror]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) ReleaseFetch(ctx context.Context, d digest.Digest, holder string) error {
	// One row by its key.
	_, err := single(ctx, m, "release fetch", `
		delete from {schema}.fetches where digest = $1 and holder = $2 returning digest`,
		[]any{d.String(), holder}, scanOne[string])
	return err
}

// isMirror is [store.IsMirror] of a column, as a range of the index by name.
func isMirror(name string) string {
	return fmt.Sprintf(`%[1]s >= '~' and %[1]s < chr(127) collate "C"`, name)
}

// mirrored is the condition that a manifest of a mirrored repository whose id is less than before refers to content, or is it. It
// looks at links from the beginning of a range of the index by digest, and the first that counts is enough.
func mirrored(d, before string) string {
	return fmt.Sprintf(`coalesce((
		select true from {schema}.links o
		cross join lateral (select id, name from {schema}.repositories where id = o.repository limit 1) p
		where o.digest = %[1]s and o.repository < %[2]s and `+isMirror("p.name")+` and `+neededBy("p.id", "o.digest")+` limit 1), false)`, d, before)
}

// MirroredSize implements [store.Mirror]. It is one statement, and one round trip.
func (m *Metadata) MirroredSize(ctx context.Context, after store.ManifestAt, limit int) (store.MirroredPage, error) {
	page, looked := store.MirroredPage{Last: after}, 0
	type link struct {
		at     store.ManifestAt
		size   int64
		counts bool
	}
	// The beginning of a range of the index by name (each repository but the first has some link to show), and for each repository
	// of a range of its links, of which no more than the page are read. For each link a few rows by their keys, and the first link
	// to its content.
	links, err := query(ctx, m, "add up what is mirrored", `
		select l.name, l.digest,
			coalesce((select size from {schema}.contents c where c.digest = l.digest), 0),
			`+neededBy("l.repository", "l.digest")+` and not `+mirrored("l.digest", "l.repository")+`
		from (
			select r.name, k.repository, k.digest
			from (
				select id, name from {schema}.repositories where name >= $1 and `+isMirror("name")+` order by name limit $3 + 1
			) r
			cross join lateral (
				select repository, digest from {schema}.links
				where repository = r.id and digest > case when r.name = $1 then $2 else '' end
				order by digest limit $3
			) k
			order by r.name, k.digest limit $3
		) l
		order by l.name, l.digest`,
		[]any{max(after.Repository, store.MirrorPrefix), after.Digest.String(), max(limit, 0)},
		func(scan func(...any) error) (l link, err error) {
			err = scan(&l.at.Repository, &l.at.Digest, &l.size, &l.counts)
			return l, err
		})
	if err != nil {
		return store.MirroredPage{}, err
	}
	for _, l := range links {
		page.Last, looked = l.at, looked+1
		if l.counts {
			page.Contents++
			page.Bytes += l.size
		}
	}
	page.Done = looked < limit
	return page, nil
}

// EvictManifest implements [store.Mirror]. It is [Metadata.DeleteManifest] with one statement more.
func (m *Metadata) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (int64, error) {
	freed := new([]int64)
	err := m.deleteManifest(ctx, "evict manifest", eviction.Repository, eviction.Digest, deletion{
		may: func(f family) error {
			if !store.IsMirror(eviction.Repository) || f.now.Sub(f.last) < eviction.Quiet {
				return store.ErrConditionFailed
			}
			return nil
		},
		erased: func(tx *transaction, repository int64, children []string) {
			freed = tx.freed(repository, append(children, eviction.Digest.String()))
		},
	})
	if err != nil {
		return 0, err
	}
	bytes, _ := first(freed)
	return bytes, nil
}

// freed queues a look at what is here of contents, which are candidates: the sum of those that no manifest of a mirrored repository
// needs. What others evict at the same time is still needed in its eyes.
func (tx *transaction) freed(repository int64, digests []string) *[]int64 {
	// One row of each table by its key for each, and the first link to its content.
	return values[int64](tx, `
		select coalesce(sum((
			select size from {schema}.contents
			where digest = (select digest from {schema}.links where repository = $1 and digest = k) and not `+mirrored("k", "0")+`
		)), 0)::bigint
		from unnest($2::text[]) k`,
		repository, sorted(digests))
}
