package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/postgres"
	"github.com/ocikit/ocikit/store/s3"
)

// What every replica is told, and nothing else: where the database and the bucket are, and how to get in.
const (
	bucket    = "registry"
	accessKey = "cluster-example"
	secretKey = "cluster-example-secret"
)

// newReplica returns a replica: a handler that keeps nothing between two requests. Any number of them are one registry.
func newReplica(ctx context.Context, database, endpoint string) (handler http.Handler, closeReplica func() error, err error) {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return nil, nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	index, err := postgres.New(ctx, pool, nil)
	if err != nil {
		pool.Close()
		return nil, nil, fmt.Errorf("open the index: %w", err)
	}
	objects, err := s3.New(newClient(endpoint), bucket, nil)
	if err != nil {
		pool.Close()
		return nil, nil, fmt.Errorf("open the bucket: %w", err)
	}
	closeReplica = func() error {
		pool.Close()
		return nil
	}
	return registry.NewHandler(registry.NewLocal(index, objects, nil), nil), closeReplica, nil
}

// setUp is done once, before the first replica, by whoever may: it makes the tables and the bucket.
func setUp(ctx context.Context, database, endpoint string) error {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return fmt.Errorf("open PostgreSQL: %w", err)
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool, nil); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	client := newClient(endpoint)
	if _, err := client.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		return fmt.Errorf("make the bucket: %w", err)
	}
	objects, err := s3.New(client, bucket, nil)
	if err != nil {
		return fmt.Errorf("open the bucket: %w", err)
	}
	return objects.Probe(ctx) // tells in words what the bucket cannot do, before a push finds out
}

// newClient returns a client for a server on this machine. On AWS, config.LoadDefaultConfig finds out all of this.
func newClient(endpoint string) *awss3.Client {
	return awss3.New(awss3.Options{
		BaseEndpoint: aws.String(endpoint),
		Region:       "us-east-1",
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	})
}
