package s3_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	client := sdk.New(sdk.Options{Region: "us-east-1"})
	for name, test := range map[string]struct {
		bucket string
		opts   s3.Options
		want   string
	}{
		"no bucket":         {"", s3.Options{}, "no bucket"},
		"small parts":       {"b", s3.Options{PartSize: 5<<20 - 1}, "part size"},
		"large parts":       {"b", s3.Options{PartSize: 5<<30 + 1}, "part size"},
		"CRC32":             {"b", s3.Options{Checksum: "crc32"}, "part numbers with gaps"},
		"SHA256":            {"b", s3.Options{Checksum: "SHA256"}, "part numbers with gaps"},
		"another checksum":  {"b", s3.Options{Checksum: "best"}, `it must be "signed" or "unsigned"`},
		"encryption":        {"b", s3.Options{ServerSideEncryption: "rot13"}, "server-side encryption"},
		"key of no KMS":     {"b", s3.Options{ServerSideEncryption: "AES256", KMSKeyID: "key"}, "KMS key"},
		"a key alone":       {"b", s3.Options{KMSKeyID: "key"}, "KMS key"},
		"archive":           {"b", s3.Options{StorageClass: types.StorageClassDeepArchive}, "restored"},
		"negative expiry":   {"b", s3.Options{PresignExpiry: -time.Second}, "expire"},
		"long expiry":       {"b", s3.Options{PresignExpiry: 8 * 24 * time.Hour}, "expire"},
		"rooted prefix":     {"b", s3.Options{Prefix: "/a"}, "prefix"},
		"climbing prefix":   {"b", s3.Options{Prefix: "a/../b"}, "prefix"},
		"unprintable":       {"b", s3.Options{Prefix: "a\nb"}, "prefix"},
		"only a slash":      {"b", s3.Options{Prefix: "/"}, "prefix"},
		"endless prefix":    {"b", s3.Options{Prefix: strings.Repeat("p", 600)}, "prefix"},
		"two slashes":       {"b", s3.Options{Prefix: "a//b"}, "prefix"},
		"two slashes after": {"b", s3.Options{Prefix: "a//"}, "prefix"},
	} {
		_, err := s3.New(client, test.bucket, &test.opts)
		require.ErrorContains(t, err, test.want, name)
	}
	_, err := s3.New(nil, "b", nil)
	require.ErrorContains(t, err, "no client")
}

func TestLimitsAreThoseOfTheProtocol(t *testing.T) {
	t.Parallel()
	client := sdk.New(sdk.Options{Region: "us-east-1"})
	require.Equal(t, store.Limits{MinPart: 5 << 20, MaxPart: 5 << 30, PartSize: 16 << 20, MaxParts: 10_000},
		newObjects(t, client, "b", nil).Limits())
	require.Equal(t, store.Limits{MinPart: 5 << 20, MaxPart: 5 << 30, PartSize: 64 << 20, MaxParts: 10_000, EqualParts: true},
		newObjects(t, client, "b", &s3.Options{PartSize: 64 << 20, EqualParts: true}).Limits())
}

// recorder keeps the headers of requests, by operation.
type recorder struct {
	mu      sync.Mutex
	headers map[faulttest.Operation]http.Header
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	if r.headers == nil {
		r.headers = map[faulttest.Operation]http.Header{}
	}
	r.headers[faulttest.OperationOf(request)] = request.Header.Clone()
	r.mu.Unlock()
	return http.DefaultTransport.RoundTrip(request)
}

// upload makes one call of each kind that writes, whether they succeed or not, and returns the headers that were sent.
func upload(t *testing.T, server *backendtest.S3Server, bucket string, opts *s3.Options, settings ...func(*sdk.Options)) map[faulttest.Operation]http.Header {
	t.Helper()
	sent := &recorder{}
	settings = append(settings, func(o *sdk.Options) { o.HTTPClient = &http.Client{Transport: sent}; o.RetryMaxAttempts = 1 })
	o := newObjects(t, newClient(server, "", settings...), bucket, opts)
	_ = o.Put(t.Context(), store.NewBlobKey(), bytes.NewReader([]byte("x")), 1)
	m, err := o.Begin(t.Context(), store.NewBlobKey())
	if err != nil {
		m = store.Multipart{Key: store.NewBlobKey(), ID: "none"}
	}
	part, _ := o.PutPart(t.Context(), m, 1, store.Part{Number: 3, Size: 1}, bytes.NewReader([]byte("x")))
	_ = o.Complete(t.Context(), m, []store.Part{part})
	return sent.headers
}

