package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

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
