package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// objectTests prove what a store does with whole objects.
func objectTests() []objectsTest {
	return []objectsTest{
		{"LimitsAreSaneAndConstant", limitsAreSane},
		{"IsReadByAnotherReplica", objectIsRead},
		{"RangesAreExactAndClipped", rangesAreExact},
		{"RangePastTheEndIsOutOfRange", rangePastTheEnd},
		{"AbsentIsUnknown", absentObjectIsUnknown},
		{"PutAgainIsHarmless", putAgain},
		{"PutReadsFromTheStart", putReadsFromTheStart},
		{"PutOfABrokenReaderLeavesNothing", putOfBrokenReader},
		{"KeysOfAnyValidFormWork", validKeys},
		{"InvalidKeysAreRefused", invalidKeys},
		{"DeleteIsSeenByAnotherReplica", deleteObjects},
		{"DeleteOfAbsentIsNoError", deleteAbsent},
		{"DeleteTakesThousandsOfKeys", deleteMany},
		{"DeletedWhileReadEndsRightOrFails", deleteWhileRead},
	}
}

func limitsAreSane(t *testing.T, o *objects) {
	limits := o.first.Limits()
	require.GreaterOrEqual(t, limits.MinPart, int64(1), "Limits.MinPart is at least 1")
	require.GreaterOrEqual(t, limits.PartSize, limits.MinPart, "Limits.PartSize is not below MinPart")
	require.LessOrEqual(t, limits.PartSize, limits.MaxPart, "Limits.PartSize is not above MaxPart")
	require.GreaterOrEqual(t, limits.MaxParts, int32(1), "Limits.MaxParts is at least 1")
	put(t, o.first, store.NewBlobKey(), []byte("x"))
	require.Equal(t, limits, o.first.Limits(), "Limits is constant")
	require.Equal(t, limits, o.last.Limits(), "Limits is the same for every replica")
}

func objectIsRead(t *testing.T, o *objects) {
	for _, size := range []int64{1, 1000, 100_000} {
		key, want := store.NewBlobKey(), bytesOf(1, size)
		put(t, o.first, key, want)
		requireObject(t, o, key, want, "an object is what was put")

		r, err := o.last.Open(t.Context(), key, 0, -1)
		require.NoError(t, err)
		head := make([]byte, size/2)
		_, err = io.ReadFull(r, head)
		require.NoError(t, err)
		var rest bytes.Buffer
		_, err = io.Copy(&rest, r) // takes a reader's own WriteTo, if it has one
		require.NoError(t, err)
		require.NoError(t, r.Close(), "a reader is closed without an error")
		requireBytes(t, want, slices.Concat(head, rest.Bytes()), "an object may be read in part, and then copied to its end")
	}
}

func rangesAreExact(t *testing.T, o *objects) {
	const size = 1000
	key, data := store.NewBlobKey(), bytesOf(2, size)
	put(t, o.first, key, data)
	for _, r := range []struct{ offset, length, end int64 }{
		{0, -1, size},
		{0, size, size},
		{0, 1, 1},
		{500, 100, 600},
		{500, -1, size},
		{size - 1, 1, size},
		{size - 1, -1, size},
		{0, size + 1, size},
		{500, 10_000, size},
		{size - 1, math.MaxInt64, size},
		{1, math.MaxInt64 - 1, size},
	} {
		name := fmt.Sprintf("Open reads exactly the range, clipped to the object's end (offset %d, length %d)", r.offset, r.length)
		requireBytes(t, data[r.offset:r.end], read(t, o.last, key, r.offset, r.length), name)

		reader, err := o.last.Open(t.Context(), key, r.offset, r.length)
		require.NoError(t, err)
		var copied bytes.Buffer
		_, err = io.Copy(&copied, reader)
		require.NoError(t, err)
		require.NoError(t, reader.Close())
		requireBytes(t, data[r.offset:r.end], copied.Bytes(), name+", also when it is copied")
	}
}

