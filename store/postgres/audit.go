package postgres

import (
	"context"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Auditor = (*Metadata)(nil)

// unknownKeys is the query for those of a list of keys that no row names: rows by each of the indexes by key, and the sessions
// that are under way, all in one state.
const unknownKeys = `
	select k from unnest($1::text[]) k
	where not exists (select from {schema}.contents where key = k)
		and not exists (select from {schema}.garbage where key = k)
		and not exists (select from {schema}.tails where key = k)
		and k not in (
			select unnest(array[reserved_blob, reserved_tail, multipart_key]) from {schema}.sessions where state <> 2)`

// UnknownKeys implements [store.Auditor]. It is one statement, and one round trip; its cost grows with the number of uploads
// under way.
func (m *Metadata) UnknownKeys(ctx context.Context, keys []store.Key) ([]store.Key, error) {
	return query(ctx, m, "look for keys", unknownKeys, []any{texts(keys)}, scanOne[store.Key])
}

// CondemnKeys implements [store.Auditor]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) CondemnKeys(ctx context.Context, keys []store.Key) ([]store.Key, error) {
	// What two condemn at once is one's.
	return single(ctx, m, "condemn keys", `
		insert into {schema}.garbage (key, condemned)
		select k, {now} from (`+strings.ReplaceAll(unknownKeys, "$1", "$2")+`) unknown (k) order by k
		on conflict do nothing returning key`,
		[]any{m.clock(), texts(keys)}, scanOne[store.Key])
}

// StoredContents implements [store.Auditor]. It is one statement, and one round trip.
func (m *Metadata) StoredContents(ctx context.Context, after store.Key, limit int) ([]store.StoredContent, error) {
	// A range of the index by key.
	return query(ctx, m, "list contents", `
		select key, digest, size, missing is not null from {schema}.contents where key is not null and key > $1 order by key limit $2`,
		[]any{string(after), max(limit, 0)}, func(scan func(...any) error) (stored store.StoredContent, err error) {
			err = scan(&stored.Key, &stored.Digest, &stored.Size, &stored.Missing)
			return stored, err
		})
}

// MarkContent implements [store.Auditor]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) MarkContent(ctx context.Context, d digest.Digest, key store.Key, missing bool) (bool, error) {
	// One row by its key. Who replaces it is waited for, and then it is left alone.
	changed, err := single(ctx, m, "mark content", `
		update {schema}.contents set missing = case when $4 then {now} end
		where digest = $2 and key = $3 and (missing is not null) <> $4::boolean
		returning digest`,
		[]any{m.clock(), d.String(), string(key), missing}, scanOne[string])
	return len(changed) > 0, err
}

// Dependents implements [store.Auditor]. It is one statement, and one round trip; its cost grows with the number of repositories that
// hold the content, and with the number of dependents in each, but for the latter no further than to the limit.
func (m *Metadata) Dependents(ctx context.Context, d digest.Digest, after store.ManifestAt, limit int) ([]store.ManifestAt, error) {
	// The links to the content, and for each the beginnings of three ranges, which are in the order of digests: two of the indexes by
	// child, of which a parent is in one, and one manifest by its key; sorted. A limit for each range keeps the plan from reading and
	// sorting it whole, which tempts where few manifests refer to most content.
	return query(ctx, m, "list dependents", `
		select r.name, p.digest from {schema}.links l
		cross join lateral (
			select name, case when name = $2 then $3 else '' end as floor from {schema}.repositories where id = l.repository limit 1
		) r
		cross join lateral (
			(
				select parent as digest from {schema}.edges
				where repository = l.repository and present = $1 and parent > r.floor order by parent limit $4
			) union all (
				select parent from {schema}.edges
				where repository = l.repository and child = $1 and present is null and parent > r.floor order by parent limit $4
			) union all (
				select digest from {schema}.manifests where repository = l.repository and digest = $1 and digest > r.floor
			)
		) p
		where l.digest = $1 and r.name >= $2
		order by r.name, p.digest limit $4`,
		[]any{d.String(), after.Repository, after.Digest.String(), max(limit, 0)},
		func(scan func(...any) error) (at store.ManifestAt, err error) {
			err = scan(&at.Repository, &at.Digest)
			return at, err
		})
}
