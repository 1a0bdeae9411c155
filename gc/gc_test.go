package gc_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

const (
	repository = "team/app"
	imageType  = "application/vnd.oci.image.manifest.v1+json"
	indexType  = "application/vnd.oci.image.index.v1+json"
)

// world is the stores that collectors share. Tests run in a bubble of testing/synctest, whose clock is everybody's.
type world struct {
	meta    *memory.Metadata
	objects *memory.Objects

	mu    sync.Mutex
	calls map[string]int
	fault func(method string) error // before the call
}

func newWorld() *world {
	return &world{meta: memory.NewMetadata(nil), objects: memory.NewObjects(nil), calls: map[string]int{}}
}

// hook counts calls, and asks for faults.
func (w *world) hook() storetest.Hook {
	return storetest.Hook{Before: func(_ context.Context, method string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.calls[method]++
		if w.fault != nil {
			return w.fault(method)
		}
		return nil
	}}
}

// index is the index as the collector sees it.
func (w *world) index() gc.Index { return hooked(w.meta, w.hook()) }

func hooked(meta store.Metadata, hook storetest.Hook) gc.Index {
	return storetest.HookMetadata(meta, hook).(gc.Index)
}

func (w *world) hookedObjects() store.Objects { return storetest.HookObjects(w.objects, w.hook()) }

func (w *world) count(method string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[method]
}

func (w *world) failOn(fault func(method string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// once collects what is due.
func (w *world) once(t *testing.T, opts *gc.Options) gc.Stats {
	t.Helper()
	stats, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), opts)
	require.NoError(t, err)
	require.Zero(t, w.count("List"), "the collector must never list objects")
	return stats
}

// push uploads a blob through a session, as an object.
func (w *world) push(t testing.TB, name, data string) store.Content {
	t.Helper()
	return w.pushAs(t, name, data, digest.FromString(data))
}

// pushAs is push under a digest.
func (w *world) pushAs(t testing.TB, name, data string, d digest.Digest) store.Content {
	t.Helper()
	ctx := t.Context()
	id := store.NewID()
	content := store.Content{Digest: d, Size: int64(len(data)), Key: store.NewBlobKey()}
	require.NoError(t, w.meta.CreateSession(ctx, id, name, ""))
	session, err := w.meta.ClaimSession(ctx, store.Claim{
		SessionRef: store.SessionRef{ID: id, Repository: name}, Finish: true, Reserve: store.Reservation{Blob: content.Key},
	})
	require.NoError(t, err)
	require.NoError(t, w.objects.Put(ctx, content.Key, bytes.NewReader([]byte(data)), content.Size))
	require.NoError(t, w.meta.FinishSession(ctx, store.Finish{ID: id, Version: session.Version, Content: content}))
	return content
}

// manifest is what tests say about a manifest.
type manifest struct {
	repository string
	text       string // its bytes
	subject    digest.Digest
	tags       []string
	layers     []digest.Digest
	children   []digest.Digest
}

func (w *world) put(t *testing.T, m manifest) digest.Digest {
	t.Helper()
	put := store.ManifestPut{
		Repository: m.repository, Tags: m.tags,
		Manifest: store.Manifest{Digest: digest.FromString(m.text), MediaType: imageType, Subject: m.subject, Bytes: []byte(m.text)},
	}
	if put.Repository == "" {
		put.Repository = repository
	}
	for _, d := range m.layers {
		put.References = append(put.References, store.Reference{Digest: d})
	}
	for _, d := range m.children {
		put.References = append(put.References, store.Reference{Digest: d, Manifest: true})
		put.Manifest.MediaType = indexType
	}
	require.NoError(t, w.meta.PutManifest(t.Context(), put))
	return put.Manifest.Digest
}

func (w *world) has(t *testing.T, name string, d digest.Digest) bool {
	t.Helper()
	_, err := w.meta.Content(t.Context(), name, d)
	if err != nil {
		require.ErrorIs(t, err, store.ErrContentUnknown)
	}
	return err == nil
}

func (w *world) hasObject(t *testing.T, key store.Key) bool {
	t.Helper()
	r, err := w.objects.Open(t.Context(), key, 0, 1)
	if err != nil {
		require.ErrorIs(t, err, store.ErrObjectUnknown)
		return false
	}
	return r.Close() == nil
}

// stored lists what is in the store.
func (w *world) stored(t *testing.T) []store.Object {
	t.Helper()
	list, err := w.objects.List(t.Context(), "", "", 1<<20)
	require.NoError(t, err)
	return list
}

// garbage lists the keys that are condemned.
func (w *world) garbage(t *testing.T) []store.Garbage {
	t.Helper()
	list, err := w.meta.Garbage(t.Context(), -time.Hour<<20, 1<<20)
	require.NoError(t, err)
	return list
}

func text(i int) string { return fmt.Sprintf("content %d", i) }
