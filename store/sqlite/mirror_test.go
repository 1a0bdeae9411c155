package sqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// mirrorEverything makes each method of the mirror run each of its statements.
func mirrorEverything(t *testing.T, m *sqlite.Metadata) {
	t.Helper()
	ctx, layer := t.Context(), inline("mirrored layer")
	put := manifest("~hub/a", "mirrored", "latest")
	put.References = []store.Reference{{Digest: layer.Digest}}
	require.NoError(t, m.PutContent(ctx, "~hub/a", layer))
	require.NoError(t, m.PutManifest(ctx, put))
	_, err := m.MirroredTag(ctx, "~hub/a", "latest")
	require.NoError(t, err)
	require.NoError(t, m.ConfirmTag(ctx, "~hub/a", "latest", put.Manifest.Digest))
	claimed, err := m.ClaimFetch(ctx, layer.Digest, "a", time.Minute)
	require.NoError(t, err)
	require.True(t, claimed)
	require.NoError(t, m.ReleaseFetch(ctx, layer.Digest, "a"))
	page, err := m.MirroredSize(ctx, store.ManifestAt{}, 10)
	require.NoError(t, err)
	require.Equal(t, 2, page.Contents)
	_, err = m.EvictManifest(ctx, store.ManifestEviction{Repository: "~hub/a", Digest: put.Manifest.Digest})
	require.NoError(t, err)
}

func TestClaimsForgetThoseWhoseTimeIsOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "index.db")
	m := open(t, path, nil)
	for i := range 40 {
		_, err := m.ClaimFetch(t.Context(), digest.FromString(fmt.Sprint("over ", i)), "a", -time.Second+time.Duration(i))
		require.NoError(t, err)
	}
	for i := range 3 {
		_, err := m.ClaimFetch(t.Context(), digest.FromString(fmt.Sprint(i)), "a", time.Hour)
		require.NoError(t, err)
	}
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	var left int
	require.NoError(t, db.QueryRowContext(t.Context(), "select count(*) from fetches").Scan(&left))
	require.Equal(t, 3, left, "no more claims are kept than are under way")
}
