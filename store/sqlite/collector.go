package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Collector = (*Metadata)(nil)

// Due implements [store.Collector]. It is one statement.
func (m *Metadata) Due(ctx context.Context, after store.Deadlines) (store.Work, error) {
	return read(ctx, m, "look for work", func(c *connection) (work store.Work, err error) {
		now := m.now()
		idle, total, tombstone := lifeOf(after.Life, now)
		// The beginning of one or two indexes for each kind of work. Of sessions, only those are passed over that have been under
		// way for longer than an idle one may, or took long.
		_, err = c.row(`
			select exists (select 1 from candidates where touched <= ?1),
				exists (select 1 from garbage where unfinished = 0 and condemned <= ?2)
					or exists (select 1 from garbage where unfinished = 1 and condemned <= ?3),
				exists (select 1 from sessions where state <> 2 and started <= max(?4, ?5) and (touched <= ?4 or started <= ?5))
					or exists (select 1 from sessions where state = 2 and started <= ?6 and touched <= ?6),
				exists (select 1 from repositories where name >= '/' and name < '0')`,
			[]any{
				now.Add(-after.Grace).UnixNano(), now.Add(-after.Delay).UnixNano(), now.Add(-after.Unfinished).UnixNano(),
				idle, total, tombstone,
			}, &work.Candidates, &work.Garbage, &work.Sessions, &work.Repositories)
		return work, err
	})
}

// ReviewCandidates implements [store.Collector]. It is one statement, and three to eight more for each candidate, in one event
// during which nobody else writes.
func (m *Metadata) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	return write(ctx, m, "review candidates", func(tx *transaction) (done store.Reviewed, err error) {
		due, err := tx.dueCandidates(review.Grace, review.Limit)
		if err != nil {
			return done, err
		}
		for _, candidate := range due {
			held, err := tx.held(candidate, review.Hold)
			if err != nil {
				return done, err
			}
			if held {
				done.Held = append(done.Held, candidate)
			} else if err := tx.review(candidate, &done); err != nil {
				return done, err
			}
		}
		return done, nil
	})
}

// held reports whether a candidate is to be held back.
func (tx *transaction) held(candidate store.Candidate, hold func(string) bool) (bool, error) {
	if candidate.Deleted.IsZero() || hold == nil || !hold(candidate.Repository) {
		return false, nil
	}
	// One row of each table by its key.
	here, err := tx.row(`
		select 1 from repositories r cross join manifests m on m.repository = r.id and m.digest = ?2
		where r.name = ?1`, []any{candidate.Repository, candidate.Digest}, new(int))
	return !here, err
}

// review decides on one candidate. With the write lock held, what is looked at stays as it is.
func (tx *transaction) review(candidate store.Candidate, done *store.Reviewed) error {
	// One row by its key.
	if _, err := tx.exec(`delete from candidates where repository = ?1 and digest = ?2`, candidate.Repository, candidate.Digest); err != nil {
		return err
	}
	done.Candidates++
	repository, linked, err := tx.linked(candidate.Repository, candidate.Digest)
	if err != nil {
		return err
	}
	if linked {
		needed, err := tx.needed(repository, candidate.Digest)
		if err != nil || needed {
			return err
		}
		if err := tx.unlink(repository, candidate.Digest); err != nil {
			return err
		}
		done.Links++
	}
	return tx.reviewContent(candidate.Digest, done)
}

// needed reports whether a manifest of the repository refers to linked content, or is it.
func (tx *transaction) needed(repository int64, d digest.Digest) (needed bool, err error) {
	// The beginning of a range of each index by child, and one row by its key. An edge to what was absent when its manifest was
	// put counts as well: it is here now.
	_, err = tx.row(`
		select exists (select 1 from edges where repository = ?1 and present = ?2)
			or exists (select 1 from edges where repository = ?1 and child = ?2 and present is null)
			or exists (select 1 from manifests where repository = ?1 and digest = ?2)`,
		[]any{repository, d}, &needed)
	return needed, err
}

