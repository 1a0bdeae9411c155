package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// Stall returns a handle to the store under test whose first call gets stuck on its way, in a test of its own. The kit's own
// one gets stuck before the call; a driver that speaks to a server has another one, which gets stuck on the wire.
type Stall func(t *testing.T) Stalled

// Stalled is a replica that is slow to learn that it was given up.
type Stalled struct {
	Objects store.Objects   // the first call that needs the store gets stuck, the others pass
	Stuck   <-chan struct{} // closed when a call is stuck
	Release func()          // lets it go on, and may be called again
	Reached func() bool     // whether it got to the store, once the call has returned
}

// Zombies proves of a store what [Objects] proves in its group Zombie, with calls that get stuck in another way than there.
// open is as for Objects, and returns a way to get stuck besides.
func Zombies(t *testing.T, open func(t *testing.T) ([]store.Objects, Stall)) {
	for _, test := range zombieTests() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			handles, stall := open(t)
			require.NotEmpty(t, handles, "the function that opens the store must return a handle")
			test.run(t, &objects{first: handles[0], last: handles[len(handles)-1], stall: stall})
		})
	}
}

// zombieTests prove that a writer which was fenced off, and does not know it yet, never changes what others read. Claims write
// as staging does: each with part numbers of its own, from the durable offset on, with its version for a fence.
func zombieTests() []objectsTest {
	return []objectsTest{
		{"LowerFenceWritesNothingOrApart", lowerFence},
		{"LowerFenceDoesNotReachPastTheEnd", longerZombie},
		{"OverwrittenPartIsNeverMixed", overwrittenPart},
		{"LateCallsNeverChangeAFinishedObject", lateZombie},
		{"LateCallsNeverReviveAnAbortedUpload", lateZombieAfterAbort},
		{"LateRepetitionOfAPartIsNeverMixed", lateRepetitionOfPart},
		{"LateRepetitionOfPutIsHarmless", lateRepetitionOfPut},
		{"LateCompleteNeverBringsBackADeletedObject", lateCompleteAfterDelete},
		{"CompleteStuckBesideAnotherIsDoneOnce", stuckComplete},
		{"FencesRacePartsAndTheHighestWins", racingFences},
	}
}

// hookedStall gets stuck before the call.
func (o *objects) hookedStall(*testing.T) Stalled {
	var first, reached atomic.Bool
	var once sync.Once
	stuck, released := make(chan struct{}), make(chan struct{})
	return Stalled{
		Objects: HookObjects(o.first, Hook{
			Before: func(context.Context, string) error {
				if first.CompareAndSwap(false, true) {
					close(stuck)
					<-released
				}
				return nil
			},
			After: func(_ context.Context, _ string, err error) error {
				reached.Store(true)
				return err
			},
		}),
		Stuck:   stuck,
		Release: func() { once.Do(func() { close(released) }) },
		Reached: reached.Load,
	}
}

// late makes a zombie's call, which gets stuck, and has it reach the store after what others do meanwhile. It returns what
// the zombie is told.
func (o *objects) late(t *testing.T, name string, call func(o store.Objects) error, meanwhile func()) error {
	t.Helper()
	stall := o.stall
	if stall == nil {
		stall = o.hookedStall
	}
	z := stall(t)
	defer z.Release()
	told := make(chan error, 1)
	go func() { told <- call(z.Objects) }()
	select {
	case <-z.Stuck:
	case err := <-told:
		require.FailNow(t, "a zombie's call must get stuck", "%s returned %v", name, err)
	}
	meanwhile()
	z.Release()
	err := <-told
	require.True(t, z.Reached(), "the zombie's call must have reached the store: %s", name)
	return err
}

// requireFenced requires one of the outcomes that a stale writer may have. It may not learn why: many servers hang up on a body
// that they do not want.
func requireFenced(t *testing.T, err error, message string) {
	t.Helper()
	if err != nil && !errors.Is(err, store.ErrFenced) && !errors.Is(err, store.ErrMultipartUnknown) && !errors.Is(err, store.ErrUnavailable) {
		require.NoError(t, err, message)
	}
}

func lowerFence(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(1, size))
	stale := bytesOf(2, size)
	err := o.late(t, "PutPart", func(z store.Objects) error {
		_, err := z.PutPart(t.Context(), up.Multipart, 1, store.Part{Number: 2, Offset: size, Size: size}, bytes.NewReader(stale))
		return err
	}, func() {
		up.fence = 2
		up.put(t, o.last, 5, bytesOf(3, size))
	})
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
		requireFenced(t, o.late(t, name, call, func() { finish(up) }), "a zombie's late "+name)
		requireObject(t, o, up.Key, up.data, "a zombie's late "+name+" never changes a finished object")
	}

	up := start()
	stale := slices.Clone(up.parts)
	stale = append(stale, putPart(t, o.first, up.Multipart, 1, 2, size, bytesOf(16, size)))
	_ = o.late(t, "Complete", func(z store.Objects) error { // success or failure: it cannot know
		return z.Complete(t.Context(), up.Multipart, stale)
	}, func() { finish(up) })
	requireObject(t, o, up.Key, up.data, "a zombie's late Complete, with parts of its own, never changes a finished object")
}

