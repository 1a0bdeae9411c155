package postgres_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// TestPagesOfDependentsAreReadOnce lets the database count what is read of an index in which one layer is below very many manifests of a
// repository, before and after it knows that.
func TestPagesOfDependentsAreReadOnce(t *testing.T) {
	t.Parallel()
	const manifests, limit = 20_000, 1000
	schema, ctx := newSchema(t), t.Context()
	pool := newPool(t, 1)
	fill(t, pool, schema, size{tags: manifests, repositories: 100, layers: 1})
	base := digest.FromString("base")
	_, err := pool.Exec(ctx, fmt.Sprintf(`
		begin;
		set local search_path = %q, pg_catalog;
		insert into contents (digest, size, key) values ('%[2]s', 10, 'blobs/base');
		insert into links (repository, digest) select id, '%[2]s' from repositories where name = 'full' or name like 'repo/%%';
		insert into edges (repository, parent, child, present) select repository, digest, '%[2]s', '%[2]s' from manifests
			join repositories r on r.id = repository where name = 'full' or name like 'repo/%%';
		commit`, schema, base), pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	m := open(t, pool, &postgres.Options{Schema: schema})
	for _, analysed := range []bool{false, true} {
		if analysed {
			_, err := pool.Exec(ctx, fmt.Sprintf(`analyze %q.links, %[1]q.edges, %[1]q.manifests`, schema))
			require.NoError(t, err)
		}
		found := 0
		for after := (store.ManifestAt{}); ; {
			before, _ := reads(t, pool, schema)
			page, err := m.Dependents(ctx, base, after, limit)
			require.NoError(t, err)
			now, _ := reads(t, pool, schema)
			// The page, and for each of the other repositories its link, its name, and its only dependent.
			require.LessOrEqual(t, now-before, limit+101*5, "index entries that a page takes, analysed: %v", analysed)
			found += len(page)
			if len(page) < limit {
				break
			}
			after = page[limit-1]
		}
		require.Equal(t, manifests+100, found)
	}
}
