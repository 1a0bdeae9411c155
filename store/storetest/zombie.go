package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// zombieTests prove that a writer which was fenced off, and does not know it yet, never changes what others read. Claims write
// as staging does: each with part numbers of its own, from the durable offset on, with its version for a fence.
func zombieTests() []objectsTest {
	return []objectsTest{
		{"LowerFenceWritesNothingOrApart", lowerFence},
		{"LowerFenceDoesNotReachPastTheEnd", longerZombie},
		{"OverwrittenPartIsNeverMixed", overwrittenPart},
		{"LateCallsNeverChangeAFinishedObject", lateZombie},
		{"LateCallsNeverReviveAnAbortedUpload", lateZombieAfterAbort},
		{"FencesRacePartsAndTheHighestWins", racingFences},
	}
}

// zombie is a replica whose calls are stuck on their way until its claim is long over: they reach the store only after
// what the test does in the meantime.
type zombie struct {
	store.Objects
	reached atomic.Int32 // calls that got to the store
	calls   int32
}

func newZombie(o store.Objects, meanwhile func()) *zombie {
	z := &zombie{}
	z.Objects = HookObjects(o, Hook{
		Before: func(context.Context, string) error {
			if z.calls++; z.calls == 1 {
				meanwhile()
			}
			return nil
		},
		After: func(_ context.Context, _ string, err error) error {
			z.reached.Add(1)
			return err
		},
	})
	return z
}

// requireFenced requires one of the outcomes that a stale writer may have.
func requireFenced(t *testing.T, err error, message string) {
	t.Helper()
	if err != nil && !errors.Is(err, store.ErrFenced) && !errors.Is(err, store.ErrMultipartUnknown) {
		require.NoError(t, err, message)
	}
}

func lowerFence(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(1, size))
	stale := bytesOf(2, size)
	z := newZombie(o.first, func() {
		up.fence = 2
		up.put(t, o.last, 5, bytesOf(3, size))
	})
	_, err := z.PutPart(t.Context(), up.Multipart, 1, store.Part{Number: 2, Offset: size, Size: size}, bytes.NewReader(stale))
	require.EqualValues(t, 1, z.reached.Load(), "the zombie's call must have reached the store")
	if err != nil {
		require.ErrorIs(t, err, store.ErrFenced, "PutPart with a lower fence than was seen before fails with ErrFenced, or keeps the part apart")
	}
	up.put(t, o.last, 6, bytesOf(4, 100))
	up.complete(t, o.last)
	requireObject(t, o, key, up.data, "a part with a lower fence never gets into the object of a later claim")
}

func longerZombie(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(5, size))
	// The first claim writes far ahead, and saves nothing of it.
	putPart(t, o.first, up.Multipart, 1, 2, size, bytesOf(6, size))
	putPart(t, o.first, up.Multipart, 1, 3, 2*size, bytesOf(7, size))
	up.fence = 2
	up.put(t, o.last, 5, bytesOf(8, 100))
	_, err := o.first.PutPart(t.Context(), up.Multipart, 1, store.Part{Number: 4, Offset: 3 * size, Size: size}, bytes.NewReader(bytesOf(9, size)))
	requireFenced(t, err, "PutPart with a lower fence than was seen before fails with ErrFenced, or keeps the part apart")
	up.complete(t, o.last)
	requireObject(t, o, key, up.data, "the object ends where its last named part ends, whatever an earlier claim wrote further on")
}

func overwrittenPart(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(10, size))
	up.put(t, o.first, 2, bytesOf(11, size))
	later := putPart(t, o.last, up.Multipart, 2, 5, size, bytesOf(12, 100))

	err := o.first.Complete(t.Context(), up.Multipart, up.parts)
	if err == nil {
		requireObject(t, o, key, up.data, "a tag names the very bytes of a part, also after another part was written at its place")
		return
	}
	require.ErrorIs(t, err, store.ErrInvalidPart, "where parts are written in place, a part that was overwritten by another number is invalid")
	requireNoObject(t, o, key, "a Complete that failed with ErrInvalidPart changes nothing")
	require.NoError(t, o.last.Complete(t.Context(), up.Multipart, []store.Part{up.parts[0], later}))
	requireObject(t, o, key, slices.Concat(up.data[:size], bytesOf(12, 100)), "the later claim's parts are whole")
}

