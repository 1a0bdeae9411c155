package s3

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ocikit/ocikit/store"
)

// PresignGet returns an address from which anybody can GET the object until Options.PresignExpiry has passed, with or without
// a Range header. It is what a registry's Redirect takes. It makes no request to the store, and does not know whether
// the object is there; it fails where the client has no credentials. The address starts with the client's endpoint, which must
// be one that those who pull can reach. One that is signed with temporary credentials ends with them, if that is sooner.
func (o *Objects) PresignGet(ctx context.Context, key store.Key) (string, error) {
	if !key.Valid() {
		return "", fmt.Errorf("presign %q: %w", key, errKey)
	}
	request, err := o.presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: o.bucket, Key: o.name(key)},
		s3.WithPresignExpires(o.options.PresignExpiry))
	if err != nil {
		return "", fmt.Errorf("presign %q: %w", key, err)
	}
	return request.URL, nil
}
