package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// errLost is what a caller gets whose answer was lost.
var errLost = errors.New("answer lost")

// loseFirst returns a hook that loses the answer to the first call of each method, after its effect.
func loseFirst() (hook Hook, lost *atomic.Int32) {
	lost = new(atomic.Int32)
	seen := map[string]bool{}
	return Hook{After: func(_ context.Context, method string, err error) error {
		if seen[method] || err != nil {
			return err
		}
		seen[method] = true
		lost.Add(1)
		return errLost
	}}, lost
}

// again sends an event whose answer is lost the first time, and requires that the repetition succeeds.
func again(t *testing.T, method string, call func() error) {
	t.Helper()
	require.ErrorIs(t, call(), errLost, "%s must have had its effect, and its answer lost", method)
	require.NoError(t, call(), "%s can be sent again when its answer was lost", method)
}

// objectsLostAnswerTests prove that each call can be repeated when its answer was lost.
func objectsLostAnswerTests() []objectsTest {
	return []objectsTest{
		{"OfEveryCallOfAnUpload", lostAnswersOfUpload},
		{"OfPutOpenAndDelete", lostAnswersOfObject},
		{"OfAbort", lostAnswerOfAbort},
	}
}

func lostAnswersOfUpload(t *testing.T, o *objects) {
	hook, lost := loseFirst()
	flaky := HookObjects(o.first, hook)
	key, size := store.NewBlobKey(), o.partSize()
	data := bytesOf(1, size+100)

	var m store.Multipart
	again(t, "Begin", func() (err error) { m, err = flaky.Begin(t.Context(), key); return err })
	begun, err := o.last.Begun(t.Context(), key)
	require.NoError(t, err)
	require.Len(t, begun, 2, "a Begin whose answer was lost is found by Begun, beside the second one")
	require.Contains(t, begun, m)

	var first store.Part
	again(t, "PutPart", func() (err error) {
		first, err = flaky.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: size}, bytes.NewReader(data[:size]))
		return err
	})
	second := putPart(t, o.last, m, 1, 2, size, data[size:])
	again(t, "Complete", func() error { return flaky.Complete(t.Context(), m, []store.Part{first, second}) })
	requireObject(t, o, key, data, "an upload is whole although every answer was lost once")
	again(t, "Begun", func() (err error) { begun, err = flaky.Begun(t.Context(), key); return err })
	require.Len(t, begun, 1, "Begun lists the lost upload, and not the completed one")
	again(t, "Abort", func() error { return flaky.Abort(t.Context(), begun[0]) })
	requireBegun(t, o, key)
	requireObject(t, o, key, data, "aborting the lost upload leaves the completed object")
	require.EqualValues(t, 5, lost.Load())
}

func lostAnswersOfObject(t *testing.T, o *objects) {
	hook, lost := loseFirst()
	flaky := HookObjects(o.first, hook)
	key, data := store.NewBlobKey(), bytesOf(2, 1000)
	again(t, "Put", func() error { return flaky.Put(t.Context(), key, bytes.NewReader(data), 1000) })
	again(t, "Open", func() error {
		r, err := flaky.Open(t.Context(), key, 0, -1)
		if err == nil {
			err = r.Close()
		}
		return err
	})
	again(t, "List", func() error { _, err := flaky.List(t.Context(), "", "", 10); return err })
	requireObject(t, o, key, data, "an object is whole although every answer was lost once")
	again(t, "Delete", func() error { return flaky.Delete(t.Context(), []store.Key{key}) })
	requireNoObject(t, o, key, "an object is gone although the answer to Delete was lost")
	require.EqualValues(t, 4, lost.Load())
}

func lostAnswerOfAbort(t *testing.T, o *objects) {
	hook, _ := loseFirst()
	flaky := HookObjects(o.first, hook)
	up := begin(t, o.first, store.NewBlobKey())
	up.put(t, o.first, 1, bytesOf(3, 100))
	again(t, "Abort", func() error { return flaky.Abort(t.Context(), up.Multipart) })
	require.ErrorIs(t, o.last.Complete(t.Context(), up.Multipart, up.parts), store.ErrMultipartUnknown, "an Abort whose answer was lost has ended the upload")
}

// objectsCancelTests prove what a store does when the caller's context ends.
func objectsCancelTests() []objectsTest {
	return []objectsTest{
		{"BeforeTheCallChangesNothing", objectsCancelledBefore},
		{"WhilePuttingLeavesNothingPartial", cancelledPut},
		{"WhilePuttingAPartLeavesNothingPartial", cancelledPutPart},
		{"WhileReadingFailsTheReader", cancelledReader},
	}
}

