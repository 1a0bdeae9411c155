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
	// events are clients as well, each of which meets the rest of the scene for itself.
	events []event
	// rival returns the calls that meet the client's; nil: a collector's round. Those of a round never wait for a client.
	rival func(x *stage, c *collector) []func() error

	crowd    bool // each call is a client's of its own, where they come at once
	mirrored bool // the repository is one of what was pulled through
	alone    bool // the repository has no manifest, and goes with what they meet over,
	kept     bool // unless it has something else, too
}

// each returns the scene of each client.
func (s scene) each() []scene {
	if s.client != nil {
		return []scene{s}
	}
	each := make([]scene, len(s.events))
	for i, e := range s.events {
		each[i] = s
		each[i].name, each[i].client = e.name, e.client
	}
	return each
}

// scenes returns what a client may be doing while a collector works.
func scenes() []scene {
	return slices.Concat([]scene{
		{name: "Finish", prepare: prepareNothing, client: finishClient, alone: true},
		{name: "FinishElsewhere", prepare: prepareNothing, client: elsewhereClient, alone: true},
		{name: "FinishOfAnotherLayer", prepare: prepareNothing, client: anotherClient, alone: true},
		{name: "FinishOfAnAbandonedUpload", prepare: prepareUpload, client: abandonedClient, alone: true},
		{name: "ClaimOfAnAbandonedUpload", prepare: prepareUpload, client: claimClient, alone: true},
		{name: "CancelOfAnAbandonedUpload", prepare: prepareUpload, client: cancelClient, alone: true},
		{name: "InlinePush", prepare: prepareNothing, client: inlineClient, alone: true},
		{name: "Head", prepare: prepareNothing, client: headClient, alone: true},
		{name: "Mount", prepare: prepareNothing, client: mountClient, alone: true},
		{name: "ContentDelete", prepare: prepareNothing, client: contentDeleteClient, alone: true},
		{name: "DeleteOfAnotherLayer", prepare: prepareAnother, client: anotherDeleteClient, alone: true},
		{name: "ManifestPut", prepare: prepareNothing, client: manifestClient, alone: true},
		{name: "ManifestDelete", prepare: prepareImage, client: deleteClient},
		{name: "TagMove", prepare: prepareTag, client: tagClient},
		{name: "TagDelete", prepare: prepareTag, client: tagDeleteClient},
		{name: "Pulls", prepare: prepareTag, client: pullsClient},
		{name: "Push", prepare: prepareNothing, client: pushClient, alone: true},
		{name: "RepositoryDelete", prepare: prepareShared, client: repositoryClient},
		{name: "PushAfterARepositoryDelete", prepare: prepareDeleted, client: pushAnewClient},
		{name: "MountAfterARepositoryDelete", prepare: prepareDeleted, client: mountAnewClient},
		{name: "DeletesOfTwoThatShareALayer", prepare: prepareTwo, client: twoDeletesClient, crowd: true},
		{name: "Collector", prepare: prepareImage, client: collectorClient},
		{name: "CollectorOfAnAbandonedUpload", prepare: prepareUpload, client: endClient, alone: true},
		{name: "CollectorOfADeletedRepository", prepare: prepareDeleted, client: drainClient},
	}, rivalScenes(), eventScenes())
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
	lost              store.Key // that the layer was under, whose object is gone
	orphan            store.Key // of an object that no row names
	absent            bool

	mu       sync.Mutex
	refused  bool
	healed   bool      // what was lost has been pushed again
	promises []promise // of what was acknowledged
}

// promise is something that a client may rely on.
type promise struct {
	kept  func(t *testing.T, message string)
	lasts bool // for longer than a grace
}

// newStage prepares a scene in repositories of its own, around a layer that is others' too, if they have the same bytes.
func newStage(t *testing.T, m *index, b *bucket, s scene, round int, layer string) *stage {
	t.Helper()
	x := &stage{
		ctx: t.Context(), client: m.first, m: m, bucket: b, layer: layer,
		repository: fmt.Sprint("team/", round), other: fmt.Sprint("other/", round),
	}
	if s.mirrored {
		x.repository = store.MirrorPrefix + x.repository
	}
	require.NoError(t, inTurn(x.upload(x.repository, x.layer))())
	if s.kept {
		m.putManifest(t, imageOf(x.repository, "keeper of "+x.repository), "keeper")
	}
	s.prepare(t, x)
	x.promises, x.refused, x.healed = nil, false, false
	return x
}

