package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/ocikit/ocikit/store"
)

// TakeGarbage implements [store.Collector]. It is two statements if none is due, else three, and two round trips.
func (m *Metadata) TakeGarbage(ctx context.Context, take store.Take) ([]store.Garbage, error) {
	var taken []store.Garbage
	err := change(ctx, m, "take garbage", func(ctx context.Context, tx *transaction) error {
		// Two ranges of the index, each of which locks its rows, but for those that another collector is taking.
		due := func(unfinished string, delay time.Duration) *[]store.Garbage {
			return rows(tx, `
				select key, condemned, tries + 1, unfinished, size from {schema}.garbage
				where `+unfinished+` and condemned <= {began} - $2::interval
				order by condemned, key limit $3 for update skip locked`,
				[]any{m.clock(), delay, max(take.Limit, 0)}, scanGarbage)
		}
		finished, unfinished := due("not unfinished", take.Delay), due("unfinished", take.Unfinished)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		taken = merge(*finished, *unfinished, take.Limit, func(a, b store.Garbage) int {
			return cmp.Or(a.Condemned.Compare(b.Condemned), cmp.Compare(a.Key, b.Key))
		})
		if len(taken) == 0 {
			return errNothing
		}
		keys := make([]store.Key, len(taken))
		for i, garbage := range taken {
			keys[i] = garbage.Key
		}
		// Rows by their keys, which are locked.
		tx.exec(`
			update {schema}.garbage
			set tries = tries + 1, condemned = {now} + $2::interval - case when unfinished then $4::interval else $3::interval end
			where ctid = any(array(
				select found.ctid from unnest($5::text[]) k
				cross join lateral (select ctid from {schema}.garbage where key = k limit 1) found))`,
			m.clock(), take.Again, take.Delay, take.Unfinished, texts(keys))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// merge returns the first limit of two lists, which are in order.
func merge[T any](a, b []T, limit int, compare func(a, b T) int) []T {
	all := slices.Concat(a, b)
	slices.SortFunc(all, compare)
	return all[:min(len(all), max(limit, 0))]
}

func scanGarbage(scan func(...any) error) (garbage store.Garbage, err error) {
	err = scan(&garbage.Key, &garbage.Condemned, &garbage.Tries, &garbage.Unfinished, &garbage.Size)
	garbage.Condemned = garbage.Condemned.UTC()
	return garbage, err
}

// PreviewGarbage implements [store.Collector]. It is one statement, and one round trip.
func (m *Metadata) PreviewGarbage(ctx context.Context, take store.Take, after store.Garbage) ([]store.Garbage, error) {
	return m.dueGarbage(ctx, "preview garbage", take, after)
}

// dueGarbage returns the first of what may be taken, after one. what names it in errors.
func (m *Metadata) dueGarbage(ctx context.Context, what string, take store.Take, after store.Garbage) ([]store.Garbage, error) {
	// Two ranges of the index by time, which are merged. That they have a beginning tells PostgreSQL that they are small ones.
	due := func(unfinished, delay string) string {
		return `(select key, condemned, tries, unfinished, size from {schema}.garbage
			where ` + unfinished + ` and condemned <= (select {now} - ` + delay + `::interval)
				and condemned >= $4 and (condemned, key) > ($4, $5)
			order by condemned, key limit $6)`
	}
	return query(ctx, m, what,
		due("not unfinished", "$2")+` union all `+due("unfinished", "$3")+` order by condemned, key limit $6`,
		[]any{m.clock(), take.Delay, take.Unfinished, after.Condemned, string(after.Key), max(take.Limit, 0)}, scanGarbage)
}

// ForgetGarbage implements [store.Collector]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) ForgetGarbage(ctx context.Context, keys []store.Key) error {
	// Rows by their keys, in order.
	_, err := single(ctx, m, "forget garbage", `
		delete from {schema}.garbage where ctid = any(array(
			select locked.ctid from unnest($1::text[]) k
			cross join lateral (select ctid from {schema}.garbage where key = k for update) locked))
		returning key`,
		[]any{sorted(keys)}, scanOne[string])
	return err
}

// EndSessions implements [store.Collector]. It is two statements if none is due, else at most five, and at most three round trips. It
// never waits for a lock.
func (m *Metadata) EndSessions(ctx context.Context, life store.Life, limit int) (store.Ended, error) {
	var ended store.Ended
	err := change(ctx, m, "end sessions", func(ctx context.Context, tx *transaction) error {
		ended = store.Ended{}
		idle, total, tombstone := lifeOf(life)
		// A range of an index by start. Locks the rows: whoever writes to one is passed over, and nobody can any more.
		due := func(dead string, life ...any) *[]store.Session {
			return rows(tx, `
				select id, state, started from {schema}.sessions where `+dead+`
				order by started, id limit $2 for update skip locked`,
				append([]any{m.clock(), max(limit, 0)}, life...), func(scan func(...any) error) (s store.Session, err error) {
					err = scan(&s.ID, &s.State, &s.Started)
					return s, err
				})
		}
		underWay, tombstones := due(abandoned("$3", "$4"), idle, total), due(forgotten("$3"), tombstone)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		victims := merge(*underWay, *tombstones, limit, func(a, b store.Session) int {
			return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
		})
		if len(victims) == 0 {
			return errNothing
		}
		if err := tx.lookAtSessions(ctx, victims); err != nil {
			return err
		}
		together := store.EndTogether(victims)
		var ids []string
		var condemned []store.Garbage
		for _, session := range together {
			ids = append(ids, session.ID)
			if session.State == store.SessionFinished {
				ended.Tombstones++
				continue
			}
			ended.Sessions = append(ended.Sessions, session)
			condemned = append(condemned, store.GarbageOf(session.Keys(), session.Tails)...)
		}
		ended.More = len(together) < len(victims) || len(victims) == limit
		// Rows by their keys, which are locked; their parts and tails go with them.
		tx.exec(`delete from {schema}.sessions where id = any($1)`, ids)
		tx.condemn(condemned)
		return nil
	})
	return ended, err
}

// lookAtSessions replaces those of the sessions that are under way, and locked, by what is there of them, without parts, hashes and
// inline bytes. It is one round trip if there are any.
func (tx *transaction) lookAtSessions(ctx context.Context, sessions []store.Session) error {
	place := map[string]int{}
	var ids []string
	for i := range sessions {
		if sessions[i].State != store.SessionFinished {
			place[sessions[i].ID], ids = i, append(ids, sessions[i].ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	// Rows by their keys, and the range of each one's tails.
	found := rows(tx, `
		select s.* from unnest($2::text[]) k
		cross join lateral (select id, `+sessionColumns("k", "null::bytea", "null::bytea", "null::bytea")+` from {schema}.sessions where id = k limit 1) s`,
		[]any{tx.m.clock(), ids}, func(scan func(...any) error) (store.Session, error) {
			var id string
			session, err := scanSession("")(func(columns ...any) error { return scan(append([]any{&id}, columns...)...) })
			session.ID = id
			return session.Session, err
		})
	if err := tx.roundTrip(ctx); err != nil {
		return err
	}
	for _, session := range *found {
		sessions[place[session.ID]] = session
	}
	return nil
}

// PreviewSessions implements [store.Collector]. It is one statement, and one round trip.
func (m *Metadata) PreviewSessions(ctx context.Context, life store.Life, after store.Outlived, limit int) ([]store.Outlived, error) {
	idle, total, tombstone := lifeOf(life)
	// A range of each of the two indexes by start, which are merged. Those are passed over that were touched since.
	due := func(dead string) string {
		return `(select id, repository, state, started, touched, durable from {schema}.sessions
			where ` + dead + ` and (started, id) > ($5, $6) order by started, id limit $7)`
	}
	return query(ctx, m, "preview sessions",
		due(abandoned("$2", "$3"))+` union all `+due(forgotten("$4"))+` order by started, id limit $7`,
		[]any{m.clock(), idle, total, tombstone, after.Started, after.ID, max(limit, 0)},
		func(scan func(...any) error) (s store.Outlived, err error) {
			err = scan(&s.ID, &s.Repository, &s.State, &s.Started, &s.Touched, &s.Size)
			s.Started, s.Touched = s.Started.UTC(), s.Touched.UTC()
			return s, err
		})
}
