package postgres

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Repositories implements [store.Catalog]. It is one statement, and one round trip.
func (m *Metadata) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	// A range of the index by name.
	return query(ctx, m, "repositories", `
		select name from {schema}.repositories where name > $1 order by name limit $2`,
		[]any{position(after), max(limit, 0)}, scanOne[string])
}

// Holders implements [store.Catalog]. It is one statement, and one round trip; its cost grows with the number of holders.
func (m *Metadata) Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error) {
	// The holders' links, each one's name by its id, sorted. The order of the tables is forced: the other way round it would
	// look at every repository.
	return query(ctx, m, "holders", `
		select r.name from {schema}.links l
		cross join lateral (select name from {schema}.repositories where id = l.repository limit 1) r
		where l.digest = $1 and r.name > $2
		order by r.name limit $3`,
		[]any{d.String(), position(after), max(limit, 0)}, scanOne[string])
}

// Mount implements [store.Catalog]. It is five statements, and two round trips.
func (m *Metadata) Mount(ctx context.Context, d digest.Digest, from, to string) (content store.Content, err error) {
	err = change(ctx, m, "mount content", func(ctx context.Context, tx *transaction) error {
		tx.touch(to, d)
		// Locks the content's row, so that it stays, whatever becomes of the link to it. A collector that has it is waited for,
		// and the look comes after that.
		tx.exec(`select from {schema}.contents where digest = $1 for key share`, d.String())
		found := tx.content(from, d)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		var known bool
		if content, known = first(found); !known {
			return store.ErrContentUnknown
		}
		tx.appear(to)
		tx.link(to, d)
		return nil
	})
	return content, err
}
