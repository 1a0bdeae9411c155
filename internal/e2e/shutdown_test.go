package e2e_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// A server that is asked to end saves what it has of an upload, ends with status
// 0, and after a restart the upload goes on from where it says.
func TestUploadGoesOnAfterAGracefulStop(t *testing.T) {
	t.Parallel()
	const (
		size = 64 << 20
		sent = 32 << 20
		// What may be under way in sockets' buffers, and so not with the server yet.
		inSockets = 16 << 20
	)
	server := servertest.Start(t, "--data", t.TempDir())
	client := newPushClient(server.URL())
	content := randomBytes(rand.New(rand.NewPCG(3, 3)), size)
	location, err := client.start(t.Context(), "stop/upload")
	require.NoError(t, err)

	upload := startStalledUpload(t, server, location, size)
	upload.send(t, content[:sent])
	server.Stop(t, 40*time.Second)
	server.Restart(t)
	client.http.CloseIdleConnections()

	location, offset, err := client.status(t.Context(), location)
	require.NoError(t, err)
	t.Logf("%d of %d bytes sent were kept", offset, sent)
	require.GreaterOrEqual(t, offset, int64(sent-inSockets), "a graceful stop keeps what the server had")
	require.LessOrEqual(t, offset, int64(sent), "no more than was sent")
	name := digest.FromBytes(content)
	require.NoError(t, client.finish(t.Context(), location, name, bytes.NewReader(content[offset:]), offset, size-offset))
	got, err := client.get(t.Context(), "stop/upload/blobs/"+name.String())
	require.NoError(t, err)
	require.Equal(t, name, digest.FromBytes(got), "the digest of the blob that was pushed across the stop")
}

// A server that is asked to end answers the requests under way, and does not wait
// for connections that are idle.
func TestGracefulStopAnswersRequestsUnderWay(t *testing.T) {
	t.Parallel()
	server := servertest.Start(t, "--data", t.TempDir())
	client := newPushClient(server.URL())
	content := randomBytes(rand.New(rand.NewPCG(4, 4)), 1<<20)
	name := digest.FromBytes(content)
	location, err := client.start(t.Context(), "stop/answer") // leaves an idle connection
	require.NoError(t, err)

	body, feed := io.Pipe()
	result := make(chan error, 1)
	go func() { result <- client.finish(t.Context(), location, name, body, 0, int64(len(content))) }()
	_, err = feed.Write(content[:len(content)/2])
	require.NoError(t, err)
	require.NoError(t, server.Signal(syscall.SIGTERM))
	_, _ = feed.Write(content[len(content)/2:]) // fails if the stop came first
	_ = feed.Close()
	finished := <-result
	require.NoError(t, server.Wait(40*time.Second), "the server should end with status 0")

	server.Restart(t)
	client.http.CloseIdleConnections()
	got, err := client.get(t.Context(), "stop/answer/blobs/"+name.String())
	if finished == nil {
		require.NoError(t, err, "an acknowledged blob is there after the stop")
		require.Equal(t, name, digest.FromBytes(got))
		return
	}
	// The stop came first: then the upload is there, and goes on.
	location, offset, err := client.status(t.Context(), location)
	require.NoError(t, err, "the PUT failed (%v), so the upload should be there", finished)
	require.NoError(t, client.finish(t.Context(), location, name, bytes.NewReader(content[offset:]), offset, int64(len(content))-offset))
}
