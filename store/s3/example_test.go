package s3_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/s3"
)

// A store takes a client as it is, and signs addresses that anybody may read from for a while.
func Example() {
	client := sdk.New(sdk.Options{
		BaseEndpoint: aws.String("http://localhost:9000"),
		UsePathStyle: true,
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
	objects, err := s3.New(client, "images", &s3.Options{Prefix: "registry", PresignExpiry: 10 * time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("parts of", objects.Limits().PartSize>>20, "MiB")

	address, err := objects.PresignGet(context.Background(), store.BlobPrefix+"an-id")
	if err != nil {
		fmt.Println(err)
		return
	}
	signed, err := url.Parse(address)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(signed.Host, signed.Path, signed.Query().Get("X-Amz-Expires"))
	// Output:
	// parts of 16 MiB
	// localhost:9000 /images/registry/blobs/an-id 600
}

// A registry on a bucket, which is probed before it serves anybody.
func Example_registry() {
	serve := func(ctx context.Context, settings aws.Config) error {
		client := sdk.NewFromConfig(settings, func(o *sdk.Options) {
			o.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
				t.MaxIdleConns, t.MaxIdleConnsPerHost = 256, 256
			})
		})
		objects, err := s3.New(client, "images", nil)
		if err != nil {
			return err
		}
		err = objects.Probe(ctx)
		if errors.Is(err, s3.ErrNoList) {
			slog.Warn("audits will not work", "error", err)
		} else if err != nil {
			return err // says in words what the bucket lacks
		}
		local := registry.NewLocal(memory.NewMetadata(nil), objects, &registry.LocalOptions{Redirect: objects.PresignGet})
		return http.ListenAndServe("localhost:5000", registry.NewHandler(local, nil))
	}
	_ = serve
}