func lateZombieAfterAbort(t *testing.T, o *objects) {
	size := o.partSize()
	for name := range lateCalls(t, store.Multipart{}, size) {
		up := begin(t, o.first, store.NewBlobKey())
		up.put(t, o.first, 1, bytesOf(17, size))
		call := lateCalls(t, up.Multipart, size)[name]
		requireFenced(t, o.late(t, name, call, func() { require.NoError(t, o.last.Abort(t.Context(), up.Multipart)) }), "a zombie's late "+name)
		err := o.first.Complete(t.Context(), up.Multipart, up.parts)
		if errors.Is(err, store.ErrInvalidPart) { // a part in flight may survive on some stores, alone
			require.NoError(t, o.last.Abort(t.Context(), up.Multipart))
			err = o.first.Complete(t.Context(), up.Multipart, up.parts)
		}
		require.ErrorIs(t, err, store.ErrMultipartUnknown, "a zombie's late %s does not bring back an aborted upload", name)
		requireNoObject(t, o, up.Key, "a zombie's late "+name+" does not bring back an aborted upload")
	}
}

// A request that its sender gave up, and sent again, arrives after the repetition.
func lateRepetitionOfPart(t *testing.T, o *objects) {
	key, size := store.NewBlobKey(), o.partSize()
	up := begin(t, o.first, key)
	up.put(t, o.first, 1, bytesOf(30, size))
	last := bytesOf(31, 100)
	err := o.late(t, "PutPart", func(z store.Objects) error {
		_, err := z.PutPart(t.Context(), up.Multipart, 1, store.Part{Number: 2, Offset: size, Size: 100}, bytes.NewReader(last))
		return err
	}, func() { up.put(t, o.last, 2, last) })
	requireFenced(t, err, "a late repetition of PutPart")
	err = o.last.Complete(t.Context(), up.Multipart, up.parts)
	if err != nil {
		require.ErrorIs(t, err, store.ErrInvalidPart, "a part that a late repetition replaced has the same tag, or the earlier one is invalid")
		requireNoObject(t, o, key, "a Complete that failed with ErrInvalidPart changes nothing")
		return
	}
	requireObject(t, o, key, up.data, "a late repetition of PutPart never mixes with what it repeats")
}

func lateRepetitionOfPut(t *testing.T, o *objects) {
	key, data := store.NewBlobKey(), bytesOf(32, 3<<20)
	require.NoError(t, o.late(t, "Put", func(z store.Objects) error {
		return z.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)))
	}, func() {
		put(t, o.last, key, data)
		requireObject(t, o, key, data, "a Put is visible although an earlier one is stuck")
	}), "a late repetition of Put succeeds")
	requireObject(t, o, key, data, "a late repetition of Put is harmless")
}

func lateCompleteAfterDelete(t *testing.T, o *objects) {
	up := begin(t, o.first, store.NewBlobKey())
	up.put(t, o.first, 1, bytesOf(33, o.partSize()))
	up.put(t, o.first, 2, bytesOf(34, 100))
	err := o.late(t, "Complete", func(z store.Objects) error {
		return z.Complete(t.Context(), up.Multipart, up.parts)
	}, func() {
		up.complete(t, o.last)
		require.NoError(t, o.last.Delete(t.Context(), []store.Key{up.Key}))
	})
	requireNoObject(t, o, up.Key, fmt.Sprintf("a late Complete does not bring back an object that was deleted since (it was told: %v)", err))
}

func stuckComplete(t *testing.T, o *objects) {
	up := begin(t, o.first, store.NewBlobKey())
	up.put(t, o.first, 1, bytesOf(35, o.partSize()))
	up.put(t, o.first, 2, bytesOf(36, 100))
	require.NoError(t, o.late(t, "Complete", func(z store.Objects) error {
		return z.Complete(t.Context(), up.Multipart, up.parts)
	}, func() {
		up.complete(t, o.last)
		requireObject(t, o, up.Key, up.data, "an upload is completed although an earlier Complete is stuck")
	}), "a Complete that another replica did meanwhile succeeds")
	requireObject(t, o, up.Key, up.data, "a Complete that comes late changes nothing")
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
