package s3

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ocikit/ocikit/store"
)

// maxList is how many objects one request may list.
const maxList = 1000

// List implements [store.Objects]: one ListObjectsV2 for a thousand objects. What has not a key's form is not the store's, and
// left out.
func (o *Objects) List(ctx context.Context, prefix string, after store.Key, limit int) ([]store.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	in := &s3.ListObjectsV2Input{Bucket: o.bucket, Prefix: aws.String(o.options.Prefix + prefix)}
	if after != "" {
		in.StartAfter = o.name(after)
	}
	var list []store.Object
	for len(list) < limit {
		in.MaxKeys = aws.Int32(int32(min(limit-len(list), maxList)))
		page, err := o.client.ListObjectsV2(ctx, in, o.calls...)
		if err != nil {
			return nil, fmt.Errorf("list objects: %w", classify(ctx, err))
		}
		for i := range page.Contents {
			entry := &page.Contents[i]
			if key, ok := o.key(aws.ToString(entry.Key)); ok {
				list = append(list, store.Object{Key: key, Size: aws.ToInt64(entry.Size), Modified: aws.ToTime(entry.LastModified)})
			}
		}
		if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextContinuationToken) == "" {
			break
		}
		in.ContinuationToken = page.NextContinuationToken
	}
	return list, nil
}

// key is the store's key of an object in the bucket, if it is one.
func (o *Objects) key(name string) (store.Key, bool) {
	rest, ok := strings.CutPrefix(name, o.options.Prefix)
	key := store.Key(rest)
	return key, ok && key.Valid()
}
