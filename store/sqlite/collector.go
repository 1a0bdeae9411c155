package sqlite

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Collector = (*Metadata)(nil)

// Due implements [store.Collector]. It is one statement.
func (m *Metadata) Due(ctx context.Context, after store.Deadlines) (store.Work, error) {
	return read(ctx, m, "look for work", func(c *connection) (work store.Work, err error) {
		now := m.now()
		life := lifeOf(after.Life, now)
		// The beginning of an index for each kind of work.
		_, err = c.row(`
			select exists (select 1 from candidates where touched <= ?1),
				exists (select 1 from garbage where condemned <= ?2 and (not unfinished or condemned <= ?3)),
				exists (select 1 from sessions where started <= ?4 and (`+dead+`)),
				exists (select 1 from repositories where name < '/~')`,
			append([]any{now.Add(-after.Grace).UnixNano(), now.Add(-after.Delay).UnixNano(), now.Add(-after.Unfinished).UnixNano()}, life...),
			&work.Candidates, &work.Garbage, &work.Sessions, &work.Repositories)
		return work, err
	})
}

// dead is the condition that a session has outlived its life, in terms of what lifeOf returns as ?4 to ?7.
const dead = `case state when 2 then touched <= ?7 else touched <= ?5 or started <= ?6 end`

// lifeOf returns the times before which a session must have begun to be dead, been touched, begun and been finished.
func lifeOf(life store.Life, now time.Time) []any {
	times, latest := []any{nil}, int64(-1<<62)
	for _, long := range []time.Duration{life.Idle, life.Total, life.Tombstone} {
		at := int64(-1 << 62) // without end
		if long != 0 {
			at = now.Add(-long).UnixNano()
		}
		times, latest = append(times, at), max(latest, at)
	}
	times[0] = latest
	return times
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
	if !candidate.Deleted || hold == nil || !hold(candidate.Repository) {
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
		insert into garbage (key, condemned, unfinished) values (?1, ?2, 0)
		on conflict (key) do update set condemned = excluded.condemned`, key, tx.now.UnixNano())
	return err
}

// dueCandidates returns the first candidates that are due.
func (tx *transaction) dueCandidates(grace time.Duration, limit int) ([]store.Candidate, error) {
	// A range of the index by time.
	return rows(tx.connection, `
		select repository, digest, touched, deleted from candidates where touched <= ?1
		order by touched, repository, digest limit ?2`,
		[]any{tx.now.Add(-grace).UnixNano(), max(limit, 0)}, scanCandidate)
}

// PreviewCandidates implements [store.Collector]. It is one statement.
func (m *Metadata) PreviewCandidates(ctx context.Context, grace time.Duration, after store.Candidate, limit int) ([]store.Preview, error) {
	return read(ctx, m, "preview candidates", func(c *connection) ([]store.Preview, error) {
		// A range of the index by time, and for each candidate rows by their keys; for content that other repositories link to, these
		// links, too.
		return rows(c, `
			select k.repository, k.digest, k.touched, k.deleted, l.digest is not null and not `+neededBy("l.repository", "k.digest")+`,
				c.size is not null and not exists (
					select 1 from links o
					where o.digest = k.digest and (`+neededBy("o.repository", "k.digest")+` or not exists (
						select 1 from candidates d cross join repositories n on n.name = d.repository
						where d.digest = k.digest and n.id = o.repository and d.touched <= ?1
							and d.repository = (select name from repositories where id = o.repository)))),
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
				err = scan(&p.Repository, &p.Digest, &touched, &p.Deleted, &p.Link, &p.Content, &p.Size)
				p.Touched = instant(touched)
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

// TakeGarbage implements [store.Collector]. It is two statements.
func (m *Metadata) TakeGarbage(ctx context.Context, take store.Take) ([]store.Garbage, error) {
	return write(ctx, m, "take garbage", func(tx *transaction) ([]store.Garbage, error) {
		// A range of the index by time. Only what is unfinished, and was condemned between the two times, is passed over.
		taken, err := rows(tx.connection, `
			select key, condemned, tries + 1, unfinished from garbage
			where condemned <= ?1 and (not unfinished or condemned <= ?2)
			order by condemned, key limit ?3`,
			[]any{tx.now.Add(-take.Delay).UnixNano(), tx.now.Add(-take.Unfinished).UnixNano(), max(take.Limit, 0)}, scanGarbage)
		if err != nil || len(taken) == 0 {
			return nil, err
		}
		keys := make([]store.Key, len(taken))
		for i, garbage := range taken {
			keys[i] = garbage.Key
		}
		// Rows by their keys.
		_, err = tx.exec(`
			update garbage set tries = tries + 1, condemned = case when unfinished then ?3 else ?2 end
			where key in (select value from json_each(?1))`,
			list(keys), tx.now.Add(take.Again-take.Delay).UnixNano(), tx.now.Add(take.Again-take.Unfinished).UnixNano())
		return taken, err
	})
}

// ForgetGarbage implements [store.Collector]. It is one statement.
func (m *Metadata) ForgetGarbage(ctx context.Context, keys []store.Key) error {
	return change(ctx, m, "forget garbage", func(tx *transaction) error {
		// Rows by their keys.
		_, err := tx.exec(`delete from garbage where key in (select value from json_each(?1))`, list(keys))
		return err
	})
}

// EndSessions implements [store.Collector]. It is one statement, and three or four for each session that is ended.
func (m *Metadata) EndSessions(ctx context.Context, life store.Life, limit int) (store.Ended, error) {
	return write(ctx, m, "end sessions", func(tx *transaction) (ended store.Ended, err error) {
		// A range of the index by start. Few are passed over: those that were touched since, and will be there for hours.
		ids, err := values[string](tx.connection, `
			select id from sessions where started <= ?4 and (`+dead+`) order by started, id limit ?1`,
			append([]any{max(limit, 0), nil, nil}, lifeOf(life, tx.now)...)...)
		if err != nil {
			return ended, err
		}
		for _, id := range ids {
			session, _, err := tx.session(id)
			if err != nil {
				return ended, err
			}
			// One row by its key; its parts and tails go with it.
			if _, err := tx.exec(`delete from sessions where id = ?1`, id); err != nil {
				return ended, err
			}
			if session.State == store.SessionFinished {
				ended.Tombstones++
				continue
			}
			ended.Sessions = append(ended.Sessions, session)
			if err := tx.condemn(session.Keys()...); err != nil {
				return ended, err
			}
		}
		return ended, nil
	})
}

// DeleteRepository implements [store.Collector]. It is one statement.
func (m *Metadata) DeleteRepository(ctx context.Context, repository string) error {
	return change(ctx, m, "delete repository", func(tx *transaction) error {
		// One row by its name.
		renamed, err := tx.exec(`update repositories set name = '/' || id where name = ?1`, repository)
		if err != nil {
			return err
		}
		if renamed == 0 {
			return store.ErrRepositoryUnknown
		}
		return nil
	})
}

// DrainRepositories implements [store.Collector]. It is at most seven statements, in one event.
func (m *Metadata) DrainRepositories(ctx context.Context, limit int) (int, error) {
	return write(ctx, m, "drain repositories", func(tx *transaction) (int, error) {
		var repository int64
		// The beginning of the index by name.
		found, err := tx.row(`select id from repositories where name < '/~' order by name limit 1`, nil, &repository)
		if err != nil || !found {
			return 0, err
		}
		return tx.drain(repository, limit)
	})
}

// drain deletes rows of a repository, in the order in which they hang on each other.
func (tx *transaction) drain(repository int64, limit int) (drained int, err error) {
	for _, statement := range []string{
		`delete from tags where (repository, name) in (select repository, name from tags where repository = ?1 limit ?2) returning ''`,
		`delete from edges where (parent, child) in (
			select e.parent, e.child from manifests m cross join edges e on e.parent = m.id where m.repository = ?1 limit ?2) returning child`,
		`delete from manifests where id in (select id from manifests where repository = ?1 limit ?2) returning ''`,
	} {
		// Ranges of keys that begin with the repository. A put may have taken the candidate of content that no link leads to, so that
		// only an edge does.
		gone, err := values[digest.Digest](tx.connection, statement, repository, max(limit-drained, 0))
		if err != nil {
			return drained, err
		}
		if drained += len(gone); drained > 0 {
			children := slices.DeleteFunc(slices.Clone(gone), func(d digest.Digest) bool { return d == "" })
			if err := tx.touch("", children...); err != nil {
				return drained, err
			}
		}
		if drained >= limit {
			return drained, nil
		}
	}
	// A range of the key.
	links, err := values[digest.Digest](tx.connection, `select digest from links where repository = ?1 limit ?2`, repository, limit-drained)
	if err != nil {
		return drained, err
	}
	if err := tx.touch("", links...); err != nil {
		return drained, err
	}
	// Rows by their keys.
	if _, err := tx.exec(`delete from links where repository = ?1 and digest in (select value from json_each(?2))`, repository, list(links)); err != nil {
		return drained, err
	}
	drained += len(links)
	if drained >= limit {
		return drained, nil
	}
	return drained + 1, tx.vanish(repository)
}
