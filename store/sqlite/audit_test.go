package sqlite_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

func TestDependentsAreFoundBehindRepositoriesThatHaveNone(t *testing.T) {
	t.Parallel()
	m, ctx, layer := openNew(t, nil), t.Context(), inline("layer")
	var want []store.ManifestAt
	for i := range 20 {
		name := fmt.Sprintf("repo-%02d", i)
		require.NoError(t, m.PutContent(ctx, name, layer))
		if i%7 == 5 {
			put := manifest(name, "image", "latest")
			put.References = []store.Reference{{Digest: layer.Digest}}
			require.NoError(t, m.PutManifest(ctx, put))
			want = append(want, store.ManifestAt{Repository: name, Digest: put.Manifest.Digest})
		}
	}
	require.Len(t, want, 3)
	for limit := 1; limit <= 4; limit++ {
		var got []store.ManifestAt
		for after := (store.ManifestAt{}); ; after = got[len(got)-1] {
			page, err := m.Dependents(ctx, layer.Digest, after, limit)
			require.NoError(t, err)
			if got = append(got, page...); len(page) < limit {
				break
			}
		}
		require.Equal(t, want, got, "pages of %d", limit)
	}
	none, err := m.Dependents(ctx, layer.Digest, store.ManifestAt{}, 0)
	require.NoError(t, err)
	require.Empty(t, none)
}
