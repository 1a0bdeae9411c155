package filesystem

import (
	"cmp"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// FuzzLayout looks at where two keys are kept: inside the folder, apart, and in their order.
func FuzzLayout(f *testing.F) {
	f.Add("blobs/aa-1", "blobs/aa/1")
	f.Add("a-b/x", "a/y")
	f.Add("a", "a/a")
	f.Add("a/b/c", "a/b-c")
	f.Add("../x", "blobs/..")
	f.Add(strings.Repeat("s/", 63)+"s", strings.Repeat("s/", 62)+"s")
	f.Fuzz(func(t *testing.T, a, b string) {
		one, two := store.Key(a), store.Key(b)
		if !one.Valid() || !two.Valid() {
			return
		}
		l := layout{root: filepath.FromSlash("/srv")}
		folder, file := l.object(one)
		require.Equal(t, file, filepath.Clean(file), "a key is not a way out of the folder")
		require.Equal(t, l.objects(), filepath.Dir(folder), "a key's folder is one of the folders of objects")
		require.Equal(t, folder, filepath.Dir(file))
		require.Equal(t, folder, l.folder(shard(one)))
		back, ok := toKey(filepath.Base(file))
		require.True(t, ok)
		require.Equal(t, one, back, "a file's name tells its key")
		backShard, ok := toShard(filepath.Base(folder))
		require.True(t, ok)
		require.Equal(t, shard(one), backShard, "a folder's name tells its shard")
		_, other := l.object(two)
		require.Equal(t, one == two, file == other, "two keys are two files")

		order := cmp.Compare(one, two)
		if shard(one) != shard(two) {
			require.Equal(t, order, cmp.Compare(shard(one), shard(two)), "folders are in the order of the keys in them")
		}
		require.Equal(t, order, cmp.Compare(filepath.Base(file), filepath.Base(other)), "files are in the order of their keys")
	})
}