func TestWhateverTheClientHasPartsHaveNoChecksumsOfTheirOwn(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		sent := upload(t, server, server.Bucket(t), nil, func(o *sdk.Options) {
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
		})
		require.Len(t, sent, 4)
		for operation, header := range sent {
			for name := range header {
				lower := strings.ToLower(name)
				require.False(t, strings.HasPrefix(lower, "x-amz-checksum") || strings.HasPrefix(lower, "x-amz-sdk-checksum") || lower == "x-amz-trailer",
					"%s of %s names a checksum, which S3 refuses together with gaps in part numbers", name, operation)
			}
			require.Len(t, header.Get("X-Amz-Content-Sha256"), 64, "the body of %s is signed", operation)
		}
	})
}

func TestEncryptionAndStorageClassAreAskedForOnce(t *testing.T) {
	t.Parallel()
	server := backendtest.MinIO(t)
	bucket := server.Bucket(t)
	sent := upload(t, server, bucket, &s3.Options{ServerSideEncryption: types.ServerSideEncryptionAwsKms, KMSKeyID: "key", StorageClass: types.StorageClassStandardIa})
	for operation, want := range map[faulttest.Operation]string{
		faulttest.PutObject: "aws:kms key STANDARD_IA", faulttest.CreateMultipartUpload: "aws:kms key STANDARD_IA",
		faulttest.UploadPart: "  ", faulttest.CompleteMultipartUpload: "  ",
	} {
		h := sent[operation]
		got := h.Get("X-Amz-Server-Side-Encryption") + " " + h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") + " " + h.Get("X-Amz-Storage-Class")
		require.Equal(t, want, got, "what %s asks for", operation)
	}
	record := &recorder{}
	client := newClient(server, "", func(o *sdk.Options) { o.HTTPClient = &http.Client{Transport: record} })
	o := newObjects(t, client, bucket, &s3.Options{StorageClass: types.StorageClassReducedRedundancy})
	put(t, o, store.NewUploadKey(store.NewID()), []byte("x"))
	require.Empty(t, record.headers[faulttest.PutObject].Get("X-Amz-Storage-Class"), "what does not stay has the bucket's class")
	put(t, o, store.NewBlobKey(), []byte("x"))
	require.Equal(t, "REDUCED_REDUNDANCY", record.headers[faulttest.PutObject].Get("X-Amz-Storage-Class"))
}

func TestBodiesAreSignedOverTLSToo(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		hashes := &sync.Map{}
		front := newTLSProxy(t, server, hashes)
		o := newObjects(t, newClient(server, front.URL, func(o *sdk.Options) { o.HTTPClient = front.Client() }), server.Bucket(t), nil)
		require.NoError(t, o.Probe(t.Context()))
		for _, operation := range []faulttest.Operation{faulttest.PutObject, faulttest.UploadPart} {
			hash, _ := hashes.Load(operation)
			require.Len(t, hash, 64, "the SHA-256 of the body of %s is part of the signature", operation)
		}
	})
}

// newTLSProxy stands before a server, and keeps what was signed of the bodies.
func newTLSProxy(t testing.TB, server *backendtest.S3Server, hashes *sync.Map) *httptest.Server {
	t.Helper()
	target, err := url.Parse(server.Endpoint())
	require.NoError(t, err)
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
		hashes.Store(faulttest.OperationOf(r.In), r.In.Header.Get("X-Amz-Content-Sha256"))
	}})
	t.Cleanup(front.Close)
	return front
}

func TestUnsignedPayloadGoesOverTLSOnly(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket, opts := server.Bucket(t), &s3.Options{Checksum: s3.UnsignedPayload}
		plain := newObjects(t, newClient(server, ""), bucket, opts)
		err := plain.Put(t.Context(), store.NewBlobKey(), bytes.NewReader([]byte("x")), 1)
		require.ErrorContains(t, err, "https")
		require.NotErrorIs(t, err, store.ErrUnavailable)
		requireLine(t, plain.Probe(t.Context()), "https")

		hashes := &sync.Map{}
		front := newTLSProxy(t, server, hashes)
		client := newClient(server, front.URL, func(o *sdk.Options) { o.HTTPClient = front.Client() })
		o := newObjects(t, client, bucket, opts)
		require.NoError(t, o.Probe(t.Context()))
		key, data := store.NewBlobKey(), pattern(1, 6<<20)
		put(t, o, key, data)
		requireObject(t, o, key, data)
		for _, operation := range []faulttest.Operation{faulttest.PutObject, faulttest.UploadPart} {
			hash, _ := hashes.Load(operation)
			require.Equal(t, "UNSIGNED-PAYLOAD", hash, "the body of %s is not part of the signature", operation)
		}
	})
}
