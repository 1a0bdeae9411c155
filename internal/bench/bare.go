package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const (
	barePartSize = 16 << 20 // bytes
	bareParts    = 4        // on their way at a time
)

// bare is no registry: it is the bucket itself, through the SDK alone, without a digest, an index or a second hop. No registry on
// that S3 server can be faster, so it is what the others' large blobs are held against; it has no other measures.
type bare struct {
	client *s3.Client
	bucket string
	prefix string
	count  int
}

// push uploads a large blob in parts, and tells how long all of it and how long its completion took.
func (b *bare) push(ctx context.Context, large *largeBlob) (whole, finish time.Duration, key string, err error) {
	b.count++
	key = fmt.Sprintf("%s/%d", b.prefix, b.count)
	start := time.Now()
	upload, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: &key})
	if err != nil {
		return 0, 0, "", fmt.Errorf("begin: %w", err)
	}
	parts := make([]types.CompletedPart, (large.size+barePartSize-1)/barePartSize)
	group, putting := errgroup.WithContext(ctx)
	group.SetLimit(bareParts)
	for i := range parts {
		group.Go(func() error {
			offset := int64(i) * barePartSize
			number := aws.Int32(int32(i + 1))
			put, err := b.client.UploadPart(putting, &s3.UploadPartInput{
				Bucket: &b.bucket, Key: &key, UploadId: upload.UploadId, PartNumber: number,
				Body: io.NewSectionReader(large, offset, min(barePartSize, large.size-offset)),
			})
			if err != nil {
				return fmt.Errorf("put part %d: %w", *number, err)
			}
			parts[i] = types.CompletedPart{PartNumber: number, ETag: put.ETag}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, "", err
	}
	streamed := time.Now()
	if _, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &b.bucket, Key: &key, UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}); err != nil {
		return 0, 0, "", fmt.Errorf("complete: %w", err)
	}
	end := time.Now()
	return end.Sub(start), end.Sub(streamed), key, nil
}

// pull reads an object to its end.
func (b *bare) pull(ctx context.Context, key string, size int64) error {
	object, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	defer object.Body.Close()
	got, err := io.Copy(io.Discard, object.Body)
	if err == nil && got != size {
		err = fmt.Errorf("expected %d bytes, got %d", size, got)
	}
	return err
}
