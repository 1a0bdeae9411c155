package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// region is what servers that are not Amazon's are asked for, and what they ask for themselves unless told otherwise.
const region = "us-east-1"

// backends are the servers below the peers whose names end in -s3: one bucket and one database for all of them, with a prefix and
// a schema of its own for each.
type backends struct {
	s3       *url.URL // http://KEY:SECRET@HOST:PORT/BUCKET; nil: none
	postgres *url.URL // nil: none
}

// setS3 is the flag --s3.
func (b *backends) setS3(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("want http://KEY:SECRET@HOST:PORT/BUCKET: %w", err)
	}
	secret, found := u.User.Password()
	if u.Host == "" || !found || secret == "" || b.bucketOf(u) == "" {
		return errors.New("want http://KEY:SECRET@HOST:PORT/BUCKET")
	}
	b.s3 = u
	return nil
}

// setPostgres is the flag --postgres.
func (b *backends) setPostgres(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !strings.HasPrefix(u.Scheme, "postgres") {
		return errors.New("want postgres://USER@HOST:PORT/DATABASE")
	}
	b.postgres = u
	return nil
}

func (*backends) bucketOf(u *url.URL) string { return strings.Trim(u.Path, "/") }

// has says what is missing for a peer that needs these.
func (b *backends) has(needed ...string) error {
	for _, backend := range needed {
		if backend == "s3" && b.s3 == nil || backend == "postgres" && b.postgres == nil {
			return fmt.Errorf("name a server for it with --%s", backend)
		}
	}
	return nil
}

// placeholders are the values of the backends' placeholders for a peer, as strings.NewReplacer takes them. What the peer keeps
// there is called after its folder.
func (b *backends) placeholders(folder string) []string {
	name := filepath.Base(folder)
	var all []string
	if b.s3 != nil {
		secret, _ := b.s3.User.Password()
		all = append(all, "{s3}", b.s3.Scheme+"://"+b.s3.Host, "{bucket}", b.bucketOf(b.s3), "{prefix}", name,
			"{key}", b.s3.User.Username(), "{secret}", secret)
	}
	if b.postgres != nil {
		u := *b.postgres
		query := u.Query()
		query.Set("schema", strings.ReplaceAll(name, "-", "_"))
		u.RawQuery = query.Encode()
		all = append(all, "{postgres}", u.String())
	}
	return all
}

// client returns a client of the S3 server that does what a program does whose authors have set nothing but where it is.
func (b *backends) client() *s3.Client {
	secret, _ := b.s3.User.Password()
	return s3.New(s3.Options{
		Region:                     region,
		BaseEndpoint:               aws.String(b.s3.Scheme + "://" + b.s3.Host),
		UsePathStyle:               true,
		Credentials:                credentials.NewStaticCredentialsProvider(b.s3.User.Username(), secret, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
}

// bare is the bucket as a peer.
func (b *backends) bare() (*peer, error) {
	if err := b.has("s3"); err != nil {
		return nil, fmt.Errorf("peer %s: %w", bareKind, err)
	}
	prefix := fmt.Sprintf("bare-%d", time.Now().UnixNano())
	return &peer{name: bareKind, base: b.s3, bare: &bare{client: b.client(), bucket: b.bucketOf(b.s3), prefix: prefix}}, nil
}

// prepare makes the bucket, if it is not there.
func (b *backends) prepare(ctx context.Context) error {
	if b.s3 == nil {
		return nil
	}
	_, err := b.client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(b.bucketOf(b.s3))})
	if err != nil && !errors.As(err, new(*types.BucketAlreadyOwnedByYou)) && !errors.As(err, new(*types.BucketAlreadyExists)) {
		return fmt.Errorf("make the bucket: %w", err)
	}
	return nil
}
