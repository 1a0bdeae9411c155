package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// scene is a client that meets a collector.
type scene struct {
	name string
	// prepare leaves what they meet over; all of it is due when they begin.
	prepare func(t *testing.T, x *stage)
	// client returns the client's calls. Their number is always the same. Typed errors refuse the client, others are returned.
	client func(x *stage) []func() error
	crowd  bool // each call is a client's of its own, where they come at once
}

// scenes returns what a client may be doing while a collector works.
func scenes() []scene {
	return []scene{
		{"Finish", prepareNothing, finishClient, false},
		{"FinishOfAnAbandonedUpload", prepareUpload, abandonedClient, false},
		{"Head", prepareNothing, headClient, false},
		{"Mount", prepareNothing, mountClient, false},
		{"ManifestPut", prepareNothing, manifestClient, false},
		{"ManifestDelete", prepareImage, deleteClient, false},
		{"TagMove", prepareTag, tagClient, false},
		{"Push", prepareNothing, pushClient, false},
		{"RepositoryDelete", prepareShared, repositoryClient, false},
		{"DeletesOfTwoThatShareALayer", prepareTwo, twoDeletesClient, true},
		{"Collector", prepareImage, collectorClient, false},
	}
}

// stage is where a scene is played: a repository of its own, with a layer that is a candidate.
type stage struct {
	ctx               context.Context
	client            store.Metadata
	m                 *index
	bucket            *bucket
	repository, other string
	layer             string // the bytes
	session           store.Session
	absent            bool

	mu       sync.Mutex
	refused  bool
	promises []func(t *testing.T, message string) // of what was acknowledged
}

// newStage prepares a scene in repositories of its own, around a layer that is others' too, if they have the same bytes.
func newStage(t *testing.T, m *index, b *bucket, s scene, round int, layer string) *stage {
	t.Helper()
	x := &stage{
		ctx: t.Context(), client: m.first, m: m, bucket: b, layer: layer,
		repository: fmt.Sprint("team/", round), other: fmt.Sprint("other/", round),
	}
	require.NoError(t, inTurn(x.upload(x.repository, x.layer))())
	s.prepare(t, x)
	x.promises, x.refused = nil, false
	return x
}

func (x *stage) digest() digest.Digest { return digest.FromString(x.layer) }

// settle takes a call's outcome: the client was acknowledged, or refused with one of the errors.
func (x *stage) settle(err error, acknowledged func(), typed ...error) error {
	if err == nil {
		acknowledged()
		return nil
	}
	var missing *store.MissingError
	if errors.As(err, &missing) || slices.ContainsFunc(typed, func(target error) bool { return errors.Is(err, target) }) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.refused = true
		return nil
	}
	return err
}

// promise is what the client may rely on from now on.
func (x *stage) promise(kept func(t *testing.T, message string)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.promises = append(x.promises, kept)
}

// promiseContent promises that a repository has content, whole.
func (x *stage) promiseContent(name string, d digest.Digest) {
	x.promise(func(t *testing.T, message string) {
		t.Helper()
		content, err := x.m.last.Content(t.Context(), name, d)
		require.NoError(t, err, "content that was acknowledged is there: %s", message)
		if !content.IsInline() {
			require.True(t, x.bucket.has(content.Key), "content that was acknowledged has its object: %s", message)
			require.NotContains(t, x.m.garbage(t), content.Key, "content that was acknowledged is not garbage: %s", message)
		}
	})
}

// promiseManifest promises that a repository has a manifest and all that it refers to.
func (x *stage) promiseManifest(put store.ManifestPut) {
	x.promise(func(t *testing.T, message string) {
		t.Helper()
		x.m.requireManifest(t, put.Repository, byDigest(put.Manifest.Digest), put.Manifest, "a manifest that was acknowledged is there: "+message)
		for _, tag := range put.Tags {
			x.m.requireManifest(t, put.Repository, byTag(tag), put.Manifest, "a tag that was acknowledged points to its manifest: "+message)
		}
	})
	for _, reference := range put.References {
		x.promiseContent(put.Repository, reference.Digest)
	}
}

func (x *stage) requireKept(t *testing.T, message string) {
	t.Helper()
	for _, kept := range x.promises {
		kept(t, message)
	}
}

// upload returns the calls that push content through a session, under a fresh key.
func (x *stage) upload(name, body string) []func() error {
	var s store.Session
	id := store.NewID()
	return []func() error{
		func() error { return wrap("create", x.client.CreateSession(x.ctx, id, name, "")) },
		func() (err error) {
			claim := claimOf(id)
			claim.Repository = name
			s, err = x.client.ClaimSession(x.ctx, claim)
			x.bucket.write(s.Keys()...)
			return wrap("claim", err)
		},
		func() error { return x.finish(s, name, body) },
	}
}

// finish finishes an upload whose object is written.
func (x *stage) finish(s store.Session, name, body string) error {
	content := store.Content{Digest: digest.FromString(body), Size: int64(len(body)), Key: s.Reserved.Blob}
	err := x.client.FinishSession(x.ctx, store.Finish{ID: s.ID, Version: s.Version, Content: content})
	return x.settle(err, func() { x.promiseContent(name, content.Digest) }, store.ErrFenced)
}

// put puts a manifest, unless the client was refused before.
func (x *stage) put(put store.ManifestPut) error {
	if x.refused {
		return nil
	}
	return x.settle(x.client.PutManifest(x.ctx, put), func() { x.promiseManifest(put) })
}

// image is a put of a manifest that refers to the layer.
func (x *stage) image(name, body string) store.ManifestPut {
	return imageOf(name, body+" of "+name, x.digest())
}

// bucket is which objects there are.
type bucket struct {
	mu      sync.Mutex
	objects map[store.Key]bool
}

func newBucket() *bucket { return &bucket{objects: map[store.Key]bool{}} }

func (b *bucket) write(keys ...store.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		b.objects[key] = true
	}
}

func (b *bucket) delete(keys []store.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		delete(b.objects, key)
	}
}

func (b *bucket) has(key store.Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.objects[key]
}

func (b *bucket) keys() (keys []store.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.objects {
		keys = append(keys, key)
	}
	return keys
}
