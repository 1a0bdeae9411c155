package storetest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// objectsConcurrentTests prove that a store is safe for use by several goroutines of several replicas.
func objectsConcurrentTests() []objectsTest {
	return []objectsTest{
		{"PutsAndReadsDoNotDisturbEachOther", concurrentPuts},
		{"ReadersNeverSeeAPartialObject", concurrentReaders},
		{"PartsComeFromSeveralReplicas", concurrentParts},
		{"CompletesAllSucceed", concurrentCompletes},
		{"AbortAndCompleteLeaveAllOrNothing", abortBesideComplete},
		{"PutPartBesideCompleteDoesNotChangeTheObject", putPartBesideComplete},
	}
}

// handle returns one of the two replicas, by turns.
func (o *objects) handle(i int) store.Objects {
	if i%2 == 0 {
		return o.first
	}
	return o.last
}

// readAll is read for goroutines that must not end the test.
func readAll(t *testing.T, o store.Objects, key store.Key) ([]byte, error) {
	r, err := o.Open(t.Context(), key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// errOtherBytes says that an object is not what was put.
var errOtherBytes = errors.New("other bytes than were put")

func concurrentPuts(t *testing.T, o *objects) {
	each(t, 8, 64, func(i int) error {
		key, data := store.NewBlobKey(), bytesOf(uint64(i), int64(1+1000*i))
		if err := o.handle(i).Put(t.Context(), key, bytes.NewReader(data), int64(len(data))); err != nil {
			return err
		}
		got, err := readAll(t, o.handle(i+1), key)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, got) {
			return errOtherBytes
		}
		if i%4 != 0 {
			return nil
		}
		if err := o.handle(i+1).Delete(t.Context(), []store.Key{key}); err != nil {
			return err
		}
		if _, err = readAll(t, o.handle(i), key); !errors.Is(err, store.ErrObjectUnknown) {
			return errors.Join(errors.New("an object that was deleted can be read"), err)
		}
		return nil
	})
	listed, err := o.last.List(t.Context(), "", "", 1000)
	require.NoError(t, err)
	require.Len(t, listed, 48, "what was put and not deleted is there")
}

func concurrentReaders(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(1, 1<<20)
	reader := func(i int) func() error {
		return func() error {
			for range 20 {
				got, err := readAll(t, o.handle(i), key)
				if errors.Is(err, store.ErrObjectUnknown) {
					continue
				}
				if err != nil {
					return err
				}
				if !bytes.Equal(data, got) {
					return errOtherBytes
				}
			}
			return nil
		}
	}
	writer := func(i int) func() error {
		return func() error {
			for range 3 {
				if err := o.handle(i).Put(t.Context(), key, bytes.NewReader(data), int64(len(data))); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, err := range together(writer(0), writer(1), reader(0), reader(1), reader(0), reader(1)) {
		require.NoError(t, err, "an object is visible whole or not at all, also while it is put (again)")
	}
	requireObject(t, o, key, data, "an object is whole after concurrent repetitions of Put")
}

func concurrentParts(t *testing.T, o *objects) {
	const count = 8
	key, size := store.NewBlobKey(), o.partSize()
	data := bytesOf(2, count*size)
	m := begin(t, o.first, key).Multipart
	parts := make([]store.Part, count)
	each(t, count, count, func(i int) (err error) {
		part := store.Part{Number: int32(i + 1), Offset: int64(i) * size, Size: size}
		parts[i], err = o.handle(i).PutPart(t.Context(), m, 1, part, bytes.NewReader(data[part.Offset:part.Offset+size]))
		return err
	})
	require.NoError(t, o.last.Complete(t.Context(), m, parts))
	requireObject(t, o, key, data, "parts may be put at once, by several replicas")
}

func concurrentCompletes(t *testing.T, o *objects) {
	key := store.NewBlobKey()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(3, o.partSize()))
	up.put(t, o.first, 2, bytesOf(4, 100))
	each(t, 8, 8, func(i int) error { return o.handle(i).Complete(t.Context(), up.Multipart, up.parts) })
	requireObject(t, o, key, up.data, "concurrent Completes with the same parts all succeed")
}

func abortBesideComplete(t *testing.T, o *objects) {
	var r race
	for range 20 {
		key := store.NewBlobKey()
		up := begin(t, o.first, key)
		up.put(t, o.first, 1, bytesOf(5, 100))
		errs := r.run(
			func() error { return o.first.Complete(t.Context(), up.Multipart, up.parts) },
			func() error { return o.last.Abort(t.Context(), up.Multipart) },
		)
		there := wholeOrAbsent(t, o.last, key, up.data, "an object that is aborted while it is completed is there whole, or not at all")
		if errs[0] == nil {
			require.True(t, there, "a Complete that returned nil has made the object, whoever aborts at the same time")
		}
		if errors.Is(errs[0], store.ErrMultipartUnknown) {
			require.False(t, there, "a Complete that failed with ErrMultipartUnknown has made no object")
		}
		require.NoError(t, o.first.Abort(t.Context(), up.Multipart))
		require.Equal(t, there, wholeOrAbsent(t, o.last, key, up.data, ""), "aborting again changes nothing")
		requireBegun(t, o, key)
	}
}

func putPartBesideComplete(t *testing.T, o *objects) {
	var r race
	for i := range 20 {
		key, size := store.NewBlobKey(), o.partSize()
		up := begin(t, o.first, key)
		up.put(t, o.first, 1, bytesOf(6, size))
		up.fence = 2
		up.put(t, o.first, 5, bytesOf(7, 100))
		errs := r.run(
			func() error { return o.handle(i).Complete(t.Context(), up.Multipart, up.parts) },
			func() error {
				junk := store.Part{Number: 2, Offset: size, Size: size}
				_, err := o.handle(i+1).PutPart(t.Context(), up.Multipart, 1, junk, bytes.NewReader(bytesOf(8, size)))
				return err
			},
		)
		require.NoError(t, errs[0])
		requireFenced(t, errs[1], "a zombie's PutPart beside Complete")
		requireObject(t, o, key, up.data, "a zombie's PutPart beside Complete does not change the object")
	}
}
