package sqlite

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Retention = (*Metadata)(nil)

// RecordPulls implements [store.Retention]. It is two statements for each pull, in one event.
func (m *Metadata) RecordPulls(ctx context.Context, pulls []store.Pull) error {
	return change(ctx, m, "record pulls", func(tx *transaction) error {
		for _, pull := range pulls {
			// One row by its key.
			if _, err := tx.exec(`
				update manifests set pulled = ?3
				where repository = (select id from repositories where name = ?1) and digest = ?2
					and (pulled is null or pulled <= ?4)`,
				pull.Repository, pull.Digest, tx.now.UnixNano(), tx.now.Add(-time.Hour).UnixNano()); err != nil {
				return err
			}
			// One row by its key.
			if _, err := tx.exec(`
				update tags set pulled = ?3
				where repository = (select id from repositories where name = ?1) and name = ?5
					and manifest = (select id from manifests m where m.repository = tags.repository and m.digest = ?2)
					and (pulled is null or pulled <= ?4)`,
				pull.Repository, pull.Digest, tx.now.UnixNano(), tx.now.Add(-time.Hour).UnixNano(), pull.Tag); err != nil {
				return err
			}
		}
		return nil
	})
}

// ManifestRecords implements [store.Retention]. It is one statement.
func (m *Metadata) ManifestRecords(ctx context.Context, repository string, after digest.Digest, limit int) ([]store.ManifestRecord, error) {
	return read(ctx, m, "list manifest records", func(c *connection) ([]store.ManifestRecord, error) {
		// A range of the key, and for each manifest the beginning of a range of each index.
		return rows(c, `
			select m.digest, m.media_type, m.size, m.subject, m.pushed, m.pulled,
				exists (select 1 from tags t where t.manifest = m.id),
				exists (select 1 from edges e where e.repository = m.repository and e.present = m.digest)
					or exists (select 1 from edges e where e.repository = m.repository and e.child = m.digest and e.present is null)
			from repositories r cross join manifests m on m.repository = r.id and m.digest > ?2
			where r.name = ?1
			order by m.digest limit ?3`,
			[]any{repository, after, max(limit, 0)}, func(scan func(...any) error) (record store.ManifestRecord, err error) {
				var pushed int64
				var pulled *int64
				err = scan(&record.Digest, &record.MediaType, &record.Size, &record.Subject, &pushed, &pulled, &record.Tagged, &record.Parent)
				record.Pushed, record.Pulled = instant(pushed), instantOrNone(pulled)
				return record, err
			})
	})
}

// TagRecords implements [store.Retention]. It is one statement.
func (m *Metadata) TagRecords(ctx context.Context, repository, after string, limit int) ([]store.TagRecord, error) {
	return read(ctx, m, "list tag records", func(c *connection) ([]store.TagRecord, error) {
		// A range of the key, and each tag's manifest by its id.
		return rows(c, `
			select t.name, m.digest, t.pushed, t.pulled
			from repositories r
			cross join tags t on t.repository = r.id and t.name > ?2
			cross join manifests m on m.id = t.manifest
			where r.name = ?1
			order by t.name limit ?3`,
			[]any{repository, after, max(limit, 0)}, func(scan func(...any) error) (record store.TagRecord, err error) {
				var pushed int64
				var pulled *int64
				err = scan(&record.Name, &record.Digest, &pushed, &pulled)
				record.Pushed, record.Pulled = instant(pushed), instantOrNone(pulled)
				return record, err
			})
	})
}

// instantOrNone is the time of a column that may be NULL.
func instantOrNone(nanoseconds *int64) time.Time {
	if nanoseconds == nil {
		return time.Time{}
	}
	return instant(*nanoseconds)
}

// nanosecondsOrNone is the column of a time that may be zero.
func nanosecondsOrNone(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at.UnixNano()
}

// ExpireManifest implements [store.Retention]. It is [Metadata.DeleteManifest] with one statement more.
func (m *Metadata) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	return change(ctx, m, "expire manifest", func(tx *transaction) error {
		return tx.deleteManifest(expiry.Repository, expiry.Digest, deletion{may: func(inside, id int64) error {
			var expired bool
			// One row by its key, its subject by its key, and the beginning of the range of its tags.
			_, err := tx.row(`
				select max(pushed, coalesce(pulled, pushed)) <= ?3
					and not exists (select 1 from tags where manifest = ?1)
					and not (?4 and exists (select 1 from manifests s where s.repository = ?2 and s.digest = m.subject))
					and (?5 is null or pushed <= ?5)
				from manifests m where id = ?1`,
				[]any{id, inside, tx.now.Add(-expiry.Quiet).UnixNano(), expiry.Orphan, nanosecondsOrNone(expiry.PushedBy)}, &expired)
			if err == nil && !expired {
				err = store.ErrConditionFailed
			}
			return err
		}})
	})
}

// ExpireTag implements [store.Retention]. It is two statements.
func (m *Metadata) ExpireTag(ctx context.Context, expiry store.TagExpiry) error {
	return change(ctx, m, "expire tag", func(tx *transaction) error {
		var repository int64
		var expired bool
		// One row of each table by its key.
		found, err := tx.row(`
			select r.id, m.digest = ?3 and max(t.pushed, coalesce(t.pulled, t.pushed)) <= ?4
			from repositories r
			cross join tags t on t.repository = r.id and t.name = ?2
			cross join manifests m on m.id = t.manifest
			where r.name = ?1`,
			[]any{expiry.Repository, expiry.Tag, expiry.Digest, tx.now.Add(-expiry.Quiet).UnixNano()}, &repository, &expired)
		switch {
		case err != nil:
			return err
		case !found:
			return store.ErrManifestUnknown
		case !expired:
			return store.ErrConditionFailed
		}
		// One row by its key.
		_, err = tx.exec(`delete from tags where repository = ?1 and name = ?2`, repository, expiry.Tag)
		return err
	})
}