func rangePastTheEnd(t *testing.T, o *objects) {
	key := store.NewBlobKey()
	put(t, o.first, key, bytesOf(3, 1000))
	for _, r := range []struct{ offset, length int64 }{{1000, -1}, {1000, 1}, {5000, -1}, {5000, 10}, {math.MaxInt64, 1}, {math.MaxInt64, math.MaxInt64}} {
		_, err := o.last.Open(t.Context(), key, r.offset, r.length)
		require.ErrorIs(t, err, store.ErrOutOfRange, "Open fails with ErrOutOfRange when offset is not before the end (offset %d of 1000)", r.offset)
	}
}

func absentObjectIsUnknown(t *testing.T, o *objects) {
	for _, offset := range []int64{0, 1, 1000} {
		_, err := o.last.Open(t.Context(), store.NewBlobKey(), offset, -1)
		require.ErrorIs(t, err, store.ErrObjectUnknown, "Open fails with ErrObjectUnknown for a key that has no object, whatever the offset (%d)", offset)
	}
	key := store.NewUploadKey(store.NewID())
	put(t, o.first, key, []byte("x"))
	_, err := o.last.Open(t.Context(), key[:strings.LastIndexByte(string(key), '/')], 0, -1)
	require.ErrorIs(t, err, store.ErrObjectUnknown, "what a key's segments begin with is not an object")
}

func putAgain(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(4, 50_000)
	put(t, o.first, key, data)
	r, err := o.first.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	defer r.Close()
	put(t, o.last, key, data)
	put(t, o.first, key, data)
	requireObject(t, o, key, data, "a repetition of Put with the same bytes is harmless")
	got, err := io.ReadAll(r)
	require.NoError(t, err, "a repetition of Put does not disturb who reads the object")
	requireBytes(t, data, got, "a repetition of Put does not disturb who reads the object")
}

func putReadsFromTheStart(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(5, 10_000)
	r := bytes.NewReader(data)
	_, err := r.Seek(7_000, io.SeekStart)
	require.NoError(t, err)
	require.NoError(t, o.first.Put(t.Context(), key, r, r.Size()))
	requireObject(t, o, key, data, "Put stores what the reader holds from its start, wherever it stands")
}

// brokenReader holds size bytes and yields only the first of them.
type brokenReader struct {
	*bytes.Reader
	good int64
	err  error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	at, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if at >= r.good {
		return 0, r.err
	}
	return r.Reader.Read(p[:min(int64(len(p)), r.good-at)])
}

