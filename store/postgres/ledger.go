package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Candidates implements [store.Ledger]. It is one statement, and one round trip.
func (m *Metadata) Candidates(ctx context.Context, idle time.Duration, limit int) ([]store.Candidate, error) {
	// A range of the index by time.
	return query(ctx, m, "candidates", `
		select repository, digest, touched, deleted from {schema}.candidates
		where touched <= (select {now} - $2::interval)
		order by touched, repository, digest limit $3`,
		[]any{m.clock(), idle, max(limit, 0)}, scanCandidate)
}

// Garbage implements [store.Ledger]. It is one statement, and one round trip.
func (m *Metadata) Garbage(ctx context.Context, age time.Duration, limit int) ([]store.Garbage, error) {
	// Two ranges of the index by time, which are merged.
	return query(ctx, m, "garbage", `
		(select key, condemned, tries, unfinished from {schema}.garbage
			where not unfinished and condemned <= (select {now} - $2::interval) order by condemned, key limit $3)
		union all
		(select key, condemned, tries, unfinished from {schema}.garbage
			where unfinished and condemned <= (select {now} - $2::interval) order by condemned, key limit $3)
		order by condemned, key limit $3`,
		[]any{m.clock(), age, max(limit, 0)}, scanGarbage)
}

// touch queues the statement that makes contents of the repository candidates, or touches them if they are.
func (tx *transaction) touch(repository string, digests ...digest.Digest) {
	// Rows by their keys, in order. Each is locked from here on: no collector takes it, and one that has it is waited for.
	tx.exec(`
		insert into {schema}.candidates (repository, digest, touched)
		select $2, d, {now} from unnest($3::text[]) d
		on conflict (repository, digest) do update set touched = excluded.touched`,
		tx.m.clock(), repository, sorted(digests))
}

// condemn queues the statement that makes garbage of keys that the transaction stops naming. Writes may still be on their way
// to them.
func (tx *transaction) condemn(keys ...store.Key) {
	if len(keys) == 0 {
		return
	}
	// Rows by their keys, in order.
	tx.exec(`
		insert into {schema}.garbage (key, condemned) select k, {now} from unnest($2::text[]) k
		on conflict (key) do update set condemned = excluded.condemned`,
		tx.m.clock(), sorted(keys))
}

// sorted returns the values as an argument, in the order in which rows are locked, each once.
func sorted[T ~string](values []T) []string {
	list := texts(values)
	slices.Sort(list)
	return slices.Compact(list)
}

// texts returns the values as an argument.
func texts[T ~string](values []T) []string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = string(value)
	}
	return list
}
