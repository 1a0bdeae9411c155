package storetest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// multipartTests prove what a store does with an object that comes in parts.
func multipartTests() []objectsTest {
	return []objectsTest{
		{"PartsComeTogetherInNumberOrderWithGaps", partsInOrder},
		{"OnePartMayHaveAnySize", onePart},
		{"PartsOfThePreferredSizeWork", preferredParts},
		{"PutPartReadsFromTheStart", putPartReadsFromTheStart},
		{"PutPartOfABrokenReaderLeavesNoPart", putPartOfBrokenReader},
		{"NothingIsVisibleBeforeComplete", nothingBeforeComplete},
		{"PartsThatAreNotNamedAreDropped", unnamedParts},
		{"ReplacedPartIsInvalidByItsOldTag", replacedPart},
		{"ReplacedPartMayBeShorter", shorterPart},
		{"UnknownPartIsInvalid", unknownPart},
		{"CompleteIsIdempotent", completeTwice},
		{"CompleteAfterAbortIsUnknown", completeAfterAbort},
		{"PutPartAfterTheEndIsUnknown", putPartAfterEnd},
		{"AbortIsIdempotent", abortTwice},
		{"AbortLeavesAFinishedObject", abortAfterComplete},
		{"WhatWasNeverBegunIsUnknown", neverBegun},
		{"BeginsOfOneKeyAreIndependent", beginTwice},
		{"BegunListsExactlyTheUnfinished", begunLists},
		{"CompletedObjectIsReadInRanges", completedRanges},
	}
}

// upload is a multipart upload together with what was written to it.
type upload struct {
	store.Multipart
	fence int64
	data  []byte
	parts []store.Part
}

// begin begins a multipart upload.
func begin(t *testing.T, o store.Objects, key store.Key) *upload {
	t.Helper()
	m, err := o.Begin(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, key, m.Key, "Begin returns a Multipart of the key")
	require.NotEmpty(t, m.ID, "Begin returns a Multipart with an ID")
	return &upload{Multipart: m, fence: 1}
}

// put puts data as one more part, after the bytes that are there.
func (u *upload) put(t *testing.T, o store.Objects, number int32, data []byte) store.Part {
	t.Helper()
	part := putPart(t, o, u.Multipart, u.fence, number, int64(len(u.data)), data)
	u.parts = append(u.parts, part)
	u.data = append(u.data, data...)
	return part
}

// complete completes the upload with the parts that were put.
func (u *upload) complete(t *testing.T, o store.Objects) {
	t.Helper()
	require.NoError(t, o.Complete(t.Context(), u.Multipart, u.parts), "Complete makes the object of the parts")
}

// putPart puts one part.
func putPart(t *testing.T, o store.Objects, m store.Multipart, fence int64, number int32, offset int64, data []byte) store.Part {
	t.Helper()
	asked := store.Part{Number: number, Offset: offset, Size: int64(len(data))}
	part, err := o.PutPart(t.Context(), m, fence, asked, bytes.NewReader(data))
	require.NoError(t, err, "PutPart stores part %d", number)
	require.NotEmpty(t, part.Tag, "PutPart returns the part with a tag")
	asked.Tag = part.Tag
	require.Equal(t, asked, part, "PutPart returns the part that it was given, with its tag")
	return part
}

func partsInOrder(t *testing.T, o *objects) {
	size, key := o.partSize(), store.NewBlobKey()
	m := begin(t, o.first, key).Multipart
	data := bytesOf(1, 3*size+100)
	put := func(handle store.Objects, number int32, index int64) store.Part {
		return putPart(t, handle, m, 1, number, index*size, data[index*size:min((index+1)*size, int64(len(data)))])
	}
	// They arrive in another order than they belong in, through both replicas.
	last, second := put(o.last, 20, 3), put(o.first, 5, 1)
	first, third := put(o.last, 2, 0), put(o.first, 9, 2)
	require.NoError(t, o.last.Complete(t.Context(), m, []store.Part{first, second, third, last}), "part numbers may have gaps, and the last part may be smaller")
	requireObject(t, o, key, data, "parts come together in the order of their numbers")
}

func onePart(t *testing.T, o *objects) {
	for _, size := range []int64{1, 100, o.partSize()} {
		key := store.NewBlobKey()
		up := begin(t, o.first, key)
		up.put(t, o.first, 1, bytesOf(2, size))
		up.complete(t, o.last)
		requireObject(t, o, key, up.data, "a part that no other follows may have any size")
	}
	key := store.NewBlobKey()
	up := begin(t, o.first, key)
	up.put(t, o.first, o.first.Limits().MaxParts, bytesOf(3, 100))
	up.complete(t, o.last)
	requireObject(t, o, key, up.data, "the largest part number is Limits.MaxParts")
}