// reviewContent deletes content that no repository links to, and condemns its object, which nobody is writing any more.
func (tx *transaction) reviewContent(d digest.Digest, done *store.Reviewed) error {
	var size int64
	var key store.Key
	// One row by its key, and the beginning of a range of the index by digest.
	gone, err := tx.row(`
		delete from contents where digest = ?1 and not exists (select 1 from links where digest = ?1)
		returning size, coalesce(key, '')`, []any{d}, &size, &key)
	if err != nil || !gone {
		return err
	}
	done.Contents++
	done.Bytes += size
	if key == "" {
		return nil
	}
	// One row.
	_, err = tx.exec(`
		insert into garbage (key, condemned, unfinished, size) values (?1, ?2, 0, ?3)
		on conflict (key) do update set condemned = excluded.condemned, size = excluded.size`, key, tx.now.UnixNano(), size)
	return err
}

// dueCandidates returns the first candidates that are due.
func (tx *transaction) dueCandidates(grace time.Duration, limit int) ([]store.Candidate, error) {
	// A range of the index by time.
	return rows(tx.connection, `
		select repository, digest, touched, `+whenDeleted("")+` from candidates where touched <= ?1
		order by touched, repository, digest limit ?2`,
		[]any{tx.now.Add(-grace).UnixNano(), max(limit, 0)}, scanCandidate)
}

// PreviewCandidates implements [store.Collector]. It is one statement.
func (m *Metadata) PreviewCandidates(ctx context.Context, grace time.Duration, after store.Candidate, limit int) ([]store.Preview, error) {
	return read(ctx, m, "preview candidates", func(c *connection) ([]store.Preview, error) {
		// A range of the index by time, and for each candidate rows by their keys; for content that other repositories link to, these
		// links, too.
		return rows(c, `
			select k.repository, k.digest, k.touched, `+whenDeleted("k.")+`, l.digest is not null and not `+neededBy("l.repository", "k.digest")+`,
				c.size is not null and not exists (
					select 1 from links o
					where o.digest = k.digest and (`+neededBy("o.repository", "k.digest")+` or not exists (
						select 1 from candidates
						where repository = (select name from repositories where id = o.repository)
							and digest = k.digest and touched <= ?1))),
				coalesce(c.size, 0)
			from candidates k
			left join repositories r on r.name = k.repository
			left join links l on l.repository = r.id and l.digest = k.digest
			left join contents c on c.digest = k.digest
			where k.touched <= ?1 and (k.touched, k.repository, k.digest) > (?2, ?3, ?4)
			order by k.touched, k.repository, k.digest limit ?5`,
			[]any{m.now().Add(-grace).UnixNano(), nanoseconds(after.Touched), after.Repository, after.Digest, max(limit, 0)},
			func(scan func(...any) error) (p store.Preview, err error) {
				var touched int64
				var deleted *int64
				err = scan(&p.Repository, &p.Digest, &touched, &deleted, &p.Link, &p.Content, &p.Size)
				p.Touched, p.Deleted = instant(touched), instantOrNone(deleted)
				if !p.Content {
					p.Size = 0
				}
				return p, err
			})
	})
}

// neededBy is what [transaction.needed] asks, of columns.
func neededBy(repository, d string) string {
	return fmt.Sprintf(`(exists (select 1 from edges where repository = %[1]s and present = %[2]s)
		or exists (select 1 from edges where repository = %[1]s and child = %[2]s and present is null)
		or exists (select 1 from manifests where repository = %[1]s and digest = %[2]s))`, repository, d)
}

// nanoseconds is the time of an argument. The zero time is before all others.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return -1 << 62
	}
	return t.UnixNano()
}

// SettleCandidate implements [store.Collector]. It is one statement.
func (m *Metadata) SettleCandidate(ctx context.Context, candidate store.Candidate) error {
	return change(ctx, m, "settle candidate", func(tx *transaction) error {
		// One row by its key.
		_, err := tx.exec(`update candidates set deleted = 0 where repository = ?1 and digest = ?2 and touched = ?3`,
			candidate.Repository, candidate.Digest, candidate.Touched.UnixNano())
		return err
	})
}
