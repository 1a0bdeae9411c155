package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

var patches = flag.Int("patches", 1600, "how many small PATCHes the test of many of them sends")

// Many small PATCHes cost the store requests that are linear in their number: four
// times as many cost four times the requests, and not more for what came before.
// Times are told, not judged. For the whole of it:
//
//	go test ./internal/e2e -run SmallPatches -patches 10000 -v
func TestSmallPatchesCostRequestsInProportion(t *testing.T) {
	t.Parallel()
	const (
		size    = 64 << 10
		quarter = 4
		// What does not come in proportion: the beginning, the end, and what is read back for a part that is not full yet.
		besides = 10 + 16<<20/size
	)
	shared := newBackends(t, backendtest.MinIO(t))
	proxy := faulttest.NewHTTP(t, shared.store.Endpoint())
	client := newPushClient(shared.start(t, route{s3: proxy.URL()}).URL())
	location, err := client.start(t.Context(), "team/chunks")
	require.NoError(t, err)

	proxy.ResetCounts()
	block := randomBytes(rand.New(rand.NewPCG(10, 10)), size)
	whole := sha256.New()
	began, lap := time.Now(), time.Now()
	var offset int64
	var early int
	for number := range *patches {
		binary.BigEndian.PutUint64(block, uint64(number))
		whole.Write(block)
		location, offset, err = client.patch(t.Context(), location, bytes.NewReader(block), offset, size)
		require.NoError(t, err, "PATCH %d", number)
		require.EqualValues(t, size*(number+1), offset, "what PATCH %d is told of the offset", number)
		if done := number + 1; done%(*patches/quarter) == 0 {
			t.Logf("%d PATCHes: %v, the last %d in %v; requests to the store: %v",
				done, time.Since(began).Round(time.Millisecond), *patches/quarter, time.Since(lap).Round(time.Millisecond), proxy.Counts())
			lap = time.Now()
			if done == *patches/quarter {
				early = total(proxy.Counts())
			}
		}
	}
	name := digest.NewDigest(digest.SHA256, whole)
	require.NoError(t, client.finish(t.Context(), location, name, nil, offset, 0))
	require.LessOrEqual(t, total(proxy.Counts()), quarter*early+besides,
		"the requests of %d PATCHes, of which the first %d took %d", *patches, *patches/quarter, early)
	for operation := range proxy.Counts() {
		require.Contains(t, []faulttest.Operation{
			faulttest.PutObject, faulttest.GetObject, faulttest.CreateMultipartUpload, faulttest.UploadPart, faulttest.CompleteMultipartUpload,
		}, operation, "what the store is asked for")
	}
	require.Equal(t, name, digestOf(t, client, "team/chunks", name))
}

func total(counts map[faulttest.Operation]int) int {
	sum := 0
	for _, count := range counts {
		sum += count
	}
	return sum
}

// digestOf returns the digest of what is pulled under a name, without keeping it.
func digestOf(t *testing.T, client *pushClient, repository string, name imagetest.Digest) imagetest.Digest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, err := client.request(ctx, http.MethodGet, fmt.Sprintf("/v2/%s/blobs/%s", repository, name), nil, 0)
	require.NoError(t, err)
	resp, err := client.http.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	whole := sha256.New()
	_, err = io.Copy(whole, resp.Body)
	require.NoError(t, err)
	return digest.NewDigest(digest.SHA256, whole)
}