func preferredParts(t *testing.T, o *objects) {
	limits := o.first.Limits()
	size := min(limits.PartSize, max(limits.MinPart, 16<<20)) // what a test may take of memory
	key := store.NewBlobKey()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(4, size))
	up.put(t, o.first, 2, bytesOf(5, min(size, 1000)))
	up.complete(t, o.first)
	requireObject(t, o, key, up.data, "parts of the size that Limits prefers work")
}

func putPartReadsFromTheStart(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(6, 10_000)
	m := begin(t, o.first, key).Multipart
	r := bytes.NewReader(data)
	_, err := r.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	part, err := o.first.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: r.Size()}, r)
	require.NoError(t, err)
	require.NoError(t, o.first.Complete(t.Context(), m, []store.Part{part}))
	requireObject(t, o, key, data, "PutPart stores what the reader holds from its start, wherever it stands")
}

func putPartOfBrokenReader(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(7, 100_000)
	m := begin(t, o.first, key).Multipart
	part := store.Part{Number: 1, Size: int64(len(data))}
	_, err := o.first.PutPart(t.Context(), m, 1, part, &brokenReader{bytes.NewReader(data), 60_000, io.ErrUnexpectedEOF})
	require.Error(t, err, "PutPart fails when its reader fails")
	_, err = o.first.PutPart(t.Context(), m, 1, part, &brokenReader{bytes.NewReader(data), 60_000, io.EOF})
	require.Error(t, err, "PutPart fails when its reader ends early")
	requireNoObject(t, o, key, "a part that failed is not visible")
	whole := putPart(t, o.last, m, 1, 1, 0, data)
	require.NoError(t, o.last.Complete(t.Context(), m, []store.Part{whole}))
	requireObject(t, o, key, data, "a PutPart that failed can be repeated")
}

func nothingBeforeComplete(t *testing.T, o *objects) {
	key := store.NewBlobKey()
	up := begin(t, o.first, key)
	requireNoObject(t, o, key, "a multipart upload that was only begun is not visible")
	up.put(t, o.first, 1, bytesOf(8, o.partSize()))
	up.put(t, o.first, 2, bytesOf(9, 100))
	requireNoObject(t, o, key, "nothing of a multipart upload is visible before Complete")
	up.complete(t, o.first)
	requireObject(t, o, key, up.data, "all of a multipart upload is visible after Complete, at once and everywhere")
}

func unnamedParts(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(10, size))
	up.put(t, o.first, 2, bytesOf(11, size))
	putPart(t, o.first, up.Multipart, 1, 3, 2*size, bytesOf(12, 100))
	up.complete(t, o.first)
	requireObject(t, o, key, up.data, "stored parts that Complete does not name are dropped, also after the end")
}

func replacedPart(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	stale := up.put(t, o.first, 1, bytesOf(13, size))
	up.put(t, o.first, 2, bytesOf(14, 100))
	fresh := bytesOf(15, size)
	replaced := putPart(t, o.last, up.Multipart, 1, 1, 0, fresh)
	require.NotEqual(t, stale.Tag, replaced.Tag, "a tag names the bytes of a part: other bytes have another tag")

	err := o.first.Complete(t.Context(), up.Multipart, up.parts)
	require.ErrorIs(t, err, store.ErrInvalidPart, "Complete fails with ErrInvalidPart for the tag of a part that was replaced since")
	requireNoObject(t, o, key, "a Complete that failed with ErrInvalidPart changes nothing")

	require.NoError(t, o.first.Complete(t.Context(), up.Multipart, []store.Part{replaced, up.parts[1]}), "after ErrInvalidPart, Complete with the right tags succeeds")
	requireObject(t, o, key, slices.Concat(fresh, up.data[size:]), "a part that is put again is replaced")
}

func shorterPart(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(16, size))
	up.put(t, o.first, 2, bytesOf(17, size))
	short := bytesOf(18, size/2)
	part := putPart(t, o.first, up.Multipart, 1, 2, size, short)
	require.NoError(t, o.first.Complete(t.Context(), up.Multipart, []store.Part{up.parts[0], part}))
	requireObject(t, o, key, slices.Concat(up.data[:size], short), "the last part may be replaced by a shorter one, which ends the object")
}

