package s3_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

// servers are those that everything has to work on.
var servers = map[string]func(t testing.TB) *backendtest.S3Server{
	"MinIO":     backendtest.MinIO,
	"versitygw": backendtest.VersityGW,
}

// onServers runs a test against each server.
func onServers(t *testing.T, test func(t *testing.T, server *backendtest.S3Server)) {
	t.Helper()
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// newClient returns a client of the server, or of what stands before it if an endpoint is given.
func newClient(server *backendtest.S3Server, endpoint string, settings ...func(*sdk.Options)) *sdk.Client {
	if endpoint == "" {
		endpoint = server.Endpoint()
	}
	return sdk.New(sdk.Options{
		BaseEndpoint: aws.String(endpoint),
		UsePathStyle: true,
		Region:       server.Region(),
		Credentials:  credentials.NewStaticCredentialsProvider(server.AccessKey(), server.SecretKey(), ""),
	}, settings...)
}

// newObjects returns a store on the bucket.
func newObjects(t testing.TB, client *sdk.Client, bucket string, opts *s3.Options) *s3.Objects {
	t.Helper()
	o, err := s3.New(client, bucket, opts)
	require.NoError(t, err)
	return o
}

// pattern returns size bytes that are the same for the same seed, and look like no others'.
func pattern(seed byte, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// put puts an object.
func put(t testing.TB, o *s3.Objects, key store.Key, data []byte) {
	t.Helper()
	require.NoError(t, o.Put(t.Context(), key, bytes.NewReader(data), int64(len(data))))
}

// putPart puts data as a part.
func putPart(t testing.TB, o *s3.Objects, m store.Multipart, part store.Part, data []byte) store.Part {
	t.Helper()
	part.Size = int64(len(data))
	part, err := o.PutPart(t.Context(), m, 1, part, bytes.NewReader(data))
	require.NoError(t, err)
	return part
}

// read reads a range of an object, and returns what it got before an error.
func read(t testing.TB, o *s3.Objects, key store.Key, offset, length int64) ([]byte, error) {
	t.Helper()
	r, err := o.Open(t.Context(), key, offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// requireObject compares without printing what may be mebibytes.
func requireObject(t testing.TB, o *s3.Objects, key store.Key, want []byte) {
	t.Helper()
	got, err := read(t, o, key, 0, -1)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "the object must have the %d bytes that were written, and has %d", len(want), len(got))
}

// putNamed puts an object under a name that no key has.
func putNamed(t testing.TB, client *sdk.Client, bucket, name string) {
	t.Helper()
	_, err := client.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: &bucket, Key: &name, Body: bytes.NewReader([]byte("x"))})
	require.NoError(t, err)
}

// prefixed returns options with a prefix.
func prefixed(prefix string) *s3.Options { return &s3.Options{Prefix: prefix} }

// newReverseProxy returns the address of a proxy that changes answers.
func newReverseProxy(t testing.TB, target string, change func(r *http.Response)) string {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(r *http.Response) error {
			change(r)
			return nil
		},
	})
	t.Cleanup(proxy.Close)
	return proxy.URL
}
