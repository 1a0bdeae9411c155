package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Retention = (*Metadata)(nil)

// RecordPulls implements [store.Retention]. It is two statements, and one round trip.
func (m *Metadata) RecordPulls(ctx context.Context, pulls []store.Pull) error {
	pulls = slices.SortedFunc(slices.Values(pulls), func(a, b store.Pull) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.Tag, b.Tag))
	})
	var repositories, digests, tags []string
	for _, pull := range pulls {
		repositories, digests, tags = append(repositories, pull.Repository), append(digests, pull.Digest.String()), append(tags, pull.Tag)
	}
	return change(ctx, m, "record pulls", func(_ context.Context, tx *transaction) error {
		// Rows by their keys, in order. They are locked as an update of no key locks them: nobody who refers to one waits.
		tx.exec(`
			update {schema}.manifests m set pulled = {now} from (
				select locked.repository, locked.digest from unnest($2::text[], $3::text[]) k (name, digest)
				cross join lateral (
					select repository, digest from {schema}.manifests
					where repository = (select id from {schema}.repositories where name = k.name) and digest = k.digest
						and (pulled is null or pulled <= {now} - interval '1 hour')
					for no key update
				) locked
			) pulled
			where m.repository = pulled.repository and m.digest = pulled.digest`,
			m.clock(), repositories, digests)
		// The same, of tags that still point there.
		tx.exec(`
			update {schema}.tags t set pulled = {now} from (
				select locked.repository, locked.name from unnest($2::text[], $3::text[], $4::text[]) k (name, digest, tag)
				cross join lateral (
					select repository, name from {schema}.tags
					where repository = (select id from {schema}.repositories where name = k.name) and name = k.tag and digest = k.digest
						and (pulled is null or pulled <= {now} - interval '1 hour')
					for no key update
				) locked
			) pulled
			where t.repository = pulled.repository and t.name = pulled.name`,
			m.clock(), repositories, digests, tags)
		return nil
	})
}

// ManifestRecords implements [store.Retention]. It is one statement, and one round trip.
func (m *Metadata) ManifestRecords(ctx context.Context, repository string, after digest.Digest, limit int) ([]store.ManifestRecord, error) {
	// A range of the key, and for each manifest the beginning of a range of each index.
	return query(ctx, m, "list manifest records", `
		select m.digest, m.media_type, m.size, m.subject, m.pushed, m.pulled,
			coalesce((select true from {schema}.tags t where t.repository = m.repository and t.digest = m.digest limit 1), false),
			coalesce(
				(select true from {schema}.edges e where e.repository = m.repository and e.present = m.digest limit 1),
				(select true from {schema}.edges e where e.repository = m.repository and e.child = m.digest and e.present is null limit 1), false)
		from {schema}.manifests m
		where m.repository = (select id from {schema}.repositories where name = $1) and m.digest > $2
		order by m.digest limit $3`,
		[]any{repository, after.String(), max(limit, 0)}, func(scan func(...any) error) (record store.ManifestRecord, err error) {
			var pulled *time.Time
			if err := scan(&record.Digest, &record.MediaType, &record.Size, &record.Subject, &record.Pushed, &pulled,
				&record.Tagged, &record.Parent); err != nil {
				return record, err
			}
			record.Pushed, record.Pulled = record.Pushed.UTC(), timeOrNone(pulled)
			record.MediaType, err = decodeText(record.MediaType)
			return record, err
		})
}

// TagRecords implements [store.Retention]. It is one statement, and one round trip.
func (m *Metadata) TagRecords(ctx context.Context, repository, after string, limit int) ([]store.TagRecord, error) {
	// A range of the key.
	return query(ctx, m, "list tag records", `
		select name, digest, pushed, pulled from {schema}.tags
		where repository = (select id from {schema}.repositories where name = $1) and name > $2
		order by name limit $3`,
		[]any{repository, position(after), max(limit, 0)}, func(scan func(...any) error) (record store.TagRecord, err error) {
			var pulled *time.Time
			err = scan(&record.Name, &record.Digest, &record.Pushed, &pulled)
			record.Pushed, record.Pulled = record.Pushed.UTC(), timeOrNone(pulled)
			return record, err
		})
}

// timeOrNone is the time of a column that may be NULL.
func timeOrNone(column *time.Time) time.Time {
	if column == nil {
		return time.Time{}
	}
	return column.UTC()
}

// ExpireManifest implements [store.Retention]. It is [Metadata.DeleteManifest].
func (m *Metadata) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	return m.deleteManifest(ctx, "expire manifest", expiry.Repository, expiry.Digest, deletion{may: func(f family) error {
		if len(f.tags) > 0 || f.now.Sub(f.last) < expiry.Quiet || expiry.Orphan && f.subject {
			return store.ErrConditionFailed
		}
		if !expiry.PushedBy.IsZero() && f.pushed.After(expiry.PushedBy) {
			return store.ErrConditionFailed
		}
		return nil
	}})
}

// ExpireTag implements [store.Retention]. It is two statements, and two round trips.
func (m *Metadata) ExpireTag(ctx context.Context, expiry store.TagExpiry) error {
	return change(ctx, m, "expire tag", func(ctx context.Context, tx *transaction) error {
		type lockedTag struct {
			repository int64
			expired    bool
		}
		// One row by its key, which is locked: nobody moves it from here on.
		found := rows(tx, `
			select repository, digest = $4 and greatest(pushed, pulled) <= {now} - $5::interval from {schema}.tags
			where repository = (select id from {schema}.repositories where name = $2) and name = $3 for update`,
			[]any{m.clock(), expiry.Repository, expiry.Tag, expiry.Digest.String(), expiry.Quiet},
			func(scan func(...any) error) (tag lockedTag, err error) {
				err = scan(&tag.repository, &tag.expired)
				return tag, err
			})
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		tag, ok := first(found)
		switch {
		case !ok:
			return store.ErrManifestUnknown
		case !tag.expired:
			return store.ErrConditionFailed
		}
		// One row by its key, which is the one that is locked: the repository's name is not, and may be another one's by now.
		tx.exec(`delete from {schema}.tags where repository = $1 and name = $2`, tag.repository, expiry.Tag)
		return nil
	})
}
