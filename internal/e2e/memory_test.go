package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

var (
	largePush   = flag.Int64("large-push", 1<<30, "the size of each of the memory test's sixteen pushes, in bytes")
	largePushS3 = flag.Int64("large-push-s3", 64<<20, "the size of each of the memory test's sixty-four pushes to S3, in bytes")
)

const (
	budget = 64 << 20 // the default of what the server may hold of uploads
	// The rest of the process: the program, the index and its cache, connections.
	besidesBudget = 56 << 20
)

// Sixteen pushes at once, of 1 GiB each, fit in the memory that is set aside for
// uploads: the whole process stays within it and a constant.
func TestSixteenLargePushesStayInTheBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 16 GiB")
	}
	server := servertest.Start(t, "--data", t.TempDir(), "--sync=false")
	requirePushesInTheBudget(t, server, 16, *largePush)
}

// So do sixty-four pushes at once to S3. For the figure that the README has:
//
//	go test ./internal/e2e -run LargePushesToS3 -large-push-s3 268435456 -v
func TestSixtyFourLargePushesToS3StayInTheBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 4 GiB")
	}
	shared := newBackends(t, backendtest.MinIO(t))
	requirePushesInTheBudget(t, shared.start(t, route{}), 64, *largePushS3)
}

func requirePushesInTheBudget(t *testing.T, server *servertest.Server, count int, size int64) {
	t.Helper()
	client := newPushClient(server.URL())
	idle := server.Memory(t)
	bodies := newLargeBodies(t, count, size)

	began := time.Now()
	errs := make([]error, count)
	var group sync.WaitGroup
	for i, body := range bodies {
		group.Go(func() { errs[i] = pushAsDocker(t.Context(), client, fmt.Sprintf("large/push-%d", i), body) })
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))

	memory := server.Memory(t)
	t.Logf("%d pushes of %d MiB in %v; resident: %d MiB when idle, %d MiB at the peak",
		count, size>>20, time.Since(began).Round(time.Second), idle.Resident>>20, memory.Peak>>20)
	require.LessOrEqual(t, memory.Peak>>20, int64(budget+besidesBudget)>>20, "the peak of the server's resident memory, in MiB")
}

// Clients that stall in the middle of an upload, and more of them than the budget
// has room for, do not keep a fast one from finishing, and can go on themselves.
func TestStalledClientsDoNotStarveAFastOne(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for clients that stall")
	}
	const (
		count = 100
		size  = 2 << 20
	)
	server := servertest.Start(t, "--data", t.TempDir(), "--sync=false")
	client := newPushClient(server.URL())
	content := randomBytes(rand.New(rand.NewPCG(1, 1)), size)
	fast := newLargeBodies(t, 1, 256<<20)[0]
	stalled := make([]*stalledUpload, count)
	for i := range stalled {
		location, err := client.start(t.Context(), "stalled/pushes")
		require.NoError(t, err)
		stalled[i] = startStalledUpload(t, server, location, size)
		stalled[i].send(t, content[:size/2])
	}

	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	require.NoError(t, pushAsDocker(ctx, client, "fast/push", fast), "a fast push beside %d stalled ones", count)
	memory := server.Memory(t)
	t.Logf("256 MiB beside %d stalled clients in %v; resident at the peak: %d MiB",
		count, time.Since(began).Round(time.Millisecond), memory.Peak>>20)
	require.LessOrEqual(t, memory.Peak>>20, int64(budget+besidesBudget)>>20, "the peak of the server's resident memory, in MiB")

	name := digest.FromBytes(content)
	for _, upload := range stalled[:3] {
		upload.send(t, content[size/2:])
		location, offset := upload.answer(t)
		require.Equal(t, int64(size), offset, "what a client that stalled and went on is told")
		require.NoError(t, client.finish(t.Context(), location, name, nil, offset, 0))
	}
}

