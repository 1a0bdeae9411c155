package staging_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/s3"
)

func TestMain(m *testing.M) { os.Exit(backendtest.Run(m)) }

// newS3Client returns a client for large transfers.
func newS3Client(server *backendtest.S3Server) *sdk.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	transport.MaxIdleConnsPerHost = 64
	transport.WriteBufferSize, transport.ReadBufferSize = 128<<10, 64<<10
	return sdk.New(sdk.Options{
		BaseEndpoint: aws.String(server.Endpoint()),
		UsePathStyle: true,
		Region:       server.Region(),
		Credentials:  credentials.NewStaticCredentialsProvider(server.AccessKey(), server.SecretKey(), ""),
		HTTPClient:   &http.Client{Transport: transport},
	})
}

// BenchmarkPushToBucket pushes 1 GiB to MinIO: through a Stage, with one to four parts on their way, and as the same parts
// by the SDK alone, four at a time, which no push can be much faster than.
func BenchmarkPushToBucket(b *testing.B) {
	const size, part = 1 << 30, 16 << 20
	server := backendtest.MinIO(b)
	client, bucket := newS3Client(server), server.Bucket(b)
	data := noise(part, 1)
	d, err := digest.FromReader(&repeated{data: data, left: size})
	require.NoError(b, err)
	objects, err := s3.New(client, bucket, nil)
	require.NoError(b, err)
	b.Run("SDK", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			require.NoError(b, pushBare(b.Context(), client, bucket, data, size/part))
			empty(b, objects)
		}
	})
	for _, inFlight := range []int{1, 2, 3, 4} {
		b.Run(fmt.Sprintf("stage, %d parts in flight", inFlight), func(b *testing.B) {
			s := staging.New(memory.NewMetadata(nil), objects, &staging.Options{PartsInFlight: inFlight})
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				upload, err := s.Start(b.Context(), repository, digest.SHA256)
				require.NoError(b, err)
				_, err = s.Finish(b.Context(), repository, upload.ID, staging.Chunk{Body: &repeated{data: data, left: size}, Size: size}, d)
				require.NoError(b, err)
				empty(b, objects)
			}
		})
	}
}

// empty deletes what is in the bucket, so that its disk does not write it.
func empty(b *testing.B, objects *s3.Objects) {
	b.Helper()
	b.StopTimer()
	defer b.StartTimer()
	all, err := objects.List(b.Context(), "", "", 1000)
	require.NoError(b, err)
	for _, object := range all {
		require.NoError(b, objects.Delete(b.Context(), []store.Key{object.Key}))
	}
}

// pushBare uploads the same part so many times.
func pushBare(ctx context.Context, client *sdk.Client, bucket string, part []byte, count int) error {
	key := aws.String(string(store.NewBlobKey()))
	upload, err := client.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{Bucket: &bucket, Key: key})
	if err != nil {
		return err
	}
	parts := make([]types.CompletedPart, count)
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := range parts {
		parts[i].PartNumber = aws.Int32(int32(i + 1)) //nolint:gosec // few
		group.Go(func() error {
			put, err := client.UploadPart(sending, &sdk.UploadPartInput{
				Bucket: &bucket, Key: key, UploadId: upload.UploadId, PartNumber: parts[i].PartNumber, Body: bytes.NewReader(part),
			})
			if err == nil {
				parts[i].ETag = put.ETag
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = client.CompleteMultipartUpload(ctx, &sdk.CompleteMultipartUploadInput{
		Bucket: &bucket, Key: key, UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}

// BenchmarkFinishInBucket closes uploads of several sizes, each appended by one PATCH, with an empty PUT on MinIO. Its time
// must not grow with the size.
func BenchmarkFinishInBucket(b *testing.B) {
	server := backendtest.MinIO(b)
	objects, err := s3.New(newS3Client(server), server.Bucket(b), nil)
	require.NoError(b, err)
	for _, test := range []struct {
		name string
		size int64
	}{
		{"16 MiB", 16 << 20},
		{"16 MiB + 1", 16<<20 + 1},
		{"250 MB", 250_000_000},
		{"1 GiB + 5 MiB", 1<<30 + 5<<20},
		{"4 GiB - 1", 4<<30 - 1},
	} {
		b.Run(test.name, func(b *testing.B) {
			data := noise(16<<20, 1)
			d, err := digest.FromReader(&repeated{data: data, left: test.size})
			require.NoError(b, err)
			for b.Loop() {
				b.StopTimer()
				s := staging.New(memory.NewMetadata(nil), objects, nil)
				upload, err := s.Start(b.Context(), repository, "")
				require.NoError(b, err)
				_, err = s.Append(b.Context(), repository, upload.ID, staging.Chunk{Body: &repeated{data: data, left: test.size}, Size: -1})
				require.NoError(b, err)
				b.StartTimer()
				begin := time.Now()
				_, err = s.Finish(b.Context(), repository, upload.ID, staging.Chunk{At: -1}, d)
				require.NoError(b, err)
				b.ReportMetric(float64(time.Since(begin).Microseconds())/1000, "last-ms")
				empty(b, objects)
			}
		})
	}
}