// WriteTo would get around Read.
func (r *brokenReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

func (r *brokenReader) ReadAt([]byte, int64) (int, error) { return 0, r.err }

func putOfBrokenReader(t *testing.T, o *objects) {
	data := bytesOf(6, 100_000)
	for name, end := range map[string]error{"fails": errors.New("broken"), "ends early": io.EOF} {
		key := store.NewBlobKey()
		r := &brokenReader{bytes.NewReader(data), 60_000, end}
		require.Error(t, o.first.Put(t.Context(), key, r, int64(len(data))), "Put fails when its reader %s", name)
		requireNoObject(t, o, key, "an object is visible whole or not at all: Put's reader "+name)
		put(t, o.first, key, data)
		requireObject(t, o, key, data, "a Put that failed can be repeated")
	}
}

func validKeys(t *testing.T, o *objects) {
	for i, key := range []store.Key{
		"x", "0", "-", "blobs/x", "a/b/c/d/e/f/g/h",
		store.NewBlobKey(), store.NewUploadKey(store.NewID()),
		store.Key(strings.Repeat("k", 128)),
		store.Key(strings.Repeat("s/", 63) + "s"),
	} {
		data := bytesOf(uint64(100+i), 10)
		put(t, o.first, key, data)
		requireObject(t, o, key, data, fmt.Sprintf("every valid key works: %q", key))
	}
}

func invalidKeys(t *testing.T, o *objects) {
	ctx := t.Context()
	m, err := o.first.Begin(ctx, store.NewBlobKey())
	require.NoError(t, err)
	for _, key := range []store.Key{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a.b", "A", "a b", "a\x00", "ä", `a\b`, "a:b",
		store.Key(strings.Repeat("k", 129)),
	} {
		forged := store.Multipart{Key: key, ID: m.ID}
		part := store.Part{Number: 1, Size: 1}
		_, errOpen := o.first.Open(ctx, key, 0, -1)
		_, errBegin := o.first.Begin(ctx, key)
		_, errPart := o.first.PutPart(ctx, forged, 1, part, strings.NewReader("x"))
		for method, err := range map[string]error{
			"Put":      o.first.Put(ctx, key, strings.NewReader("x"), 1),
			"Open":     errOpen,
			"Begin":    errBegin,
			"PutPart":  errPart,
			"Complete": o.first.Complete(ctx, forged, []store.Part{{Number: 1, Size: 1, Tag: "x"}}),
		} {
			require.Error(t, err, "%s refuses a key that is not of a key's form: %q", method, key)
		}
	}
	listed, err := o.last.List(ctx, "", "", 10)
	require.NoError(t, err)
	require.Empty(t, listed, "what was refused is not there")
	put(t, o.first, "b", []byte("x"))
	for _, key := range []store.Key{"a/../b", "./b", "b/", "/b", "//b", "b/."} {
		_, err := o.first.Open(ctx, key, 0, -1)
		require.Error(t, err, "%q is not another name for %q", key, "b")
		_ = o.first.Delete(ctx, []store.Key{key}) // refused, or nothing to delete
	}
	requireObject(t, o, "b", []byte("x"), "a key that is not of a key's form reaches no object")
	for _, prefix := range []string{"/", "../", "..", "./"} {
		listed, err := o.last.List(ctx, prefix, "", 10)
		if err == nil {
			require.Empty(t, listed, "no key has the prefix %q", prefix)
		}
	}
}

func deleteObjects(t *testing.T, o *objects) {
	gone, goneToo, kept, data := store.NewBlobKey(), store.NewUploadKey(store.NewID()), store.NewBlobKey(), bytesOf(7, 100)
	for _, key := range []store.Key{gone, goneToo, kept} {
		put(t, o.first, key, data)
	}
	require.NoError(t, o.last.Delete(t.Context(), []store.Key{gone, goneToo}))
	requireNoObject(t, o, gone, "an object that was deleted is gone, for every replica")
	requireNoObject(t, o, goneToo, "an object that was deleted is gone, for every replica")
	requireObject(t, o, kept, data, "Delete deletes nothing but what it names")
}

func deleteAbsent(t *testing.T, o *objects) {
	key, absent, data := store.NewBlobKey(), store.NewBlobKey(), bytesOf(8, 100)
	put(t, o.first, key, data)
	require.NoError(t, o.first.Delete(t.Context(), nil), "deleting nothing is not an error")
	require.NoError(t, o.first.Delete(t.Context(), []store.Key{absent}), "deleting what is absent is not an error")
	require.NoError(t, o.first.Delete(t.Context(), []store.Key{absent, key}), "absent keys do not keep others from being deleted")
	requireNoObject(t, o, key, "absent keys do not keep others from being deleted")
	require.NoError(t, o.last.Delete(t.Context(), []store.Key{absent, key}), "deleting again is not an error")
}

func deleteMany(t *testing.T, o *objects) {
	keys := make([]store.Key, 2500)
	for i := range keys {
		keys[i] = store.NewBlobKey()
	}
	present := []store.Key{keys[0], keys[999], keys[1000], keys[1001], keys[2000], keys[2499]}
	for _, key := range present {
		put(t, o.first, key, []byte("x"))
	}
	require.NoError(t, o.first.Delete(t.Context(), keys), "Delete takes any number of keys")
	for _, key := range present {
		requireNoObject(t, o, key, "each of thousands of keys is deleted")
	}
}

func deleteWhileRead(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(9, 4<<20)
	put(t, o.first, key, data)
	r, err := o.first.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	defer r.Close()
	head := make([]byte, 1000)
	_, err = io.ReadFull(r, head)
	require.NoError(t, err)
	require.NoError(t, o.last.Delete(t.Context(), []store.Key{key}), "an object may be deleted while it is read")
	rest, err := io.ReadAll(r)
	got := slices.Concat(head, rest)
	if err == nil {
		requireBytes(t, data, got, "a reader of a deleted object that does not fail reads to the right end")
	}
	require.True(t, bytes.HasPrefix(data, got), "a reader of a deleted object never yields other bytes")
	requireNoObject(t, o, key, "an object that was deleted is gone, also while somebody reads it")
}
