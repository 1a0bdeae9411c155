package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// listTests prove what a store tells an audit.
func listTests() []objectsTest {
	return []objectsTest{
		{"TellsKeysSizesAndTimes", listTells},
		{"IsInByteOrder", listIsInByteOrder},
		{"SelectsByPrefixAndAfter", listSelects},
		{"PagesThroughAThousandKeys", listPages},
		{"LeavesOutWhatIsStaged", listLeavesOutStaged},
	}
}

func listTells(t *testing.T, o *objects) {
	listed, err := o.last.List(t.Context(), "", "", 10)
	require.NoError(t, err)
	require.Empty(t, listed, "an empty store lists nothing")

	whole, parts := store.NewBlobKey(), store.NewBlobKey()
	put(t, o.first, whole, bytesOf(1, 1234))
	up := begin(t, o.first, parts)
	up.put(t, o.first, 1, bytesOf(2, o.partSize()))
	up.put(t, o.first, 2, bytesOf(3, 100))
	up.complete(t, o.first)

	listed, err = o.last.List(t.Context(), store.BlobPrefix, "", 10)
	require.NoError(t, err)
	sizes := map[store.Key]int64{}
	for _, object := range listed {
		sizes[object.Key] = object.Size
		require.False(t, object.Modified.IsZero(), "a listed object has the time when it was written")
	}
	require.Equal(t, map[store.Key]int64{whole: 1234, parts: o.partSize() + 100}, sizes, "List tells each object with its size in bytes")
}

// keysOf lists and returns the keys.
func keysOf(t *testing.T, o store.Objects, prefix string, after store.Key, limit int) []store.Key {
	t.Helper()
	listed, err := o.List(t.Context(), prefix, after, limit)
	require.NoError(t, err)
	keys := []store.Key{}
	for _, object := range listed {
		keys = append(keys, object.Key)
	}
	return keys
}

// unorderedKeys are in byte order, which is not the order in which a walk through folders meets them.
func unorderedKeys() []store.Key {
	return []store.Key{"list/a-1/x", "list/a/x", "list/a/y", "list/a0", "list/a0a/x", "list/b", "list/ba", "lists/a", "m"}
}

func listIsInByteOrder(t *testing.T, o *objects) {
	want := unorderedKeys()
	require.True(t, slices.IsSorted(want))
	for _, i := range []int{4, 8, 2, 0, 6, 1, 7, 3, 5} {
		put(t, o.first, want[i], []byte("x"))
	}
	require.Equal(t, want, keysOf(t, o.last, "", "", 100), "List is in byte order of whole keys, not of segments")
	var paged []store.Key
	for after := store.Key(""); ; {
		page := keysOf(t, o.last, "", after, 1)
		if len(page) == 0 {
			break
		}
		require.Less(t, len(paged), len(want), "a walk by pages of one key ends")
		paged, after = append(paged, page...), page[0]
	}
	require.Equal(t, want, paged, "pages of one key each come to the same list")
}

func listSelects(t *testing.T, o *objects) {
	all := unorderedKeys()
	for _, key := range all {
		put(t, o.first, key, []byte("x"))
	}
	for _, test := range []struct {
		prefix string
		after  store.Key
		limit  int
		want   []store.Key
	}{
		{"list/", "", 100, all[:7]},
		{"list", "", 100, all[:8]},
		{"list/a", "", 100, all[:5]},
		{"list/a/", "", 100, all[1:3]},
		{"list/a/x", "", 100, all[1:2]},
		{"n", "", 100, []store.Key{}},
		{"", "list/a/y", 100, all[3:]},
		{"list/", "list/a/y", 2, all[3:5]},
		{"list/", "list/a/xx", 2, all[2:4]}, // not there
		{"list/", "list/z", 100, []store.Key{}},
		{"list/b", "a", 100, all[5:7]},
		{"", "m", 100, []store.Key{}},
		{"", "", 9, all},
	} {
		require.Equal(t, test.want, keysOf(t, o.last, test.prefix, test.after, test.limit),
			"List returns up to limit keys that start with prefix and come after the given key (prefix %q, after %q, limit %d)", test.prefix, test.after, test.limit)
	}
}

func listPages(t *testing.T, o *objects) {
	want := make([]store.Key, 1000)
	for i := range want {
		want[i] = store.Key(fmt.Sprintf("blobs/%03d-%s", i, store.NewID()))
	}
	each(t, 8, len(want), func(i int) error {
		return o.first.Put(t.Context(), want[i], strings.NewReader("x"), 1)
	})
	var got []store.Key
	for after := store.Key(""); ; {
		page := keysOf(t, o.last, store.BlobPrefix, after, 300)
		got = append(got, page...)
		if len(page) < 300 {
			break
		}
		require.LessOrEqual(t, len(got), len(want), "a walk by pages meets each key once")
		after = page[len(page)-1]
	}
	require.Equal(t, want, got, "pages together list every key once, in byte order")
}

func listLeavesOutStaged(t *testing.T, o *objects) {
	up := begin(t, o.first, store.NewBlobKey())
	up.put(t, o.first, 1, bytesOf(1, o.partSize()))
	require.Empty(t, keysOf(t, o.last, "", "", 10), "parts of an unfinished multipart upload are not listed")
	require.NoError(t, o.first.Abort(t.Context(), up.Multipart))
	require.Empty(t, keysOf(t, o.last, "", "", 10), "an aborted multipart upload leaves nothing that is listed")
}
