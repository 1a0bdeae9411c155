package sqlite

import (
	"context"
	"math"
	"time"

	"github.com/ocikit/ocikit/store"
)

// EndSessions implements [store.Collector]. It is one statement, and three or four for each session that is ended.
func (m *Metadata) EndSessions(ctx context.Context, life store.Life, limit int) (store.Ended, error) {
	return write(ctx, m, "end sessions", func(tx *transaction) (ended store.Ended, err error) {
		idle, total, tombstone := lifeOf(life, tx.now)
		// A range of each of the two indexes by start, which are merged. Those are passed over that were touched since.
		ids, err := values[string](tx.connection, `
			select id from (
				select started, id from sessions where state <> 2 and started <= max(?1, ?2) and (touched <= ?1 or started <= ?2)
				union all
				select started, id from sessions where state = 2 and started <= ?3 and touched <= ?3
				order by started, id limit ?4)`,
			idle, total, tombstone, max(limit, 0))
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
