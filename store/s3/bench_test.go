package s3_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

// bare is the SDK itself, as its defaults are, on the same server. It is what the store is measured against.
type bare struct {
	*sdk.Client
	bucket string
}

// defaults are those of a client whose configuration was loaded from the environment.
func defaults(o *sdk.Options) {
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
}

func (c bare) put(b *testing.B, key store.Key, data []byte) {
	b.Helper()
	_, err := c.PutObject(b.Context(), &sdk.PutObjectInput{Bucket: &c.bucket, Key: aws.String(string(key)), Body: bytes.NewReader(data)})
	require.NoError(b, err)
}

func (c bare) begin(b *testing.B) *sdk.CreateMultipartUploadOutput {
	b.Helper()
	up, err := c.CreateMultipartUpload(b.Context(), &sdk.CreateMultipartUploadInput{
		Bucket: &c.bucket, Key: aws.String(string(store.NewBlobKey())), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	})
	require.NoError(b, err)
	return up
}

func (c bare) putPart(b *testing.B, up *sdk.CreateMultipartUploadOutput, number int32, data []byte) types.CompletedPart {
	b.Helper()
	part, err := c.UploadPart(b.Context(), &sdk.UploadPartInput{
		Bucket: &c.bucket, Key: up.Key, UploadId: up.UploadId, PartNumber: &number, Body: bytes.NewReader(data),
	})
	require.NoError(b, err)
	return types.CompletedPart{PartNumber: &number, ETag: part.ETag, ChecksumCRC32: part.ChecksumCRC32}
}

// both runs a benchmark with the store and with the bare SDK.
func both(b *testing.B, store func(b *testing.B, o *s3.Objects), sdk func(b *testing.B, c bare)) {
	server := backendtest.MinIO(b)
	bucket := server.Bucket(b)
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		store(b, newObjects(b, newClient(server, ""), bucket, nil))
	})
	b.Run("sdk", func(b *testing.B) {
		b.ReportAllocs()
		sdk(b, bare{newClient(server, "", defaults), bucket})
	})
}

func BenchmarkPut(b *testing.B) {
	data := pattern(1, 1<<20)
	both(b, func(b *testing.B, o *s3.Objects) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			put(b, o, store.NewBlobKey(), data)
		}
	}, func(b *testing.B, c bare) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			c.put(b, store.NewBlobKey(), data)
		}
	})
}

func BenchmarkPutPart(b *testing.B) {
	data := pattern(1, 16<<20)
	both(b, func(b *testing.B, o *s3.Objects) {
		b.SetBytes(int64(len(data)))
		m, err := o.Begin(b.Context(), store.NewBlobKey())
		require.NoError(b, err)
		for b.Loop() { // the same part again and again, which the server replaces
			putPart(b, o, m, store.Part{Number: 1}, data)
		}
	}, func(b *testing.B, c bare) {
		b.SetBytes(int64(len(data)))
		up := c.begin(b)
		for b.Loop() {
			c.putPart(b, up, 1, data)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	data := pattern(1, 4<<20)
	key := store.NewBlobKey()
	both(b, func(b *testing.B, o *s3.Objects) {
		put(b, o, key, data)
		b.SetBytes(1 << 20)
		for b.Loop() {
			r, err := o.Open(b.Context(), key, 1<<20, 1<<20)
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, r)
			require.NoError(b, err)
			require.NoError(b, r.Close())
		}
	}, func(b *testing.B, c bare) {
		c.put(b, key, data)
		b.SetBytes(1 << 20)
		for b.Loop() {
			out, err := c.GetObject(b.Context(), &sdk.GetObjectInput{
				Bucket: &c.bucket, Key: aws.String(string(key)), Range: aws.String("bytes=1048576-2097151"),
			})
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, out.Body)
			require.NoError(b, err)
			require.NoError(b, out.Body.Close())
		}
	})
}

// BenchmarkComplete shows what a completion costs, for sizes up to 1.25 GiB.
func BenchmarkComplete(b *testing.B) {
	data := pattern(1, 5<<20)
	for _, count := range []int32{1, 16, 256} {
		b.Run(fmt.Sprintf("%dMiB", count*5), func(b *testing.B) {
			both(b, func(b *testing.B, o *s3.Objects) {
				for b.Loop() {
					b.StopTimer()
					m, err := o.Begin(b.Context(), store.NewBlobKey())
					require.NoError(b, err)
					parts := make([]store.Part, count)
					for i := range count {
						parts[i] = putPart(b, o, m, store.Part{Number: i + 1, Offset: int64(i) * int64(len(data))}, data)
					}
					b.StartTimer()
					require.NoError(b, o.Complete(b.Context(), m, parts))
					b.StopTimer()
					require.NoError(b, o.Delete(b.Context(), []store.Key{m.Key}))
					b.StartTimer()
				}
			}, func(b *testing.B, c bare) {
				for b.Loop() {
					b.StopTimer()
					up := c.begin(b)
					parts := make([]types.CompletedPart, count)
					for i := range count {
						parts[i] = c.putPart(b, up, i+1, data)
					}
					b.StartTimer()
					_, err := c.CompleteMultipartUpload(b.Context(), &sdk.CompleteMultipartUploadInput{
						Bucket: &c.bucket, Key: up.Key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
					})
					require.NoError(b, err)
					b.StopTimer()
					_, err = c.DeleteObject(b.Context(), &sdk.DeleteObjectInput{Bucket: &c.bucket, Key: up.Key})
					require.NoError(b, err)
					b.StartTimer()
				}
			})
		})
	}
}

// BenchmarkPresignGet shows what a redirect costs, which makes no request.
func BenchmarkPresignGet(b *testing.B) {
	server := backendtest.MinIO(b)
	o := newObjects(b, newClient(server, ""), "bucket", nil)
	b.ReportAllocs()
	for b.Loop() {
		_, err := o.PresignGet(b.Context(), "blobs/x")
		require.NoError(b, err)
	}
}

// BenchmarkChecksum shows what signing costs, over TLS, with a part of 16 MiB.
func BenchmarkChecksum(b *testing.B) {
	server := backendtest.MinIO(b)
	front := newTLSProxy(b, server, &sync.Map{})
	bucket, data := server.Bucket(b), pattern(1, 16<<20)
	for _, mode := range []s3.Checksum{s3.SignedPayload, s3.UnsignedPayload} {
		b.Run(string(mode), func(b *testing.B) {
			client := newClient(server, front.URL, func(o *sdk.Options) { o.HTTPClient = &http.Client{Transport: front.Client().Transport} })
			o := newObjects(b, client, bucket, &s3.Options{Checksum: mode})
			m, err := o.Begin(b.Context(), store.NewBlobKey())
			require.NoError(b, err)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				putPart(b, o, m, store.Part{Number: 1}, data)
			}
		})
	}
}