func unknownPart(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	one := up.put(t, o.first, 1, bytesOf(19, size))
	two := up.put(t, o.first, 2, bytesOf(20, size))
	never := store.Part{Number: 3, Offset: two.Offset + two.Size, Size: 100, Tag: two.Tag}
	swapped := []store.Part{{Number: 1, Size: one.Size, Tag: two.Tag}, {Number: 2, Offset: one.Size, Size: two.Size, Tag: one.Tag}}
	for name, parts := range map[string][]store.Part{
		"a number that was never put":     {one, two, never},
		"the tag of another part":         swapped,
		"the right bytes, another number": {one, {Number: 7, Offset: two.Offset, Size: two.Size, Tag: two.Tag}},
	} {
		require.ErrorIs(t, o.first.Complete(t.Context(), up.Multipart, parts), store.ErrInvalidPart, "Complete fails with ErrInvalidPart for %s", name)
		requireNoObject(t, o, key, "a Complete that failed with ErrInvalidPart changes nothing")
	}
	up.complete(t, o.last)
	requireObject(t, o, key, up.data, "a Complete that failed with ErrInvalidPart changes nothing")
}

func completeTwice(t *testing.T, o *objects) {
	key := store.NewBlobKey()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(21, o.partSize()))
	up.put(t, o.first, 4, bytesOf(22, 100))
	for _, handle := range []store.Objects{o.first, o.first, o.last, o.first} {
		require.NoError(t, handle.Complete(t.Context(), up.Multipart, up.parts), "completing again with the same parts succeeds, on every replica")
		requireObject(t, o, key, up.data, "completing again changes nothing")
	}
}

func completeAfterAbort(t *testing.T, o *objects) {
	key := store.NewBlobKey()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(23, 100))
	require.NoError(t, o.last.Abort(t.Context(), up.Multipart))
	require.ErrorIs(t, o.first.Complete(t.Context(), up.Multipart, up.parts), store.ErrMultipartUnknown, "Complete after Abort fails with ErrMultipartUnknown")
	requireNoObject(t, o, key, "an aborted multipart upload leaves no object")
}

func putPartAfterEnd(t *testing.T, o *objects) {
	end := map[string]func(up *upload) error{
		"Abort":    func(up *upload) error { return o.last.Abort(t.Context(), up.Multipart) },
		"Complete": func(up *upload) error { return o.last.Complete(t.Context(), up.Multipart, up.parts) },
	}
	for name, end := range end {
		key, size := store.NewBlobKey(), o.partSize()
		up := begin(t, o.first, key)
		up.put(t, o.first, 1, bytesOf(24, size))
		up.put(t, o.first, 2, bytesOf(25, 100))
		require.NoError(t, end(up))
		for _, part := range []store.Part{{Number: 1, Size: size}, {Number: 2, Offset: size, Size: 100}, {Number: 3, Offset: size + 100, Size: 50}} {
			for _, handle := range []store.Objects{o.first, o.last} {
				err := answered(func() error {
					_, err := handle.PutPart(t.Context(), up.Multipart, 9, part, bytes.NewReader(bytesOf(26, part.Size)))
					return err
				})
				require.ErrorIs(t, err, store.ErrMultipartUnknown, "PutPart after %s fails with ErrMultipartUnknown, whatever the fence", name)
			}
		}
		if name == "Abort" {
			requireNoObject(t, o, key, "PutPart after Abort brings nothing back")
			continue
		}
		requireObject(t, o, key, up.data, "PutPart after Complete never changes the object")
	}
}

// answered makes a call until the store answers it: many servers hang up on a body that they do not want, so that now and then
// nobody hears the reason.
func answered(call func() error) (err error) {
	for range 20 {
		if err = call(); !errors.Is(err, store.ErrUnavailable) {
			break
		}
	}
	return err
}

func abortTwice(t *testing.T, o *objects) {
	key := store.NewBlobKey()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(27, o.partSize()))
	for _, handle := range []store.Objects{o.first, o.first, o.last} {
		require.NoError(t, handle.Abort(t.Context(), up.Multipart), "aborting again is not an error, on any replica")
	}
	requireNoObject(t, o, key, "an aborted multipart upload leaves no object")
	requireBegun(t, o, key)
}

func abortAfterComplete(t *testing.T, o *objects) {
	key := store.NewBlobKey()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(28, o.partSize()))
	up.put(t, o.first, 2, bytesOf(29, 100))
	up.complete(t, o.first)
	require.NoError(t, o.first.Abort(t.Context(), up.Multipart), "aborting a completed upload is not an error")
	require.NoError(t, o.last.Abort(t.Context(), up.Multipart), "aborting a completed upload is not an error")
	requireObject(t, o, key, up.data, "Abort leaves a finished object alone")
}

