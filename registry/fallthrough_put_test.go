package registry_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

func TestManifestMayReferToWhatIsBehind(t *testing.T) {
	t.Parallel()
	l := newLayers(t, nil)
	m := l.source.image(t, "team/app", "x") // whose blobs a client finds by HEAD, and does not push
	l.source.pushManifest(t, "team/app", "v1", m)
	l.both.pushManifest(t, "team/app", "mine", index(t, nil, m.descriptor()))
	assert.NotEmpty(t, l.linked)
	l.local.send(t, "GET", "/v2/team/app/manifests/"+m.digest().String(), nil).wants(t, http.StatusOK)
	assert.Equal(t, "layer of x", l.local.send(t, "GET", "/v2/team/app/blobs/"+digest.FromString("layer of x").String(), nil).wants(t, http.StatusOK).body)

	missing := index(t, nil, descriptor(typeManifest, "nowhere"))
	l.both.send(t, "PUT", "/v2/team/app/manifests/missing", missing.body, "Content-Type: "+typeIndex).
		wants(t, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
}

// watched tells what a registry is asked for.
type watched struct {
	registry.Registry
	mu    sync.Mutex
	asked map[string]int
}

func (w *watched) note(method string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[method]++
}

func (w *watched) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	w.note("StatBlob")
	return w.Registry.StatBlob(ctx, repository, d)
}

func (w *watched) Blob(ctx context.Context, repository string, d digest.Digest) (registry.Blob, error) {
	w.note("Blob")
	return w.Registry.Blob(ctx, repository, d)
}

func (w *watched) Manifest(ctx context.Context, repository string, ref registry.Reference) (registry.Manifest, error) {
	w.note("Manifest")
	return w.Registry.Manifest(ctx, repository, ref)
}

func TestSourcesAreAskedOnceForWhatAManifestRefersTo(t *testing.T) {
	t.Parallel()
	const repository = "team/app"
	source := newLocal(&registry.LocalOptions{AllowMissing: true, AllowUnknownManifests: true})
	origin := serve(t, source, nil)
	image := origin.image(t, repository, "x")
	origin.pushManifest(t, repository, "v1", image)
	odd := manifest{"application/vnd.example.odd", `{"odd":true}`}
	origin.pushManifest(t, repository, "odd", odd)
	cache := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: origin.pushBlob(t, repository, "cached layer"), Size: 12}
	for name, test := range map[string]struct {
		put  manifest
		want map[string]int
	}{
		"image":                          {image, map[string]int{"StatBlob": 2}},
		"index":                          {index(t, nil, image.descriptor()), map[string]int{"Manifest": 1, "StatBlob": 2}},
		"index of a layer":               {index(t, nil, cache), map[string]int{"StatBlob": 1}},
		"index of what nobody knows":     {index(t, nil, odd.descriptor()), map[string]int{"StatBlob": 1}},
		"image that lacks what is there": {index(t, nil, descriptor(typeManifest, "nowhere")), map[string]int{"Manifest": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			local := newLocal(nil)
			watched := &watched{Registry: source, asked: map[string]int{}}
			both := registry.NewFallThrough(local, []registry.Source{{Registry: watched, Link: linkFrom(source, local)}}, nil)
			_, err := both.PutManifest(t.Context(), repository, registry.ManifestPut{MediaType: test.put.mediaType, Bytes: []byte(test.put.body)})
			if strings.Contains(name, "lacks") {
				require.ErrorIs(t, err, registry.ErrManifestBlobUnknown)
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, test.want, watched.asked)
		})
	}
}

func TestPushedManifestsDoNotWaitForASilentSource(t *testing.T) {
	t.Parallel()
	for name, children := range map[string][]ocispec.Descriptor{
		"layers":    {descriptor(ocispec.MediaTypeImageLayer, "a"), descriptor(ocispec.MediaTypeImageLayer, "b")},
		"manifests": {descriptor(typeManifest, "a"), descriptor(typeManifest, "b")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				link := func(context.Context, string, digest.Digest, string) error { return registry.ErrBlobUnknown }
				r := registry.NewFallThrough(newLocal(nil), []registry.Source{{Registry: silent{}, Link: link}}, nil)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := r.PutManifest(ctx, "team/app", registry.ManifestPut{Bytes: []byte(index(t, nil, children...).body)})
				require.ErrorIs(t, err, registry.ErrManifestBlobUnknown)
				require.NoError(t, ctx.Err(), "it takes much less time than a client would wait")
			})
		})
	}
}

// What others have is not found only after a silent source was waited for, thing after thing. That one still has what it keeps.
func TestPushedManifestWaitsForASilentSourceOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		local, good, kept := newLocal(nil), newLocal(nil), newLocal(nil)
		m := ocispec.Manifest{MediaType: typeManifest}
		m.SchemaVersion = 2
		for i := range 20 {
			layer := descriptor(ocispec.MediaTypeImageLayer, itoa(i))
			holder := good
			if i == 19 {
				holder = kept
			}
			_, err := holder.PushBlob(t.Context(), "team/app", layer.Digest, strings.NewReader(itoa(i)), layer.Size)
			require.NoError(t, err)
			m.Layers, m.Config = append(m.Layers, layer), layer
		}
		r := registry.NewFallThrough(local, []registry.Source{
			{Registry: failing{kept, true}, Link: linkFrom(kept, local)}, {Registry: good, Link: linkFrom(good, local)},
		}, nil)
		began := time.Now()
		_, err := r.PutManifest(t.Context(), "team/app", registry.ManifestPut{Bytes: []byte(marshal(t, typeManifest, m).body)})
		require.NoError(t, err)
		assert.LessOrEqual(t, time.Since(began), 10*time.Second)
	})
}

func TestPushThatFailsLinksNothing(t *testing.T) {
	t.Parallel()
	l := newLayers(t, nil)
	m := l.source.image(t, "team/app", "x")
	l.source.pushManifest(t, "team/app", "v1", m)
	broken := index(t, nil, m.descriptor(), descriptor(typeManifest, "nowhere"))
	l.both.send(t, "PUT", "/v2/team/app/manifests/mine", broken.body, "Content-Type: "+typeIndex).wants(t, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	assert.Empty(t, l.linked)
	l.both.send(t, "GET", "/v2/team/app/manifests/v1", nil).wants(t, http.StatusOK)
}
