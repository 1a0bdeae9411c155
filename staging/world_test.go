package staging_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

const (
	repository  = "team/app"
	inlineLimit = 1 << 10
	minPart     = 5 << 10
	partSize    = 16 << 10
)

// The kinds of stores that uploads have to be right on, made small.
var kinds = map[string]store.Limits{
	"any parts":   {PartSize: partSize},
	"big parts":   {MinPart: minPart, PartSize: partSize, MaxParts: 10_000},
	"equal parts": {MinPart: minPart, PartSize: partSize, MaxParts: 10_000, EqualParts: true},
}

// world is the stores that replicas share, and what the test has made in them, so that every key can be accounted for.
type world struct {
	clock   *storetest.Clock
	meta    *memory.Metadata
	objects *memory.Objects

	readBack atomic.Int64 // bytes
	light    bool         // what is costly is not checked at every call

	mu      sync.Mutex
	uploads []string
	digests map[digest.Digest][]byte
}

func newWorld(limits store.Limits) *world {
	clock := storetest.NewClock()
	return &world{
		clock:   clock,
		meta:    memory.NewMetadata(&memory.MetadataOptions{Now: clock.Now}),
		objects: memory.NewObjects(&memory.ObjectsOptions{Limits: limits, Now: clock.Now}),
		digests: map[digest.Digest][]byte{},
	}
}

// replica is a stage over the world's stores, with hooks around each call of theirs. Limits that opts leaves open are
// small.
func (w *world) replica(opts staging.Options, objects, meta storetest.Hook) *staging.Stage {
	if opts.InlineLimit == 0 {
		opts.InlineLimit = inlineLimit
	}
	if opts.Budget == nil {
		opts.Budget = staging.NewBudget(0)
	}
	return staging.New(storetest.HookMetadata(w.meta, meta), storetest.HookObjects(&recorded{w.objects, w}, objects), &opts)
}

// stage is a replica without hooks.
func (w *world) stage() *staging.Stage {
	return w.replica(staging.Options{}, storetest.Hook{}, storetest.Hook{})
}