func neverBegun(t *testing.T, o *objects) {
	key, other := store.NewBlobKey(), store.NewBlobKey()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(30, 100))
	finished := store.NewBlobKey()
	put(t, o.first, finished, bytesOf(31, 100))
	for _, m := range []store.Multipart{
		{Key: other, ID: up.ID},
		{Key: finished, ID: up.ID},
		{Key: key, ID: "never-begun"},
		{Key: key, ID: "../" + string(finished)},
	} {
		_, err := o.first.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: 1}, bytes.NewReader([]byte("x")))
		require.ErrorIs(t, err, store.ErrMultipartUnknown, "PutPart to an upload that was never begun fails with ErrMultipartUnknown (%v)", m)
		if m.Key != finished {
			require.ErrorIs(t, o.first.Complete(t.Context(), m, up.parts), store.ErrMultipartUnknown, "Complete of an upload that was never begun fails with ErrMultipartUnknown (%v)", m)
		}
		require.NoError(t, o.first.Abort(t.Context(), m), "Abort of an upload that is unknown is not an error (%v)", m)
	}
	requireNoObject(t, o, other, "an upload that was never begun leaves nothing")
	requireObject(t, o, finished, bytesOf(31, 100), "an upload that was never begun reaches no other object")
	up.complete(t, o.first)
	requireObject(t, o, key, up.data, "an upload that was never begun reaches no other upload")
}

func beginTwice(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	dropped, kept := begin(t, o.first, key), begin(t, o.last, key)
	require.NotEqual(t, dropped.ID, kept.ID, "every Begin begins another multipart upload")
	kept.put(t, o.first, 1, bytesOf(32, size))
	dropped.put(t, o.first, 1, bytesOf(33, size))
	dropped.put(t, o.first, 2, bytesOf(34, size))
	kept.put(t, o.first, 2, bytesOf(35, 100))
	mixed := []store.Part{kept.parts[0], dropped.parts[1]}
	require.ErrorIs(t, o.first.Complete(t.Context(), kept.Multipart, mixed), store.ErrInvalidPart, "parts of another upload of the same key are unknown")
	kept.complete(t, o.first)
	requireObject(t, o, key, kept.data, "multipart uploads of one key do not share parts")
	require.NoError(t, o.first.Abort(t.Context(), dropped.Multipart))
	requireObject(t, o, key, kept.data, "aborting one multipart upload leaves what another one of the same key finished")
	require.NoError(t, o.last.Complete(t.Context(), kept.Multipart, kept.parts), "completing again succeeds, whatever became of another upload of the key")
}

// requireBegun requires that exactly these multipart uploads of the key are unfinished, for both replicas.
func requireBegun(t *testing.T, o *objects, key store.Key, want ...*upload) {
	t.Helper()
	wanted := []store.Multipart{}
	for _, up := range want {
		wanted = append(wanted, up.Multipart)
	}
	for _, handle := range []store.Objects{o.first, o.last} {
		got, err := handle.Begun(t.Context(), key)
		require.NoError(t, err)
		require.ElementsMatch(t, wanted, got, "Begun lists the unfinished multipart uploads of exactly this key")
	}
}

func begunLists(t *testing.T, o *objects) {
	session := store.NewID()
	key := store.NewUploadKey(session)
	requireBegun(t, o, key)
	one, two := begin(t, o.first, key), begin(t, o.last, key)
	longer, other := begin(t, o.first, key+"0"), begin(t, o.first, store.NewUploadKey(session))
	requireBegun(t, o, key, one, two)
	requireBegun(t, o, key+"0", longer)
	requireBegun(t, o, key[:len(key)-1])
	requireBegun(t, o, store.Key(store.UploadPrefix+session))

	one.put(t, o.first, 1, bytesOf(36, 100))
	requireBegun(t, o, key, one, two)
	one.complete(t, o.first)
	requireBegun(t, o, key, two)
	require.NoError(t, o.first.Abort(t.Context(), two.Multipart))
	requireBegun(t, o, key)
	requireBegun(t, o, key+"0", longer)
	requireBegun(t, o, other.Key, other)
}

func completedRanges(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(37, size))
	up.put(t, o.first, 2, bytesOf(38, size))
	up.put(t, o.first, 3, bytesOf(39, 100))
	up.complete(t, o.first)
	for _, r := range []struct{ offset, end int64 }{{0, size}, {size, 2 * size}, {size - 10, size + 10}, {size - 10, 2*size + 10}, {2*size + 99, 2*size + 100}} {
		requireBytes(t, up.data[r.offset:r.end], read(t, o.last, key, r.offset, r.end-r.offset), "ranges of a completed object know no parts")
	}
	_, err := o.last.Open(t.Context(), key, 2*size+100, -1)
	require.ErrorIs(t, err, store.ErrOutOfRange, "a completed object ends where its last part ends")
}