// pushAsDocker pushes as docker does: one PATCH of unknown length, then an empty PUT.
func pushAsDocker(ctx context.Context, client *pushClient, repository string, body *largeBody) error {
	location, err := client.start(ctx, repository)
	if err != nil {
		return err
	}
	location, offset, err := client.patch(ctx, location, body.reader(), 0, -1)
	if err != nil {
		return err
	}
	if offset != body.size {
		return fmt.Errorf("%s: %d bytes were acknowledged, should be %d", repository, offset, body.size)
	}
	return client.finish(ctx, location, body.name, nil, offset, 0)
}

// largeBody is content that is made while it is read: a block again and again,
// and a number at the end.
type largeBody struct {
	name  imagetest.Digest
	size  int64
	block []byte
	end   []byte
}

// newLargeBodies makes contents that differ in their last bytes, so that all but
// those is hashed once.
func newLargeBodies(t *testing.T, count int, size int64) []*largeBody {
	t.Helper()
	const blockSize = 1 << 20
	require.Zero(t, size%blockSize, "the size must be a multiple of %d", blockSize)
	block := randomBytes(rand.New(rand.NewPCG(2, 2)), blockSize)
	bodies := make([]*largeBody, count)
	common, ok := sha256.New().(hash.Cloner)
	require.True(t, ok, "the state of a hash can be copied")
	for i := range bodies {
		bodies[i] = &largeBody{size: size, block: block, end: binary.BigEndian.AppendUint64(nil, uint64(i))}
	}
	_, err := io.Copy(common, io.LimitReader(bodies[0].reader(), size-int64(len(bodies[0].end))))
	require.NoError(t, err)
	for _, body := range bodies {
		whole, err := common.Clone()
		require.NoError(t, err)
		_, err = whole.Write(body.end)
		require.NoError(t, err)
		body.name = digest.NewDigest(digest.SHA256, whole)
	}
	return bodies
}

func (b *largeBody) reader() io.Reader {
	var parts []io.Reader
	for range b.size/int64(len(b.block)) - 1 {
		parts = append(parts, bytes.NewReader(b.block))
	}
	parts = append(parts, bytes.NewReader(b.block[:len(b.block)-len(b.end)]), bytes.NewReader(b.end))
	return io.MultiReader(parts...)
}

// stalledUpload is a PATCH under way, byte by byte as the test wants it.
type stalledUpload struct {
	connection net.Conn
	answers    *bufio.Reader
	request    *http.Request
}

// startStalledUpload sends the head of a PATCH of a known size, and returns when
// the server asks for the body.
func startStalledUpload(t *testing.T, server *servertest.Server, location string, size int64) *stalledUpload {
	t.Helper()
	target, err := url.Parse(location)
	require.NoError(t, err)
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	require.NoError(t, connection.SetDeadline(time.Now().Add(2*time.Minute)))
	_, err = fmt.Fprintf(connection, "PATCH %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nContent-Range: 0-%d\r\n"+
		"Content-Type: application/octet-stream\r\nExpect: 100-continue\r\n\r\n", target.RequestURI(), server.Address, size, size-1)
	require.NoError(t, err)
	upload := &stalledUpload{
		connection: connection,
		answers:    bufio.NewReader(connection),
		request:    &http.Request{Method: http.MethodPatch},
	}
	line, err := upload.answers.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line, "the server must ask for the body")
	_, err = upload.answers.ReadString('\n') // the empty line after it
	require.NoError(t, err)
	return upload
}

func (u *stalledUpload) send(t *testing.T, content []byte) {
	t.Helper()
	_, err := u.connection.Write(content)
	require.NoError(t, err, "send a part of an upload")
}

// answer reads the answer to the whole PATCH.
func (u *stalledUpload) answer(t *testing.T) (location string, offset int64) {
	t.Helper()
	resp, err := http.ReadResponse(u.answers, u.request)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, resp.StatusCode, "%s", body)
	location, offset, err = position(resp.Header)
	require.NoError(t, err)
	return location, offset
}
