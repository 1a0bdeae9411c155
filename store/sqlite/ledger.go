package sqlite

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Candidates implements [store.Ledger]. It is one statement.
func (m *Metadata) Candidates(ctx context.Context, idle time.Duration, limit int) ([]store.Candidate, error) {
	return read(ctx, m, "candidates", func(c *connection) ([]store.Candidate, error) {
		// A range of the index by time.
		return rows(c, `
			select repository, digest, touched, deleted from candidates where touched <= ?1
			order by touched, repository, digest limit ?2`,
			[]any{m.now().Add(-idle).UnixNano(), max(limit, 0)}, scanCandidate)
	})
}

func scanCandidate(scan func(...any) error) (candidate store.Candidate, err error) {
	var touched int64
	err = scan(&candidate.Repository, &candidate.Digest, &touched, &candidate.Deleted)
	candidate.Touched = instant(touched)
	return candidate, err
}

// Garbage implements [store.Ledger]. It is one statement.
func (m *Metadata) Garbage(ctx context.Context, age time.Duration, limit int) ([]store.Garbage, error) {
	return read(ctx, m, "garbage", func(c *connection) ([]store.Garbage, error) {
		return c.dueGarbage(m.now(), age, age, limit)
	})
}

// touch makes contents of the repository candidates, or touches them if they are.
func (tx *transaction) touch(repository string, digests ...digest.Digest) error {
	if len(digests) == 0 {
		return nil
	}
	// Rows by their keys.
	_, err := tx.exec(`
		insert into candidates (repository, digest, touched) select ?1, value, ?3 from json_each(?2) where true
		on conflict (repository, digest) do update set touched = excluded.touched`,
		repository, list(digests), tx.now.UnixNano())
	return err
}

// condemn makes garbage of keys that the transaction stops naming. Writes may still be on their way to them.
func (tx *transaction) condemn(keys ...store.Key) error {
	if len(keys) == 0 {
		return nil
	}
	// Rows by their keys.
	_, err := tx.exec(`
		insert into garbage (key, condemned) select value, ?2 from json_each(?1) where true
		on conflict (key) do update set condemned = excluded.condemned, unfinished = 1`,
		list(keys), tx.now.UnixNano())
	return err
}

// instant is the time of a column.
func instant(nanoseconds int64) time.Time { return time.Unix(0, nanoseconds).UTC() }
