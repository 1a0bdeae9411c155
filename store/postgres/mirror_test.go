package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

func TestClaimsForgetThoseWhoseTimeIsOver(t *testing.T) {
	t.Parallel()
	schema, pool := newSchema(t), newPool(t, 1)
	m := open(t, pool, &postgres.Options{Schema: schema})
	for i := range 40 {
		_, err := m.ClaimFetch(t.Context(), digest.FromString(fmt.Sprint("over ", i)), "a", -time.Second)
		require.NoError(t, err)
	}
	for i := range 3 {
		_, err := m.ClaimFetch(t.Context(), digest.FromString(fmt.Sprint(i)), "a", time.Hour)
		require.NoError(t, err)
	}
	var left int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from "`+schema+`".fetches`).Scan(&left))
	require.Equal(t, 3, left, "no more claims are kept than are under way")
}

// TestWhatIsMirroredIsAddedUpPastWhatWasPushed lets the database count what is read where all repositories, of which one in eleven is
// mirrored, share a layer.
func TestWhatIsMirroredIsAddedUpPastWhatWasPushed(t *testing.T) {
	t.Parallel()
	schema := newSchema(t)
	fill(t, newPool(t, 1), schema, size{tags: 10, repositories: 5000, layers: 1})
	pool := newPool(t, 1)
	_, err := pool.Exec(t.Context(), `
		begin;
		set local session_replication_role = replica;
		set local search_path = "`+schema+`", pg_catalog;
		insert into contents (digest, size, key) values ('sha256:base', 7, 'blobs/base');
		insert into links select id, 'sha256:base' from repositories;
		insert into edges select repository, digest, 'sha256:base', 'sha256:base' from manifests;
		commit;`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `analyze "`+schema+`".links, "`+schema+`".edges`)
	require.NoError(t, err)
	m := open(t, pool, &postgres.Options{Schema: schema})
	before, _ := reads(t, pool, schema)
	page, err := m.MirroredSize(t.Context(), store.ManifestAt{}, 1600)
	require.NoError(t, err)
	after, _ := reads(t, pool, schema)
	require.True(t, page.Done)
	require.Equal(t, 1001, page.Contents)
	require.EqualValues(t, 500*(1024+1000000)+7, page.Bytes)
	assert.LessOrEqual(t, after-before, 1500*8, "index entries that were read for 1500 links")
}
