package s3_test

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

// silent is a store that never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestNoWriteOutlivesFifteenMinutes(t *testing.T) {
	t.Parallel()
	m, part := store.Multipart{Key: "blobs/x", ID: "id"}, store.Part{Number: 1, Size: 1, Tag: "tag"}
	for name, call := range map[string]func(ctx context.Context, o *s3.Objects) error{
		"Put": func(ctx context.Context, o *s3.Objects) error {
			return o.Put(ctx, "blobs/x", bytes.NewReader([]byte("x")), 1)
		},
		"Begin": func(ctx context.Context, o *s3.Objects) error {
			_, err := o.Begin(ctx, "blobs/x")
			return err
		},
		"PutPart": func(ctx context.Context, o *s3.Objects) error {
			_, err := o.PutPart(ctx, m, 1, part, bytes.NewReader([]byte("x")))
			return err
		},
		"Complete": func(ctx context.Context, o *s3.Objects) error { return o.Complete(ctx, m, []store.Part{part}) },
		"Abort":    func(ctx context.Context, o *s3.Objects) error { return o.Abort(ctx, m) },
		"Delete":   func(ctx context.Context, o *s3.Objects) error { return o.Delete(ctx, []store.Key{"blobs/x"}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newObjects(t, sdk.New(sdk.Options{
					BaseEndpoint: aws.String("http://localhost"),
					Region:       "us-east-1",
					Credentials:  credentials.NewStaticCredentialsProvider("key", "secret", ""),
					HTTPClient:   &http.Client{Transport: silent{}},
				}), "bucket", nil)
				start := time.Now()
				err := call(t.Context(), o)
				require.ErrorIs(t, err, store.ErrUnavailable, "a store that never answers is unavailable")
				require.NotErrorIs(t, err, context.DeadlineExceeded, "it is not the caller's time that has ended")
				require.LessOrEqual(t, time.Since(start), 14*time.Minute, "what was sent last has some time left to arrive")
				require.Greater(t, time.Since(start), time.Minute, "slow is not silent")
			})
		})
	}
}
