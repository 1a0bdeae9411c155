package e2e_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// Two processes that share a database and a bucket are one registry: a push may
// change between them with every request.
func TestOnePushIsSplitOverTwoProcesses(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store *backendtest.S3Server) {
		// Parts, tails and what is left at the end: a boundary of each kind is crossed on another process.
		const size, first, second = 13<<20 + 1, 6<<20 + 5, 4 << 20
		shared := newBackends(t, store)
		by := route{options: partsOf("5MiB")}
		a, b := newPushClient(shared.start(t, by).URL()), newPushClient(shared.start(t, by).URL())
		ctx := t.Context()
		layer := randomBytes(rand.New(rand.NewPCG(5, 5)), size)

		location, err := a.start(ctx, "team/split")
		require.NoError(t, err)
		location, offset, err := b.patch(ctx, pathOf(t, location), bytes.NewReader(layer[:first]), 0, first)
		require.NoError(t, err)
		require.EqualValues(t, first, offset)
		_, offset, err = a.status(ctx, pathOf(t, location))
		require.NoError(t, err)
		require.EqualValues(t, first, offset, "what the other process says of the offset")
		location, offset, err = a.patch(ctx, pathOf(t, location), bytes.NewReader(layer[first:first+second]), first, second)
		require.NoError(t, err)
		require.EqualValues(t, first+second, offset)
		rest := layer[first+second:]
		require.NoError(t, b.finish(ctx, pathOf(t, location), digest.FromBytes(layer), bytes.NewReader(rest), offset, int64(len(rest))))

		config := []byte(`{"os":"linux","architecture":"amd64"}`)
		require.NoError(t, b.putBlob(ctx, "team/split", digest.FromBytes(config), bytes.NewReader(config), int64(len(config))))
		manifest := manifestOf(t, config, layer)
		require.NoError(t, a.putManifest(ctx, "team/split", "v1", ocispec.MediaTypeImageManifest, manifest))

		for name, process := range map[string]*pushClient{"a": a, "b": b} {
			for path, want := range map[string][]byte{
				"manifests/v1": manifest,
				"manifests/" + digest.FromBytes(manifest).String(): manifest,
				"blobs/" + digest.FromBytes(config).String():       config,
				"blobs/" + digest.FromBytes(layer).String():        layer,
			} {
				got, err := process.get(ctx, "team/split/"+path)
				require.NoError(t, err, "process %s", name)
				require.True(t, bytes.Equal(want, got), "%s of process %s must have the bytes that were pushed", path, name)
			}
			tags, err := process.get(ctx, "team/split/tags/list")
			require.NoError(t, err, "process %s", name)
			require.JSONEq(t, `{"name":"team/split","tags":["v1"]}`, string(tags), "the tags of process %s", name)
		}
	})
}

// An upload that one process cancelled is gone on the other.
func TestUploadIsCancelledOnAnotherProcess(t *testing.T) {
	t.Parallel()
	shared := newBackends(t, backendtest.MinIO(t))
	a, b := newPushClient(shared.start(t, route{}).URL()), newPushClient(shared.start(t, route{}).URL())
	content := randomBytes(rand.New(rand.NewPCG(6, 6)), 6<<20)
	location, err := a.start(t.Context(), "team/cancelled")
	require.NoError(t, err)
	location, offset, err := a.patch(t.Context(), location, bytes.NewReader(content), 0, int64(len(content)))
	require.NoError(t, err)

	req, err := b.request(t.Context(), http.MethodDelete, pathOf(t, location), nil, 0)
	require.NoError(t, err)
	_, _, err = b.do(req, http.StatusNoContent)
	require.NoError(t, err)
	_, _, err = a.status(t.Context(), location)
	requireStatus(t, err, http.StatusNotFound)
	_, _, err = a.patch(t.Context(), location, bytes.NewReader(content), offset, int64(len(content)))
	requireStatus(t, err, http.StatusNotFound)
	err = a.finish(t.Context(), location, digest.FromBytes(content), nil, offset, 0)
	requireStatus(t, err, http.StatusNotFound)
}

// The process that receives an upload is killed; the client asks another one how
// far it came, and goes on there.
func TestUploadGoesOnOnAnotherProcessAfterKill(t *testing.T) {
	t.Parallel()
	const (
		size  = 96 << 20
		sent  = 80 << 20
		saved = 64 << 20 // of one request, while it comes
	)
	shared := newBackends(t, backendtest.MinIO(t))
	killed, other := shared.start(t, route{}), shared.start(t, route{})
	client := newPushClient(other.URL())
	content := randomBytes(rand.New(rand.NewPCG(7, 7)), size)
	location, err := newPushClient(killed.URL()).start(t.Context(), "team/killed")
	require.NoError(t, err)
	upload := startStalledUpload(t, killed, location, size)
	upload.send(t, content[:sent])
	require.Eventually(t, func() bool {
		_, offset, err := client.status(t.Context(), pathOf(t, location))
		return err == nil && offset >= saved
	}, 30*time.Second, 10*time.Millisecond, "what came should be saved on the way, so that another process sees it")
	killed.Kill()

	location, offset, err := client.status(t.Context(), pathOf(t, location))
	require.NoError(t, err)
	t.Logf("%d of %d bytes sent were kept", offset, sent)
	require.LessOrEqual(t, offset, int64(sent), "no more than was sent")
	location, offset, err = client.patch(t.Context(), location, bytes.NewReader(content[offset:sent+1]), offset, sent+1-offset)
	require.NoError(t, err)
	require.EqualValues(t, sent+1, offset)
	name := digest.FromBytes(content)
	require.NoError(t, client.finish(t.Context(), location, name, bytes.NewReader(content[offset:]), offset, size-offset))
	killed.Restart(t)
	for _, process := range []*pushClient{client, newPushClient(killed.URL())} {
		got, err := process.get(t.Context(), "team/killed/blobs/"+name.String())
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got), "the blob must have the bytes that were pushed")
	}
}

// manifestOf returns the manifest of an image of one layer.
func manifestOf(t *testing.T, config, layer []byte) []byte {
	t.Helper()
	describe := func(mediaType string, content []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    describe(ocispec.MediaTypeImageConfig, config),
		Layers:    []ocispec.Descriptor{describe(ocispec.MediaTypeImageLayer, layer)},
	})
	require.NoError(t, err)
	return manifest
}

func requireStatus(t *testing.T, err error, want int) {
	t.Helper()
	var got *statusError
	require.ErrorAs(t, err, &got)
	require.Equal(t, want, got.status, got.body)
}
