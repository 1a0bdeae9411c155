package faulttest_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bucket is a bucket as seen through a proxy, by a client that does not try again.
type bucket struct {
	proxy  *faulttest.HTTP
	client *s3.Client
	name   *string
}

func newBucket(t *testing.T, start func(testing.TB) *backendtest.S3Server) *bucket {
	t.Helper()
	server := start(t)
	name := server.Bucket(t)
	proxy := faulttest.NewHTTP(t, server.Endpoint())
	return &bucket{
		proxy: proxy,
		name:  &name,
		client: s3.New(s3.Options{
			BaseEndpoint:     aws.String(proxy.URL()),
			Region:           server.Region(),
			Credentials:      credentials.NewStaticCredentialsProvider(server.AccessKey(), server.SecretKey(), ""),
			UsePathStyle:     true,
			RetryMaxAttempts: 1,
		}),
	}
}

func (b *bucket) put(ctx context.Context, key, content string) error {
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: b.name, Key: &key, Body: strings.NewReader(content)})
	return err
}

func (b *bucket) get(ctx context.Context, key string) (string, error) {
	answer, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: b.name, Key: &key})
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	return string(content), err
}

// Both servers check signatures: what the proxy changes, they refuse.
func TestHTTPPassesWhatWasSigned(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *backendtest.S3Server{
		"MinIO": backendtest.MinIO, "versitygw": backendtest.VersityGW,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBucket(t, start)
			const key = "a folder/ä+b%2F=c" // whose spelling is signed too
			require.NoError(t, b.put(t.Context(), key, "content"))
			content, err := b.get(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, "content", content)
			_, err = b.get(t.Context(), "nothing")
			requireCode(t, err, "NoSuchKey")
			pushed := aws.String("multipart")
			created, err := b.client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: b.name, Key: pushed})
			require.NoError(t, err)
			_, err = b.client.UploadPart(t.Context(), &s3.UploadPartInput{
				Bucket: b.name, Key: pushed, UploadId: created.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(make([]byte, 6<<20)),
			})
			require.NoError(t, err)
			_, err = b.client.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: b.name, Key: pushed, UploadId: created.UploadId})
			require.NoError(t, err)
			_, err = b.client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: b.name})
			require.NoError(t, err)
			require.Equal(t, map[faulttest.Operation]int{
				faulttest.PutObject: 1, faulttest.GetObject: 2, faulttest.CreateMultipartUpload: 1,
				faulttest.UploadPart: 1, faulttest.AbortMultipartUpload: 1, faulttest.ListObjectsV2: 1,
			}, b.proxy.Counts())
			b.proxy.ResetCounts()
			require.Empty(t, b.proxy.Counts())
		})
	}
}

func TestHTTPAnswersAnErrorInstead(t *testing.T) {
	t.Parallel()
	b := newBucket(t, backendtest.VersityGW)
	b.proxy.Intercept(faulttest.First(faulttest.PutObject, faulttest.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}))
	err := b.put(t.Context(), "key", "content")
	requireCode(t, err, "SlowDown")
	_, err = b.get(t.Context(), "key")
	requireCode(t, err, "NoSuchKey")
	require.NoError(t, b.put(t.Context(), "key", "content"), "only the first request is answered so")
	b.proxy.Intercept(faulttest.Every(faulttest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}, faulttest.GetObject))
	for range 2 {
		_, err = b.get(t.Context(), "key")
		requireCode(t, err, "AccessDenied")
	}
	b.proxy.Intercept(nil)
	_, err = b.get(t.Context(), "key")
	require.NoError(t, err)
}

func TestHTTPLosesOrCuts(t *testing.T) {
	t.Parallel()
	const content = "0123456789"
	for _, test := range []struct {
		name   string
		on     faulttest.Operation
		fault  faulttest.Fault
		stored bool   // whether the put takes effect
		got    string // what of the content a get still gets
	}{
		{"cut before", faulttest.PutObject, faulttest.Fault{Cut: true}, false, ""},
		{"cut in the request", faulttest.PutObject, faulttest.Fault{CutRequestAfter: 5}, false, ""},
		{"lost answer", faulttest.PutObject, faulttest.Fault{LoseAnswer: true}, true, ""},
		{"cut in the answer", faulttest.GetObject, faulttest.Fault{CutAnswerAfter: 4}, true, content[:4]},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBucket(t, backendtest.VersityGW)
			b.proxy.Intercept(faulttest.First(test.on, test.fault))
			err := b.put(t.Context(), "key", content)
			if test.on == faulttest.PutObject {
				require.Error(t, err)
				var answered smithy.APIError
				require.NotErrorAs(t, err, &answered, "the connection must end without an answer")
			}
			if test.on == faulttest.GetObject {
				got, err := b.get(t.Context(), "key")
				require.Error(t, err)
				require.Equal(t, test.got, got)
			}
			got, err := b.get(t.Context(), "key")
			if !test.stored {
				requireCode(t, err, "NoSuchKey")
				return
			}
			require.NoError(t, err)
			require.Equal(t, content, got)
		})
	}
}

