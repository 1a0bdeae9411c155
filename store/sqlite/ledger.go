package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Candidates implements [store.Ledger]. It is one statement.
func (m *Metadata) Candidates(ctx context.Context, idle time.Duration, limit int) ([]store.Candidate, error) {
	return read(ctx, m, "candidates", func(c *connection) ([]store.Candidate, error) {
		// A range of the index by time.
		return rows(c, `
			select repository, digest, touched, `+whenDeleted("")+` from candidates where touched <= ?1
			order by touched, repository, digest limit ?2`,
			[]any{m.now().Add(-idle).UnixNano(), max(limit, 0)}, scanCandidate)
	})
}

// whenDeleted is when a candidate's manifest was deleted, or NULL. Of what a process of an earlier version has deleted it is not kept.
func whenDeleted(row string) string {
	return fmt.Sprintf(`case when %[1]sdeleted then coalesce(%[1]sdeletion, %[1]stouched) end`, row)
}

func scanCandidate(scan func(...any) error) (candidate store.Candidate, err error) {
	var touched int64
	var deleted *int64
	err = scan(&candidate.Repository, &candidate.Digest, &touched, &deleted)
	candidate.Touched, candidate.Deleted = instant(touched), instantOrNone(deleted)
	return candidate, err
}

// Garbage implements [store.Ledger]. It is one statement.
func (m *Metadata) Garbage(ctx context.Context, age time.Duration, limit int) ([]store.Garbage, error) {
	return read(ctx, m, "garbage", func(c *connection) ([]store.Garbage, error) {
		return c.dueGarbage(m.now(), store.Take{Delay: age, Unfinished: age, Limit: limit}, store.Garbage{})
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

// condemn keeps what has become garbage.
func (tx *transaction) condemn(garbage ...store.Garbage) error {
	if len(garbage) == 0 {
		return nil
	}
	text, err := json.Marshal(garbage)
	if err != nil {
		return err
	}
	// Rows by their keys.
	_, err = tx.exec(`
		insert into garbage (key, condemned, unfinished, size)
		select value ->> 'Key', ?2, value ->> 'Unfinished', value ->> 'Size' from json_each(?1) where true
		on conflict (key) do update set condemned = excluded.condemned, unfinished = excluded.unfinished, size = excluded.size`,
		string(text), tx.now.UnixNano())
	return err
}

// instant is the time of a column.
func instant(nanoseconds int64) time.Time { return time.Unix(0, nanoseconds).UTC() }
