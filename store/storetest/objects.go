package storetest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// Objects proves that an implementation keeps the contract of [store.Objects].
//
// open returns one or more handles over the same, empty data, each of which may be used by many goroutines; what it
// opens it closes in t.Cleanup. It is called once for each subtest, concurrently. Parts are as small as the store's
// Limits allow, and no test needs part numbers between 20 and Limits().MaxParts.
func Objects(t *testing.T, open func(t *testing.T) []store.Objects) {
	for _, group := range []struct {
		name  string
		tests []objectsTest
	}{
		{"Object", objectTests()},
		{"Multipart", multipartTests()},
		{"Zombie", zombieTests()},
		{"List", listTests()},
		{"LostAnswer", objectsLostAnswerTests()},
		{"Cancelled", objectsCancelTests()},
		{"Concurrent", objectsConcurrentTests()},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					handles := open(t)
					require.NotEmpty(t, handles, "the function that opens the store must return a handle")
					test.run(t, &objects{first: handles[0], last: handles[len(handles)-1]})
				})
			}
		})
	}
}

// objectsTest is one behaviour of [store.Objects].
type objectsTest struct {
	name string
	run  func(t *testing.T, o *objects)
}

// objects is the store under test, as two replicas see it.
type objects struct {
	first, last store.Objects
	stall       Stall // nil: before the call
}

// partSize is the size of the parts that tests use: small, but larger than what an implementation might special-case.
func (o *objects) partSize() int64 {
	limits := o.first.Limits()
	return min(max(limits.MinPart, 8<<10), limits.MaxPart)
}

// bytesOf returns size bytes that are the same for the same seed, and look like no others'.
func bytesOf(seed uint64, size int64) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// put puts an object.
func put(t *testing.T, o store.Objects, key store.Key, data []byte) {
	t.Helper()
	require.NoError(t, o.Put(t.Context(), key, bytes.NewReader(data), int64(len(data))), "Put stores an object of at least 1 byte")
}

// read reads a range of an object.
func read(t *testing.T, o store.Objects, key store.Key, offset, length int64) []byte {
	t.Helper()
	r, err := o.Open(t.Context(), key, offset, length)
	require.NoError(t, err, "Open returns a reader of an object that is there (offset %d, length %d)", offset, length)
	defer r.Close()
	got, err := io.ReadAll(r)
	require.NoError(t, err, "an open object can be read to its end (offset %d, length %d)", offset, length)
	return got
}

// requireBytes compares without printing what may be mebibytes.
func requireBytes(t *testing.T, want, got []byte, message string) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	require.FailNow(t, "other bytes than were written: "+message,
		"want %d bytes, got %d; the first difference is at byte %d", len(want), len(got), at)
}

// requireObject requires that both replicas see the object, whole.
func requireObject(t *testing.T, o *objects, key store.Key, want []byte, message string) {
	t.Helper()
	requireBytes(t, want, read(t, o.first, key, 0, -1), message)
	requireBytes(t, want, read(t, o.last, key, 0, -1), message)
}

// requireNoObject requires that no replica sees anything of the object.
func requireNoObject(t *testing.T, o *objects, key store.Key, message string) {
	t.Helper()
	for _, handle := range []store.Objects{o.first, o.last} {
		r, err := handle.Open(t.Context(), key, 0, -1)
		if err == nil {
			r.Close()
		}
		require.ErrorIs(t, err, store.ErrObjectUnknown, message)
		listed, err := handle.List(t.Context(), string(key), "", 10)
		require.NoError(t, err)
		require.Empty(t, listed, "an object that cannot be opened is not listed: %s", message)
	}
}

// wholeOrAbsent requires that an object whose writing had an unknown outcome is there whole, or not at all.
func wholeOrAbsent(t *testing.T, o store.Objects, key store.Key, want []byte, message string) (there bool) {
	t.Helper()
	r, err := o.Open(t.Context(), key, 0, -1)
	if err != nil {
		require.ErrorIs(t, err, store.ErrObjectUnknown, message)
		return false
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	require.NoError(t, err, message)
	requireBytes(t, want, got, message)
	return true
}
