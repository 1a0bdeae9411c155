package sqlite

import (
	"context"
	"math"
	"time"

	"github.com/ocikit/ocikit/store"
)

// EndSessions implements [store.Collector]. It is one statement, one for each session that has outlived its life, and one or two
// more for each that is ended.
func (m *Metadata) EndSessions(ctx context.Context, life store.Life, limit int) (store.Ended, error) {
	return write(ctx, m, "end sessions", func(tx *transaction) (ended store.Ended, err error) {
		dead, err := tx.outlived(tx.now, life, store.Outlived{}, limit)
		if err != nil {
			return ended, err
		}
		sessions := make([]store.Session, len(dead))
		for i := range dead {
			if sessions[i], _, err = tx.bareSession(dead[i].ID); err != nil {
				return ended, err
			}
		}
		together := store.EndTogether(sessions)
		for _, session := range together {
			// One row by its key; its parts and tails go with it.
			if _, err := tx.exec(`delete from sessions where id = ?1`, session.ID); err != nil {
				return ended, err
			}
			if session.State == store.SessionFinished {
				ended.Tombstones++
				continue
			}
			ended.Sessions = append(ended.Sessions, session)
			if err := tx.condemn(store.GarbageOf(session.Keys(), session.Tails)...); err != nil {
				return ended, err
			}
		}
		ended.More = len(together) < len(dead) || len(dead) > 0 && len(dead) == limit
		return ended, nil
	})
}

// PreviewSessions implements [store.Collector]. It is one statement.
func (m *Metadata) PreviewSessions(ctx context.Context, life store.Life, after store.Outlived, limit int) ([]store.Outlived, error) {
	return read(ctx, m, "preview sessions", func(c *connection) ([]store.Outlived, error) {
		return c.outlived(m.now(), life, after, limit)
	})
}

// outlived returns the first sessions that have outlived life, after one.
func (c *connection) outlived(now time.Time, life store.Life, after store.Outlived, limit int) ([]store.Outlived, error) {
	idle, total, tombstone := lifeOf(life, now)
	// A range of each of the two indexes by start, which are merged. Those are passed over that were touched since.
	return rows(c, `
		select id, repository, state, started, touched, durable from sessions
		where state <> 2 and started <= max(?1, ?2) and (touched <= ?1 or started <= ?2) and (started, id) > (?4, ?5)
		union all
		select id, repository, state, started, touched, durable from sessions
		where state = 2 and started <= ?3 and touched <= ?3 and (started, id) > (?4, ?5)
		order by started, id limit ?6`,
		[]any{idle, total, tombstone, nanoseconds(after.Started), after.ID, max(limit, 0)},
		func(scan func(...any) error) (s store.Outlived, err error) {
			var started, touched int64
			err = scan(&s.ID, &s.Repository, &s.State, &started, &touched, &s.Size)
			s.Started, s.Touched = instant(started), instant(touched)
			return s, err
		})
}

// lifeOf returns the times since when a session must not have been touched, begun, or been finished, to have outlived life.
func lifeOf(life store.Life, now time.Time) (idle, total, tombstone int64) {
	before := func(long time.Duration) int64 {
		if long == 0 {
			return math.MinInt64 // without end
		}
		return now.Add(-long).UnixNano()
	}
	return before(life.Idle), before(life.Total), before(life.Tombstone)
}