// ended returns a context that is over.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func objectsCancelledBefore(t *testing.T, o *objects) {
	ctx := ended(t)
	key, data := store.NewBlobKey(), bytesOf(4, 1000)
	put(t, o.first, key, data)
	up := begin(t, o.first, store.NewBlobKey())
	up.put(t, o.first, 1, bytesOf(5, 100))
	fresh := store.NewBlobKey()

	_, errOpen := o.first.Open(ctx, key, 0, -1)
	_, errBegin := o.first.Begin(ctx, fresh)
	_, errPart := o.first.PutPart(ctx, up.Multipart, 1, store.Part{Number: 2, Offset: 100, Size: 100}, bytes.NewReader(data[:100]))
	_, errBegun := o.first.Begun(ctx, key)
	_, errList := o.first.List(ctx, "", "", 10)
	for method, err := range map[string]error{
		"Put":      o.first.Put(ctx, fresh, bytes.NewReader(data), int64(len(data))),
		"Open":     errOpen,
		"Delete":   o.first.Delete(ctx, []store.Key{key}),
		"Begin":    errBegin,
		"PutPart":  errPart,
		"Complete": o.first.Complete(ctx, up.Multipart, up.parts),
		"Abort":    o.first.Abort(ctx, up.Multipart),
		"Begun":    errBegun,
		"List":     errList,
	} {
		require.Error(t, err, "%s honours its context: one that has ended fails it", method)
	}
	requireNoObject(t, o, fresh, "a Put whose context had ended leaves nothing")
	requireBegun(t, o, fresh)
	requireObject(t, o, key, data, "a Delete whose context had ended deletes nothing")
	up.complete(t, o.last)
	requireObject(t, o, up.Key, up.data, "an Abort whose context had ended aborts nothing")
}

// cancelling is a reader that ends a context when half of it has been read.
type cancelling struct {
	*brokenReader
	cancel func()
}

func newCancelling(data []byte, cancel func()) *cancelling {
	return &cancelling{&brokenReader{bytes.NewReader(data), int64(len(data)), io.EOF}, cancel}
}

func (r *cancelling) Read(p []byte) (int, error) {
	at, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	half := r.Size() / 2
	if at >= half {
		r.cancel()
		return r.brokenReader.Read(p)
	}
	return r.brokenReader.Read(p[:min(int64(len(p)), half-at)])
}

func (r *cancelling) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

func cancelledPut(t *testing.T, o *objects) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	key, data := store.NewBlobKey(), bytesOf(6, 1<<20)
	err := o.first.Put(ctx, key, newCancelling(data, cancel), int64(len(data)))
	there := wholeOrAbsent(t, o.last, key, data, "after a Put whose context ended midway the object is there whole, or not at all")
	if err == nil {
		require.True(t, there, "a Put that returned nil has stored the object, whatever became of its context")
	}
	put(t, o.first, key, data)
	requireObject(t, o, key, data, "a Put that was cancelled can be repeated")
}

func cancelledPutPart(t *testing.T, o *objects) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	key, data := store.NewBlobKey(), bytesOf(7, 1<<20)
	m := begin(t, o.first, key).Multipart
	part, err := o.first.PutPart(ctx, m, 1, store.Part{Number: 1, Size: int64(len(data))}, newCancelling(data, cancel))
	if err != nil {
		part = putPart(t, o.last, m, 1, 1, 0, data)
	}
	requireNoObject(t, o, key, "a PutPart whose context ended midway leaves nothing visible")
	require.NoError(t, o.last.Complete(t.Context(), m, []store.Part{part}))
	requireObject(t, o, key, data, "a PutPart that was cancelled can be repeated")
}

func cancelledReader(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(8, 4<<20)
	put(t, o.first, key, data)
	for name, rest := range map[string]func(r io.Reader) error{
		"Read": func(r io.Reader) error { _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); return err },
		"copy": func(r io.Reader) error { _, err := io.Copy(struct{ io.Writer }{io.Discard}, r); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := o.first.Open(ctx, key, 0, -1)
		require.NoError(t, err)
		head := make([]byte, 1000)
		_, err = io.ReadFull(r, head)
		require.NoError(t, err)
		cancel()
		require.Error(t, rest(r), "the context of Open covers the reading: when it ends, reads fail (%s)", name)
		r.Close() //nolint:errcheck // a reader that failed may say so again
	}
}
