package storetest_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/ocikit/ocikit/store"
)

// objectsFault is a mistake that somebody's implementation of [store.Objects] may have.
type objectsFault struct {
	caughtBy string // group and behaviour
	plant    func(correct store.Objects) store.Objects
}

func group(caughtBy string) string     { name, _, _ := strings.Cut(caughtBy, "/"); return name }
func behaviour(caughtBy string) string { _, name, _ := strings.Cut(caughtBy, "/"); return name }

// objectsFaults returns the planted faults by what a store with them does.
func objectsFaults() map[string]objectsFault {
	return map[string]objectsFault{
		"accepts stale tags":                   {"Multipart/ReplacedPartIsInvalidByItsOldTag", func(o store.Objects) store.Objects { return &staleTags{Objects: o, newest: map[partName]string{}} }},
		"completes once only":                  {"Multipart/CompleteIsIdempotent", func(o store.Objects) store.Objects { return &completesOnce{Objects: o} }},
		"deletes what it aborts":               {"Multipart/AbortLeavesAFinishedObject", func(o store.Objects) store.Objects { return &abortDeletes{o} }},
		"shows parts":                          {"Multipart/NothingIsVisibleBeforeComplete", func(o store.Objects) store.Objects { return &showsParts{o} }},
		"begins the same again":                {"Multipart/BeginsOfOneKeyAreIndependent", func(o store.Objects) store.Objects { return &beginsOnce{Objects: o} }},
		"lists uploads by prefix":              {"Multipart/BegunListsExactlyTheUnfinished", func(o store.Objects) store.Objects { return &begunByPrefix{Objects: o} }},
		"lets late parts through":              {"Zombie/LateCallsNeverChangeAFinishedObject", func(o store.Objects) store.Objects { return &lateParts{o} }},
		"writes in place without a fence":      {"Zombie/LowerFenceWritesNothingOrApart", func(o store.Objects) store.Objects { return newUnfenced(o) }},
		"tears what is put again":              {"Zombie/LateRepetitionOfPutIsHarmless", func(o store.Objects) store.Objects { return &tornAgain{Objects: o} }},
		"keeps a part from the repetition":     {"Zombie/LateRepetitionOfAPartIsNeverMixed", func(o store.Objects) store.Objects { return &wrongAgain{Objects: o} }},
		"completes what was deleted":           {"Zombie/LateCompleteNeverBringsBackADeletedObject", func(o store.Objects) store.Objects { return &revives{o} }},
		"forgets what it completed":            {"Zombie/CompleteStuckBesideAnotherIsDoneOnce", func(o store.Objects) store.Objects { return &completesOnce{Objects: o} }},
		"does not clip":                        {"Object/RangesAreExactAndClipped", func(o store.Objects) store.Objects { return &unclipped{o} }},
		"reads from where the reader stands":   {"Object/PutReadsFromTheStart", func(o store.Objects) store.Objects { return &readsFromHere{o} }},
		"keeps what a broken reader gave":      {"Object/PutOfABrokenReaderLeavesNothing", func(o store.Objects) store.Objects { return &torn{o} }},
		"deletes a thousand at most":           {"Object/DeleteTakesThousandsOfKeys", func(o store.Objects) store.Objects { return &deletesThousand{o} }},
		"lists as folders are walked":          {"List/IsInByteOrder", func(o store.Objects) store.Objects { return &folderOrder{o} }},
		"reads on when the context has ended":  {"Cancelled/WhileReadingFailsTheReader", func(o store.Objects) store.Objects { return &endlessReader{o} }},
		"puts although the context has ended":  {"Cancelled/BeforeTheCallChangesNothing", func(o store.Objects) store.Objects { return &deafPut{o} }},
		"fails the second Abort":               {"LostAnswer/OfAbort", func(o store.Objects) store.Objects { return &abortsOnce{Objects: o} }},
		"completes for one of several callers": {"Concurrent/CompletesAllSucceed", func(o store.Objects) store.Objects { return &completesOnce{Objects: o} }},
	}
}

type partName struct {
	store.Multipart
	number int32
}

type staleTags struct {
	store.Objects
	mu     sync.Mutex
	newest map[partName]string
}

func (o *staleTags) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	part, err := o.Objects.PutPart(ctx, m, fence, part, r)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.newest[partName{m, part.Number}] = part.Tag
	return part, err
}

func (o *staleTags) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	parts = slices.Clone(parts)
	for i, part := range parts {
		parts[i].Tag = o.newest[partName{m, part.Number}]
	}
	return o.Objects.Complete(ctx, m, parts)
}

type completesOnce struct {
	store.Objects
	done sync.Map
}

func (o *completesOnce) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	if _, again := o.done.LoadOrStore(m, true); again {
		return store.ErrMultipartUnknown
	}
	return o.Objects.Complete(ctx, m, parts)
}

type abortDeletes struct{ store.Objects }

func (o *abortDeletes) Abort(ctx context.Context, m store.Multipart) error {
	return errors.Join(o.Objects.Abort(ctx, m), o.Delete(ctx, []store.Key{m.Key}))
}

type showsParts struct{ store.Objects }

func (o *showsParts) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	if err := o.Put(ctx, m.Key, r, part.Size); err != nil {
		return part, err
	}
	return o.Objects.PutPart(ctx, m, fence, part, r)
}

type beginsOnce struct {
	store.Objects
	begun sync.Map
}

func (o *beginsOnce) Begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	if m, again := o.begun.Load(key); again {
		return m.(store.Multipart), nil
	}
	m, err := o.Objects.Begin(ctx, key)
	o.begun.Store(key, m)
	return m, err
}

type begunByPrefix struct {
	store.Objects
	mu   sync.Mutex
	keys []store.Key
}

