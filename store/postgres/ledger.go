package postgres

import (
	"cmp"
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
		select repository, digest, touched, `+whenDeleted("")+` from {schema}.candidates
		where touched <= (select {now} - $2::interval)
		order by touched, repository, digest limit $3`,
		[]any{m.clock(), idle, max(limit, 0)}, scanCandidate)
}

// Garbage implements [store.Ledger]. It is one statement, and one round trip.
func (m *Metadata) Garbage(ctx context.Context, age time.Duration, limit int) ([]store.Garbage, error) {
	return m.dueGarbage(ctx, "garbage", store.Take{Delay: age, Unfinished: age, Limit: limit}, store.Garbage{})
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

// condemn queues the statement that keeps what has become garbage.
func (tx *transaction) condemn(garbage []store.Garbage) {
	if len(garbage) == 0 {
		return
	}
	byKey := func(a, b store.Garbage) int { return cmp.Compare(a.Key, b.Key) }
	garbage = slices.CompactFunc(slices.SortedFunc(slices.Values(garbage), byKey), func(a, b store.Garbage) bool { return a.Key == b.Key })
	keys, unfinished, sizes := make([]string, len(garbage)), make([]bool, len(garbage)), make([]int64, len(garbage))
	for i, g := range garbage {
		keys[i], unfinished[i], sizes[i] = string(g.Key), g.Unfinished, g.Size
	}
	// Rows by their keys, in order.
	tx.exec(`
		insert into {schema}.garbage (key, condemned, unfinished, size)
		select g.key, {now}, g.unfinished, g.size from unnest($2::text[], $3::boolean[], $4::bigint[]) g (key, unfinished, size)
		on conflict (key) do update set condemned = excluded.condemned, unfinished = excluded.unfinished, size = excluded.size`,
		tx.m.clock(), keys, unfinished, sizes)
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