// start begins an upload whose keys the world accounts for.
func (w *world) start(t testing.TB, s *staging.Stage, announced digest.Algorithm) string {
	t.Helper()
	upload, err := s.Start(t.Context(), repository, announced)
	require.NoError(t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.uploads = append(w.uploads, upload.ID)
	return upload.ID
}

// expect remembers content that may appear, and returns its digest.
func (w *world) expect(a digest.Algorithm, data []byte) digest.Digest {
	d := a.FromBytes(data)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.digests[d] = data
	return d
}

// session is an upload's row, whatever its age.
func (w *world) session(id string) (store.Session, error) {
	return w.meta.Session(context.Background(), store.SessionRef{ID: id, Repository: repository})
}

// read reads content as anybody would.
func (w *world) read(d digest.Digest) ([]byte, error) {
	ctx := context.Background()
	found, err := cas.New(w.meta, w.objects, nil).Find(ctx, repository, d)
	if err != nil {
		return nil, err
	}
	r, err := found.Open(ctx, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// requireContent requires that the content can be read, and is right.
func (w *world) requireContent(t testing.TB, d digest.Digest, want []byte) {
	t.Helper()
	got, err := w.read(d)
	require.NoError(t, err, "content of %d bytes should be readable", len(want))
	if !bytes.Equal(got, want) {
		require.Failf(t, "wrong content", "%d bytes that differ from the %d uploaded", len(got), len(want))
	}
}

// requireAbsent requires that content is not visible.
func (w *world) requireAbsent(t testing.TB, d digest.Digest) {
	t.Helper()
	_, err := w.read(d)
	require.ErrorIs(t, err, store.ErrContentUnknown, "content should not be visible")
}

// condemned is the keys in the garbage.
func (w *world) condemned() map[store.Key]bool {
	garbage, _ := w.meta.Garbage(context.Background(), 0, 1<<30)
	keys := map[store.Key]bool{}
	for _, g := range garbage {
		keys[g.Key] = true
	}
	return keys
}

// named is the keys in use: by sessions and by content.
func (w *world) named() map[store.Key]string {
	w.mu.Lock()
	uploads, digests := slices.Clone(w.uploads), slices.Collect(maps.Keys(w.digests))
	w.mu.Unlock()
	keys := map[store.Key]string{}
	for _, id := range uploads {
		if session, err := w.session(id); err == nil {
			for _, key := range session.Keys() {
				keys[key] = "upload " + id
			}
		}
	}
	for _, d := range digests {
		if content, err := w.meta.Content(context.Background(), repository, d); err == nil && !content.IsInline() {
			keys[content.Key] = "content " + d.String()
		}
	}
	return keys
}

// check returns what is wrong with the world, whatever has happened to it: content that is visible is right; every object
// is named or in the garbage, and never both; what a session counts is there.
func (w *world) check() error {
	ctx := context.Background()
	garbage, named := w.condemned(), w.named()
	for key, by := range named {
		if garbage[key] {
			return fmt.Errorf("key %s of %s is in the garbage", key, by)
		}
	}
	objects, err := w.objects.List(ctx, "", "", 1<<30)
	if err != nil {
		return err
	}
	sizes := map[store.Key]int64{}
	for _, o := range objects {
		sizes[o.Key] = o.Size
		if named[o.Key] == "" && !garbage[o.Key] {
			return fmt.Errorf("object %s is leaked: no row names it, and it is not in the garbage", o.Key)
		}
	}
	for d, want := range w.digests {
		got, err := w.read(d)
		switch {
		case errors.Is(err, store.ErrContentUnknown):
		case err != nil:
			return fmt.Errorf("content %s is visible, but not readable: %w", d, err)
		case !bytes.Equal(got, want):
			return fmt.Errorf("content %s is visible with %d wrong bytes instead of %d", d, len(got), len(want))
		}
	}
	for _, id := range w.uploads {
		session, err := w.session(id)
		if err != nil || session.State == store.SessionFinished {
			continue
		}
		durable := session.PartsEnd + int64(len(session.Inline))
		for _, tail := range session.Tails {
			if sizes[tail.Key] != tail.Size {
				return fmt.Errorf("upload %s counts a tail of %d bytes that has %d", id, tail.Size, sizes[tail.Key])
			}
			durable += tail.Size
		}
		if durable != session.Offset {
			return fmt.Errorf("upload %s stands at %d, but holds %d bytes", id, session.Offset, durable)
		}
	}
	return nil
}

func (w *world) requireSound(t testing.TB) {
	t.Helper()
	require.NoError(t, w.check())
}

// recorded refuses to write under a key that the index does not know yet, and counts the bytes that are read back. As
// buckets do, and unlike the store below it, it takes parts of whoever sends them where parts have a least size.
type recorded struct {
	store.Objects
	world *world
}

var errUnrecorded = errors.New("a key was written under that the index does not know")

func (r *recorded) known(key store.Key) error {
	if r.world.light {
		return nil
	}
	if r.world.named()[key] == "" && !r.world.condemned()[key] {
		return errUnrecorded
	}
	return nil
}

func (r *recorded) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, body io.ReadSeeker) (store.Part, error) {
	if r.Limits().MinPart > 1 {
		fence = 0
	}
	return r.Objects.PutPart(ctx, m, fence, part, body)
}

func (r *recorded) Put(ctx context.Context, key store.Key, body io.ReadSeeker, size int64) error {
	if err := r.known(key); err != nil {
		return err
	}
	return r.Objects.Put(ctx, key, body, size)
}

func (r *recorded) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	reader, err := r.Objects.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return &countedReader{reader, &r.world.readBack}, nil
}

type countedReader struct {
	io.ReadCloser
	n *atomic.Int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n.Add(int64(n))
	return n, err
}

func (r *recorded) Begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	if err := r.known(key); err != nil {
		return store.Multipart{}, err
	}
	return r.Objects.Begin(ctx, key)
}

// counter counts calls by method.
type counter struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *counter) hook() storetest.Hook {
	return storetest.Hook{Before: func(_ context.Context, method string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.calls == nil {
			c.calls = map[string]int{}
		}
		c.calls[method]++
		return nil
	}}
}

// take returns the calls since the last take.
func (c *counter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	if calls == nil {
		calls = map[string]int{}
	}
	return calls
}

// noise is n bytes that look random, and are the same for the same n and seed.
func noise(n int, seed uint64) []byte {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n), byte(n >> 8), byte(n >> 16)})
	data := make([]byte, n)
	_, _ = random.Read(data)
	return data
}

// chunk is data as a chunk at an offset, of a size that is told or not.
func chunk(data []byte, at int64, told bool) staging.Chunk {
	c := staging.Chunk{Body: bytes.NewReader(data), At: at, Size: -1}
	if told {
		c.Size = int64(len(data))
	}
	return c
}
