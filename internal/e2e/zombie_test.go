package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// A process stalls in the middle of a request to the store; its client takes
// another process, and finishes there. Then the request reaches the store, and
// must do no harm: the blob has the bytes that its digest says, and the process
// that was late tells its own client no more than what is true.
func TestRequestThatReachesTheStoreLateDoesNoHarm(t *testing.T) {
	t.Parallel()
	for _, stall := range []struct {
		name      string
		size      int64 // of the blob
		before    int64 // how much of it is pushed before the process stalls
		operation faulttest.Operation
	}{
		{"in a part", 12 << 20, 0, faulttest.UploadPart},
		{"in a later part", 24 << 20, 6 << 20, faulttest.UploadPart},
		{"in a tail", 6 << 20, 0, faulttest.PutObject},
		{"in a later tail", 9 << 20, 7 << 20, faulttest.PutObject},
		{"in a single put", 1 << 20, 0, faulttest.PutObject},
		{"in the beginning of parts", 6 << 20, 0, faulttest.CreateMultipartUpload},
		{"in complete", 12 << 20, 12 << 20, faulttest.CompleteMultipartUpload},
	} {
		t.Run(stall.name, func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, store *backendtest.S3Server) {
				z := newZombie(t, store, stall.size)
				z.pushBefore(t, stall.before)
				hold, answer := z.stallIn(t, stall.operation)
				z.finishElsewhere(t)
				z.requireBlob(t)

				hold.Release()
				tooltest.RequireEvent(t, hold.Reached(), "the request that stalled reaches the store")
				t.Logf("the store's answer to it: %d", hold.Status())
				z.requireTrueAnswer(t, <-answer)
				z.requireBlob(t)
				z.process.Stop(t, 40*time.Second) // with whatever it still had to do
				z.requireBlob(t)
			})
		})
	}
}

// zombie is an upload that begins on a process that will stall, and ends on
// another one.
type zombie struct {
	process  *servertest.Server // the one that stalls
	late     *pushClient        // its client
	other    *pushClient
	store    *faulttest.HTTP // as the process that stalls sees it
	content  []byte
	name     digest.Digest
	location string // a path
	offset   int64
}

func newZombie(t *testing.T, store *backendtest.S3Server, size int64) *zombie {
	t.Helper()
	shared := newBackends(t, store)
	proxy := faulttest.NewHTTP(t, store.Endpoint())
	late := shared.start(t, route{s3: proxy.URL(), options: partsOf("5MiB")})
	z := &zombie{
		process: late,
		late:    newPushClient(late.URL()),
		other:   newPushClient(shared.start(t, route{options: partsOf("5MiB")}).URL()),
		store:   proxy,
		content: randomBytes(rand.New(rand.NewPCG(8, uint64(size))), size),
	}
	z.name = digest.FromBytes(z.content)
	location, err := z.late.start(t.Context(), "team/zombie")
	require.NoError(t, err)
	z.location = pathOf(t, location)
	return z
}

// pushBefore pushes the beginning through the process that will stall.
func (z *zombie) pushBefore(t *testing.T, size int64) {
	t.Helper()
	if size == 0 {
		return
	}
	location, offset, err := z.late.patch(t.Context(), z.location, bytes.NewReader(z.content[:size]), 0, size)
	require.NoError(t, err)
	require.Equal(t, size, offset)
	z.location, z.offset = pathOf(t, location), offset
}

// stallIn sends the rest, and returns when the process waits for the operation,
// with what will be the outcome.
func (z *zombie) stallIn(t *testing.T, operation faulttest.Operation) (hold *faulttest.Hold, answer <-chan error) {
	t.Helper()
	hold = faulttest.NewHold()
	z.store.Intercept(faulttest.First(operation, faulttest.Fault{Hold: hold}))
	outcome := make(chan error, 1)
	// Beyond the test's context, so that the outcome is the process's own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	rest := z.content[z.offset:]
	go func() {
		defer cancel()
		if len(rest) == 0 {
			outcome <- z.late.finish(ctx, z.location, z.name, nil, z.offset, 0)
			return
		}
		_, _, err := z.late.patch(ctx, z.location, bytes.NewReader(rest), z.offset, int64(len(rest)))
		if err == nil {
			err = errAppended
		}
		outcome <- err
	}()
	tooltest.RequireEvent(t, hold.Arrived(), "the process asks the store for "+string(operation))
	return hold, outcome
}

// errAppended means that a PATCH was acknowledged.
var errAppended = errors.New("the PATCH was acknowledged")

// finishElsewhere does what a client does that has no answer: it asks another
// process how far the upload came, goes on from there, and finishes.
func (z *zombie) finishElsewhere(t *testing.T) {
	t.Helper()
	location, offset := z.location, z.offset
	size := int64(len(z.content))
	if offset < size {
		var err error
		_, offset, err = z.other.status(t.Context(), location)
		require.NoError(t, err)
		require.GreaterOrEqual(t, offset, z.offset, "what was acknowledged is there")
		location, offset, err = z.other.patch(t.Context(), location, bytes.NewReader(z.content[offset:]), offset, size-offset)
		require.NoError(t, err)
		require.Equal(t, size, offset)
	}
	require.NoError(t, z.other.finish(t.Context(), pathOf(t, location), z.name, nil, offset, 0))
}

// requireTrueAnswer requires that what the process that was late told its client
// is true: that the blob is there, if it was asked to finish, or that the upload
// is not the client's any more.
func (z *zombie) requireTrueAnswer(t *testing.T, err error) {
	t.Helper()
	t.Logf("the process's answer to its client: %v", err)
	if z.offset == int64(len(z.content)) && err == nil {
		return
	}
	var refused *statusError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, []int{http.StatusRequestedRangeNotSatisfiable, http.StatusNotFound}, refused.status, refused.body)
}

func (z *zombie) requireBlob(t *testing.T) {
	t.Helper()
	got, err := z.other.get(t.Context(), "team/zombie/blobs/"+z.name.String())
	require.NoError(t, err)
	require.True(t, bytes.Equal(z.content, got), "the blob must have the bytes that were pushed")
}
