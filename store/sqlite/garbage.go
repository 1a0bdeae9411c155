package sqlite

import (
	"context"
	"time"

	"github.com/ocikit/ocikit/store"
)

// dueGarbage returns the first of what may be taken, after one.
func (c *connection) dueGarbage(now time.Time, take store.Take, after store.Garbage) ([]store.Garbage, error) {
	// Two ranges of the index, which are merged.
	return rows(c, `
		select key, condemned, tries, unfinished, size from garbage
		where unfinished = 0 and condemned <= ?1 and (condemned, key) > (?3, ?4)
		union all
		select key, condemned, tries, unfinished, size from garbage
		where unfinished = 1 and condemned <= ?2 and (condemned, key) > (?3, ?4)
		order by condemned, key limit ?5`,
		[]any{
			now.Add(-take.Delay).UnixNano(), now.Add(-take.Unfinished).UnixNano(),
			nanoseconds(after.Condemned), after.Key, max(take.Limit, 0),
		}, scanGarbage)
}

func scanGarbage(scan func(...any) error) (garbage store.Garbage, err error) {
	var condemned int64
	err = scan(&garbage.Key, &condemned, &garbage.Tries, &garbage.Unfinished, &garbage.Size)
	garbage.Condemned = instant(condemned)
	return garbage, err
}

// TakeGarbage implements [store.Collector]. It is two statements.
func (m *Metadata) TakeGarbage(ctx context.Context, take store.Take) ([]store.Garbage, error) {
	return write(ctx, m, "take garbage", func(tx *transaction) ([]store.Garbage, error) {
		taken, err := tx.dueGarbage(tx.now, take, store.Garbage{})
		if err != nil || len(taken) == 0 {
			return nil, err
		}
		keys := make([]store.Key, len(taken))
		for i := range taken {
			taken[i].Tries++
			keys[i] = taken[i].Key
		}
		// Rows by their keys.
		_, err = tx.exec(`
			update garbage set tries = tries + 1, condemned = case when unfinished then ?3 else ?2 end
			where key in (select value from json_each(?1))`,
			list(keys), tx.now.Add(take.Again-take.Delay).UnixNano(), tx.now.Add(take.Again-take.Unfinished).UnixNano())
		return taken, err
	})
}

// PreviewGarbage implements [store.Collector]. It is one statement.
func (m *Metadata) PreviewGarbage(ctx context.Context, take store.Take, after store.Garbage) ([]store.Garbage, error) {
	return read(ctx, m, "preview garbage", func(c *connection) ([]store.Garbage, error) {
		return c.dueGarbage(m.now(), take, after)
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