// meets returns the calls that meet the client's.
func (s scene) meets(x *stage, c *collector) []func() error {
	if s.rival != nil {
		return s.rival(x, c)
	}
	return c.calls(x.ctx)
}

func (x *stage) digest() digest.Digest { return digest.FromString(x.layer) }

// settle takes a call's outcome: the client was acknowledged, or refused with one of the errors.
func (x *stage) settle(err error, acknowledged func(), typed ...error) error {
	if err == nil {
		acknowledged()
		return nil
	}
	var missing *store.MissingError
	if errors.As(err, &missing) || isAny(err, typed) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.refused = true
		return nil
	}
	return err
}

func isAny(err error, targets []error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// promise is what the client may rely on from now on.
func (x *stage) promise(lasts bool, kept func(t *testing.T, message string)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.promises = append(x.promises, promise{kept, lasts})
}

// promiseContent promises that a repository has content, whole; as long as nothing refers to it, for a grace. Nobody can promise the
// layer whose object is gone, until it is pushed again.
func (x *stage) promiseContent(name string, d digest.Digest, lasts bool) {
	x.promise(lasts, func(t *testing.T, message string) {
		t.Helper()
		if x.lost != "" && !x.healed && d == x.digest() {
			return
		}
		content, err := x.m.last.Content(t.Context(), name, d)
		require.NoError(t, err, "content that was acknowledged is there: %s", message)
		if !content.IsInline() {
			require.True(t, x.bucket.has(content.Key), "content that was acknowledged has its object: %s", message)
			require.NotContains(t, x.m.garbage(t), content.Key, "content that was acknowledged is not garbage: %s", message)
		}
	})
}

// promisePushed promises content that was pushed just now.
func (x *stage) promisePushed(name string, d digest.Digest) {
	x.mu.Lock()
	x.healed = x.healed || d == x.digest()
	x.mu.Unlock()
	x.promiseContent(name, d, false)
}

// promiseManifest promises that a repository has a manifest and all that it refers to.
func (x *stage) promiseManifest(put store.ManifestPut) {
	x.promise(true, func(t *testing.T, message string) {
		t.Helper()
		x.m.requireManifest(t, put.Repository, byDigest(put.Manifest.Digest), put.Manifest, "a manifest that was acknowledged is there: "+message)
		for _, tag := range put.Tags {
			x.m.requireManifest(t, put.Repository, byTag(tag), put.Manifest, "a tag that was acknowledged points to its manifest: "+message)
		}
	})
	for _, reference := range put.References {
		x.promiseContent(put.Repository, reference.Digest, true)
	}
}

// requireKept requires that all promises are kept, and that each object is named, once: so that none is lost, and none stays
// for ever.
func (x *stage) requireKept(t *testing.T, message string) {
	t.Helper()
	for _, p := range x.promises {
		p.kept(t, message)
	}
	unknown, err := x.m.last.UnknownKeys(t.Context(), x.bucket.keys())
	require.NoError(t, err)
	require.Empty(t, unknown, "each object is content's, an upload's, or garbage: %s", message)
	garbage := map[store.Key]bool{}
	for _, key := range x.m.garbage(t) {
		garbage[key] = true
	}
	stored, err := x.m.last.StoredContents(t.Context(), "", all)
	require.NoError(t, err)
	for _, content := range stored {
		require.False(t, garbage[content.Key], "no content's object is garbage: %s", message)
		require.True(t, content.Missing || x.bucket.has(content.Key), "content has its object: %s", message)
	}
}

// requireLasting requires that what has no end is still there, after collectors have come again.
func (x *stage) requireLasting(t *testing.T, message string) {
	t.Helper()
	for _, p := range x.promises {
		if p.lasts {
			p.kept(t, "after another round: "+message)
		}
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
	return x.settle(err, func() { x.promisePushed(name, content.Digest) }, store.ErrFenced)
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

// bucket is which objects there are, and which of them a collector is deleting.
type bucket struct {
	mu             sync.Mutex
	objects, taken map[store.Key]bool
}

func newBucket() *bucket { return &bucket{objects: map[store.Key]bool{}, taken: map[store.Key]bool{}} }

// take notes that a collector is deleting the objects, which nobody else is.
func (b *bucket) take(keys []store.Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		if b.taken[key] {
			return fmt.Errorf("%s is somebody else's to delete", key)
		}
		b.taken[key] = true
	}
	return nil
}

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
		delete(b.taken, key)
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
