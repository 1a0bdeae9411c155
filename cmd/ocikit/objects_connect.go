package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

// defaultRegion is what S3 servers other than AWS's expect in signatures, if they look at it at all.
const defaultRegion = "us-east-1"

// open returns the bucket once it is known that everything that will be asked of it works.
func (o objects) open(ctx context.Context, log *slog.Logger, access access, m *metrics) (*s3.Objects, error) {
	client, err := o.client(ctx, m)
	if err != nil {
		return nil, err
	}
	bucket, err := s3.New(client, o.bucket, &o.options)
	if err != nil {
		return nil, err
	}
	if access == looking {
		if err := bucket.ProbeReading(ctx); err != nil {
			return nil, o.explain(err)
		}
		return bucket, nil
	}
	err = bucket.Probe(ctx)
	if errors.Is(err, s3.ErrNoList) {
		log.Warn("clients can be served, but an audit of the bucket will fail", "error", err)
		return bucket, nil
	}
	if err != nil {
		return nil, o.explain(err)
	}
	return bucket, nil
}

// client returns a client with the credentials that AWS's own tools would use.
func (o objects) client(ctx context.Context, m *metrics) (*awss3.Client, error) {
	transport := newTransport() // for credentials' servers, too; the environment may add certificate authorities to it
	loaders := []func(*config.LoadOptions) error{config.WithHTTPClient(transport), config.WithLogger(logging.Nop{})}
	if o.region != "" {
		loaders = append(loaders, config.WithRegion(o.region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, loaders...)
	if err != nil {
		return nil, fmt.Errorf("read AWS's environment and profiles: %s", oneLine(err))
	}
	if loaded.Region == "" {
		if o.endpoint == "" {
			return nil, errors.New("which region is the bucket in? Add region=… to the URL, or set AWS_REGION (and endpoint=… if it is not on AWS)")
		}
		loaded.Region = defaultRegion
	}
	if _, err := loaded.Credentials.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE: %s", oneLine(err))
	}
	return awss3.NewFromConfig(loaded, func(s *awss3.Options) {
		if o.endpoint != "" {
			s.BaseEndpoint = aws.String(o.endpoint)
		}
		s.UsePathStyle = o.pathStyle
		s.Retryer = newRetryer(loaded.RetryMaxAttempts)
		s.HTTPClient = &objectsClient{next: s.HTTPClient, metrics: m}
	}), nil
}

// objectsFixes are what to do about errors of S3's. The others speak for themselves.
var objectsFixes = map[string]string{
	"NoSuchBucket":                 "create it, or correct s3://BUCKET",
	"AccessDenied":                 "grant it to these credentials, or use others",
	"InvalidAccessKeyId":           "correct AWS_ACCESS_KEY_ID, or the profile",
	"SignatureDoesNotMatch":        "correct AWS_SECRET_ACCESS_KEY, or the profile",
	"RequestTimeTooSkewed":         "set this machine's clock",
	"AuthorizationHeaderMalformed": "correct region=",
	"PermanentRedirect":            "correct region= or endpoint=",
}

// explain returns what keeps the bucket from being used, and what to do about it, in one line.
func (o objects) explain(err error) error {
	where := o.endpoint
	if where == "" {
		where = "S3"
	}
	var api smithy.APIError
	switch {
	case errors.As(err, &api) && objectsFixes[api.ErrorCode()] != "":
		return fmt.Errorf("%s: %s", oneLine(err), objectsFixes[api.ErrorCode()])
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s: start the S3 server, or correct endpoint=", where)
	case isUnknownHost(err) && !o.pathStyle:
		return fmt.Errorf("%s: correct endpoint=, or set path_style=true", innermost(err))
	case isUnknownHost(err):
		return fmt.Errorf("%s: correct endpoint=", innermost(err))
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fmt.Errorf("%s: %s: name its authority's file in AWS_CA_BUNDLE", where, innermost(err))
	case isTimeout(err):
		return fmt.Errorf("no answer from %s in time: correct endpoint=, or open the way to it", where)
	case errors.Is(err, store.ErrUnavailable) && !errors.As(err, &api):
		return fmt.Errorf("%s does not answer as S3 does: %s: correct endpoint=", where, innermost(err))
	case errors.Is(err, store.ErrUnavailable):
		return fmt.Errorf("%s: try again", oneLine(err))
	}
	return errors.New(oneLine(err))
}