func (o *begunByPrefix) Begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Contains(o.keys, key) {
		o.keys = append(o.keys, key)
	}
	return o.Objects.Begin(ctx, key)
}

func (o *begunByPrefix) Begun(ctx context.Context, key store.Key) (begun []store.Multipart, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range o.keys {
		if strings.HasPrefix(string(k), string(key)) {
			more, err := o.Objects.Begun(ctx, k)
			if err != nil {
				return nil, err
			}
			begun = append(begun, more...)
		}
	}
	return begun, nil
}

type lateParts struct{ store.Objects }

func (o *lateParts) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	put, err := o.Objects.PutPart(ctx, m, fence, part, r)
	if errors.Is(err, store.ErrMultipartUnknown) {
		return put, errors.Join(o.Put(ctx, m.Key, r, part.Size), err)
	}
	return put, err
}

// unfenced writes a part over whatever part is at its offset, as a file does, and does not look at fences.
type unfenced struct {
	store.Objects
	mu    sync.Mutex
	bytes map[store.Multipart]map[int64][]byte
}

func newUnfenced(o store.Objects) *unfenced {
	return &unfenced{Objects: o, bytes: map[store.Multipart]map[int64][]byte{}}
}

func (o *unfenced) PutPart(_ context.Context, m store.Multipart, _ int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return part, err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return part, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes[m] == nil {
		o.bytes[m] = map[int64][]byte{}
	}
	o.bytes[m][part.Offset] = data
	part.Tag = store.NewID()
	return part, nil
}

func (o *unfenced) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var object []byte
	for _, part := range parts {
		object = append(object, o.bytes[m][part.Offset]...)
	}
	return o.Put(ctx, m.Key, bytes.NewReader(object), int64(len(object)))
}

type tornAgain struct {
	store.Objects
	put sync.Map
}

func (o *tornAgain) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	if _, again := o.put.LoadOrStore(key, true); again {
		size /= 2
	}
	return o.Objects.Put(ctx, key, io.NewSectionReader(r.(io.ReaderAt), 0, size), size)
}

type wrongAgain struct {
	store.Objects
	put sync.Map // partName to the first tag
	now sync.Map // and to the tag that counts
}

func (o *wrongAgain) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	name := partName{m, part.Number}
	first, again := o.put.Load(name)
	if again {
		r = bytes.NewReader(make([]byte, part.Size))
	}
	put, err := o.Objects.PutPart(ctx, m, fence, part, r)
	if err != nil {
		return put, err
	}
	o.now.Store(name, put.Tag)
	if again {
		put.Tag = first.(string)
		return put, nil
	}
	o.put.Store(name, put.Tag)
	return put, nil
}

func (o *wrongAgain) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	parts = slices.Clone(parts)
	for i, part := range parts {
		if tag, ok := o.now.Load(partName{m, part.Number}); ok {
			parts[i].Tag = tag.(string)
		}
	}
	return o.Objects.Complete(ctx, m, parts)
}

type revives struct{ store.Objects }

func (o *revives) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	err := o.Objects.Complete(ctx, m, parts)
	if errors.Is(err, store.ErrMultipartUnknown) {
		return o.Put(ctx, m.Key, strings.NewReader("x"), 1)
	}
	return err
}

type unclipped struct{ store.Objects }

func (o *unclipped) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	r, err := o.Objects.Open(ctx, key, offset, length)
	if err != nil || length < 0 {
		return r, err
	}
	data, err := io.ReadAll(r)
	if err == nil && int64(len(data)) < length {
		return nil, store.ErrOutOfRange
	}
	return io.NopCloser(bytes.NewReader(data)), errors.Join(err, r.Close())
}

type readsFromHere struct{ store.Objects }

func (o *readsFromHere) Put(ctx context.Context, key store.Key, r io.ReadSeeker, _ int64) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return o.Objects.Put(ctx, key, bytes.NewReader(data), int64(len(data)))
}

type torn struct{ store.Objects }

func (o *torn) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	err := o.Objects.Put(ctx, key, r, size)
	if err == nil {
		return nil
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	data, _ := io.ReadAll(r)
	return errors.Join(err, o.Objects.Put(ctx, key, bytes.NewReader(data), int64(len(data))))
}

type deletesThousand struct{ store.Objects }

func (o *deletesThousand) Delete(ctx context.Context, keys []store.Key) error {
	return o.Objects.Delete(ctx, keys[:min(len(keys), 1000)])
}

type folderOrder struct{ store.Objects }

func (o *folderOrder) List(ctx context.Context, prefix string, after store.Key, limit int) ([]store.Object, error) {
	all, err := o.Objects.List(ctx, prefix, "", 1<<20)
	segments := func(key store.Key) []string { return strings.Split(string(key), "/") }
	slices.SortFunc(all, func(a, b store.Object) int { return slices.Compare(segments(a.Key), segments(b.Key)) })
	from, found := slices.BinarySearchFunc(all, after, func(a store.Object, key store.Key) int {
		return cmp.Or(slices.Compare(segments(a.Key), segments(key)))
	})
	if found {
		from++
	}
	return all[from:min(len(all), from+limit)], err
}

type endlessReader struct{ store.Objects }

func (o *endlessReader) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return o.Objects.Open(context.WithoutCancel(ctx), key, offset, length)
}

type deafPut struct{ store.Objects }

func (o *deafPut) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	return o.Objects.Put(context.WithoutCancel(ctx), key, r, size)
}

type abortsOnce struct {
	store.Objects
	done sync.Map
}

func (o *abortsOnce) Abort(ctx context.Context, m store.Multipart) error {
	if _, again := o.done.LoadOrStore(m, true); again {
		return store.ErrMultipartUnknown
	}
	return o.Objects.Abort(ctx, m)
}
