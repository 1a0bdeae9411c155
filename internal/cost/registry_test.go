package cost_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/postgres"
	"github.com/ocikit/ocikit/store/s3"
)

// site is a registry on PostgreSQL and MinIO, and a client of it.
type site struct {
	*counter
	url    string
	client *http.Client
}

// newSite starts one. Blob reads are redirected to the bucket if asked for.
func newSite(t *testing.T, redirect bool) *site {
	t.Helper()
	c := newCounter()
	config, err := pgxpool.ParseConfig(backendtest.Postgres(t).Database(t))
	require.NoError(t, err)
	config.ConnConfig.DialFunc = c.dial
	config.MaxConns = 1 // so that it is warm
	// A slow machine lets a connection idle between two parts for longer than a second, after which a pool asks whether it lives.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, postgres.Migrate(t.Context(), pool, nil))
	meta, err := postgres.New(t.Context(), pool, nil)
	require.NoError(t, err)

	server := backendtest.MinIO(t)
	objects, err := s3.New(awss3.New(awss3.Options{
		Region:       server.Region(),
		BaseEndpoint: aws.String(server.Endpoint()),
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(server.AccessKey(), server.SecretKey(), ""),
		HTTPClient:   c,
	}), server.Bucket(t), nil)
	require.NoError(t, err)

	var opts registry.LocalOptions
	if redirect {
		opts.Redirect = objects.PresignGet
	}
	web := httptest.NewServer(registry.NewHandler(registry.NewLocal(meta, objects, &opts), nil))
	t.Cleanup(web.Close)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(client.CloseIdleConnections)
	return &site{counter: c, url: web.URL, client: client}
}

// ask sends a request, requires its status, and returns the Location of the answer.
func (s *site) ask(t *testing.T, method, path string, body []byte, want int, header ...string) (location string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, bytes.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := s.client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, want, answer.StatusCode, "%s %s: %.300s", method, path, text)
	return answer.Header.Get("Location")
}

// content is bytes that nobody has pushed.
type content []byte

func fresh(size int) content {
	data := make(content, size)
	_, _ = rand.Read(data)
	return data
}

func (c content) digest() string { return digest.FromBytes(c).String() }