// lateCalls are what a stale writer of an upload may still send, each under a name or a number of its own claim.
func lateCalls(t *testing.T, m store.Multipart, size int64) map[string]func(o store.Objects) error {
	junk := func(size int64) io.ReadSeeker { return bytes.NewReader(bytesOf(99, size)) }
	putPart := func(number int32, offset, size int64) func(o store.Objects) error {
		return func(o store.Objects) error {
			_, err := o.PutPart(t.Context(), m, 1, store.Part{Number: number, Offset: offset, Size: size}, junk(size))
			return err
		}
	}
	return map[string]func(o store.Objects) error{
		"PutPart at the beginning": putPart(1, 0, size),
		"PutPart in the middle":    putPart(2, size, size),
		"PutPart past the end":     putPart(3, 5*size, size),
		"Abort":                    func(o store.Objects) error { return o.Abort(t.Context(), m) },
		"Put under a key of its own": func(o store.Objects) error {
			return o.Put(t.Context(), store.NewBlobKey(), junk(100), 100)
		},
		"Begin under a key of its own, and Complete": func(o store.Objects) error {
			mine, err := o.Begin(t.Context(), store.NewBlobKey())
			if err != nil {
				return err
			}
			part, err := o.PutPart(t.Context(), mine, 1, store.Part{Number: 1, Size: 100}, junk(100))
			if err != nil {
				return err
			}
			return o.Complete(t.Context(), mine, []store.Part{part})
		},
	}
}

func lateZombie(t *testing.T, o *objects) {
	size := o.partSize()
	start := func() *upload {
		up := begin(t, o.first, store.NewBlobKey())
		up.put(t, o.first, 1, bytesOf(13, size))
		return up
	}
	finish := func(up *upload) {
		up.fence = 2
		up.put(t, o.last, 5, bytesOf(14, size))
		up.put(t, o.last, 6, bytesOf(15, 100))
		up.complete(t, o.last)
	}
	for name := range lateCalls(t, store.Multipart{}, size) {
		up := start()
		call := lateCalls(t, up.Multipart, size)[name]
		z := newZombie(o.first, func() { finish(up) })
		requireFenced(t, call(z), "a zombie's late "+name)
		require.Positive(t, z.reached.Load(), "the zombie's call must have reached the store: %s", name)
		requireObject(t, o, up.Key, up.data, "a zombie's late "+name+" never changes a finished object")
	}

	up := start()
	stale := slices.Clone(up.parts)
	stale = append(stale, putPart(t, o.first, up.Multipart, 1, 2, size, bytesOf(16, size)))
	z := newZombie(o.first, func() { finish(up) })
	err := z.Complete(t.Context(), up.Multipart, stale) // success or failure: it cannot know
	require.Positive(t, z.reached.Load(), "the zombie's Complete must have reached the store (it answered %v)", err)
	requireObject(t, o, up.Key, up.data, "a zombie's late Complete, with parts of its own, never changes a finished object")
}

func lateZombieAfterAbort(t *testing.T, o *objects) {
	size := o.partSize()
	for name := range lateCalls(t, store.Multipart{}, size) {
		up := begin(t, o.first, store.NewBlobKey())
		up.put(t, o.first, 1, bytesOf(17, size))
		call := lateCalls(t, up.Multipart, size)[name]
		z := newZombie(o.first, func() { require.NoError(t, o.last.Abort(t.Context(), up.Multipart)) })
		requireFenced(t, call(z), "a zombie's late "+name)
		require.Positive(t, z.reached.Load(), "the zombie's call must have reached the store: %s", name)
		require.ErrorIs(t, o.first.Complete(t.Context(), up.Multipart, up.parts), store.ErrMultipartUnknown, "a zombie's late %s does not bring back an aborted upload", name)
		requireNoObject(t, o, up.Key, "a zombie's late "+name+" does not bring back an aborted upload")
	}
}

func racingFences(t *testing.T, o *objects) {
	const claims = 8
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(18, size))
	calls := make([]func() error, claims)
	written := make([]store.Part, claims)
	for i := range calls {
		handle := []store.Objects{o.first, o.last}[i%2]
		calls[i] = func() (err error) {
			part := store.Part{Number: int32(i + 2), Offset: size, Size: size}
			written[i], err = handle.PutPart(t.Context(), up.Multipart, int64(i+2), part, bytes.NewReader(bytesOf(uint64(20+i), size)))
			return err
		}
	}
	errs := together(calls...)
	require.NoError(t, errs[claims-1], "the claim with the highest fence is never fenced off")
	for i, err := range errs[:claims-1] {
		if err != nil {
			require.ErrorIs(t, err, store.ErrFenced, "a claim that was overtaken fails with ErrFenced, or is kept apart (fence %d)", i+2)
		}
	}
	require.NoError(t, o.last.Complete(t.Context(), up.Multipart, []store.Part{up.parts[0], written[claims-1]}))
	requireObject(t, o, key, slices.Concat(up.data, bytesOf(20+claims-1, size)), "the part with the highest fence is whole, whoever wrote at its place at the same time")
}
