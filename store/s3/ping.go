package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/ocikit/ocikit/store"
)

// pinged is a key that no object has.
const pinged store.Key = store.UploadPrefix + "ping"

// Ping asks for an object that is not there, and returns nil if the store says so: one GetObject, without repetitions, for
// readiness. ctx bounds it. Whether the credentials may do everything is for [Objects.Probe] to find out: "access denied"
// is what AWS says of an absent object to those who may not list, so it counts as an answer.
func (o *Objects) Ping(ctx context.Context) error {
	once := append(slices.Clone(o.calls), func(o *s3.Options) { o.RetryMaxAttempts = 1 })
	out, err := o.client.GetObject(ctx, &s3.GetObjectInput{Bucket: o.bucket, Key: o.name(pinged)}, once...)
	if err == nil {
		return out.Body.Close()
	}
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == codeNoSuchKey || api.ErrorCode() == codeAccessDenied) {
		return nil
	}
	return fmt.Errorf("ping bucket %q: %w", *o.bucket, classify(ctx, err))
}