// A zombie: its sender has gone, somebody else did the work, and then it arrives.
func TestHTTPHoldsARequestThatOutlivesItsSender(t *testing.T) {
	t.Parallel()
	b := newBucket(t, backendtest.VersityGW)
	hold := faulttest.NewHold()
	b.proxy.Intercept(faulttest.First(faulttest.PutObject, faulttest.Fault{Hold: hold}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- b.put(ctx, "key", "the zombie's") }()
	tooltest.RequireEvent(t, hold.Arrived(), "the request is held")
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	require.NoError(t, b.put(t.Context(), "key", "the other's"))
	got, err := b.get(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "the other's", got, "a held request has no effect")
	hold.Release()
	tooltest.RequireEvent(t, hold.Reached(), "the request reaches the store")
	require.Equal(t, http.StatusOK, hold.Status())
	got, err = b.get(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "the zombie's", got, "a request that was released takes effect")
}

func TestHTTPHoldAnswersASenderThatWaits(t *testing.T) {
	t.Parallel()
	b := newBucket(t, backendtest.VersityGW)
	hold := faulttest.NewHold()
	b.proxy.Intercept(faulttest.Nth(faulttest.PutObject, 2, faulttest.Fault{Hold: hold}))
	require.NoError(t, b.put(t.Context(), "first", "content"), "only the second request is held")
	result := make(chan error, 1)
	go func() { result <- b.put(t.Context(), "second", "content") }()
	tooltest.RequireEvent(t, hold.Arrived(), "the request is held")
	hold.Release()
	require.NoError(t, <-result)
}

func TestOperationOf(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]faulttest.Operation{
		"GET /":                                 faulttest.ListBuckets,
		"POST /":                                faulttest.Other,
		"PUT /bucket":                           faulttest.CreateBucket,
		"HEAD /bucket":                          faulttest.HeadBucket,
		"DELETE /bucket":                        faulttest.DeleteBucket,
		"GET /bucket?prefix=a":                  faulttest.ListObjects,
		"GET /bucket/?list-type=2":              faulttest.ListObjectsV2,
		"GET /bucket?uploads&prefix=a":          faulttest.ListMultipartUploads,
		"GET /bucket?location":                  faulttest.Other,
		"POST /bucket?delete":                   faulttest.DeleteObjects,
		"PUT /bucket/a/b":                       faulttest.PutObject,
		"GET /bucket/a/b":                       faulttest.GetObject,
		"HEAD /bucket/a/b":                      faulttest.HeadObject,
		"DELETE /bucket/a/b":                    faulttest.DeleteObject,
		"POST /bucket/a?uploads":                faulttest.CreateMultipartUpload,
		"PUT /bucket/a?uploadId=1&partNumber=1": faulttest.UploadPart,
		"POST /bucket/a?uploadId=1":             faulttest.CompleteMultipartUpload,
		"DELETE /bucket/a?uploadId=1":           faulttest.AbortMultipartUpload,
		"GET /bucket/a?uploadId=1":              faulttest.ListParts,
		"PUT /bucket/a?copy":                    faulttest.CopyObject,
		"PUT /bucket/a?uploadId=1&copy":         faulttest.UploadPartCopy,
	} {
		method, path, _ := strings.Cut(target, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, http.NoBody)
		require.NoError(t, err)
		if r.URL.Query().Has("copy") {
			r.Header.Set("X-Amz-Copy-Source", "bucket/other")
		}
		assert.Equal(t, want, faulttest.OperationOf(r), target)
	}
}

func requireCode(t *testing.T, err error, code string) {
	t.Helper()
	var answered smithy.APIError
	require.ErrorAs(t, err, &answered)
	require.Equal(t, code, answered.ErrorCode())
}
