package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

func TestProbeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket := server.Bucket(t)
		o := newObjects(t, newClient(server, ""), bucket, prefixed("some/prefix"))
		require.NoError(t, o.Probe(t.Context()))
		requireNothing(t, newClient(server, ""), bucket)
	})
}

// requireNothing requires that the bucket holds no object and no unfinished upload.
func requireNothing(t *testing.T, client *sdk.Client, bucket string) {
	t.Helper()
	objects, err := client.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: &bucket})
	require.NoError(t, err)
	require.Empty(t, objects.Contents, "a probe deletes what it stored")
	uploads, err := client.ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: &bucket})
	require.NoError(t, err)
	require.Empty(t, uploads.Uploads, "a probe aborts what it began")
}

func TestProbeEndsUploadsOfEarlierOnesThatWereKilled(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket, client := server.Bucket(t), newClient(server, "")
		proxy := faulttest.NewHTTP(t, server.Endpoint())
		proxy.Intercept(faulttest.Every(faulttest.Fault{Cut: true}, faulttest.UploadPart, faulttest.AbortMultipartUpload))
		require.ErrorIs(t, newObjects(t, newClient(server, proxy.URL(), impatient), bucket, nil).Probe(t.Context()), store.ErrUnavailable)
		begun, err := client.ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: &bucket, Prefix: aws.String(store.ProbePrefix + "parts")})
		require.NoError(t, err)
		require.Len(t, begun.Uploads, 1, "it is found by a key that every probe knows")

		require.NoError(t, newObjects(t, client, bucket, nil).Probe(t.Context()))
		begun, err = client.ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: &bucket, Prefix: begun.Uploads[0].Key})
		require.NoError(t, err)
		require.Len(t, begun.Uploads, 1, "a probe leaves alone what may be another's that is under way")
		later := newReverseProxy(t, server.Endpoint(), func(r *http.Response) {
			if faulttest.OperationOf(r.Request) == faulttest.ListMultipartUploads {
				backdate(t, r)
			}
		})
		require.NoError(t, newObjects(t, newClient(server, later), bucket, nil).Probe(t.Context()))
		requireNothing(t, client, bucket)
	})
}

// backdate makes uploads that an answer lists years older.
func backdate(t *testing.T, r *http.Response) {
	body, err := io.ReadAll(r.Body)
	assert.NoError(t, err)
	body = regexp.MustCompile(`<Initiated>\d{4}`).ReplaceAll(body, []byte("<Initiated>2020"))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

func TestProbesThatMeetDoEachOtherNoHarm(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket := server.Bucket(t)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				assert.NoError(t, newObjects(t, newClient(server, ""), bucket, nil).Probe(t.Context()))
			})
		}
		group.Wait()
		requireNothing(t, newClient(server, ""), bucket)
	})
}

func TestProbeSaysWhichPermissionIsMissing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		denied []faulttest.Operation
		want   []string
		soft   bool
	}{
		"Put": {[]faulttest.Operation{faulttest.PutObject}, []string{"put an object: access denied", "s3:PutObject"}, false},
		"Get": {[]faulttest.Operation{faulttest.GetObject}, []string{"get an object: access denied", "s3:GetObject"}, false},
		"Begin": {[]faulttest.Operation{faulttest.CreateMultipartUpload},
			[]string{"begin a multipart upload: access denied", "s3:PutObject"}, false},
		"UploadPart": {[]faulttest.Operation{faulttest.UploadPart}, []string{"upload a part: access denied"}, false},
		"Complete":   {[]faulttest.Operation{faulttest.CompleteMultipartUpload}, []string{"complete a multipart upload", "access denied"}, false},
		"Abort": {[]faulttest.Operation{faulttest.AbortMultipartUpload},
			[]string{"abort a multipart upload", "is left", "access denied", "s3:AbortMultipartUpload"}, false},
		"Delete": {[]faulttest.Operation{faulttest.DeleteObjects},
			[]string{"delete objects", "is left", "access denied", "s3:DeleteObject"}, false},
		"List": {[]faulttest.Operation{faulttest.ListObjectsV2}, []string{"list objects (for audits): access denied", "s3:ListBucket"}, true},
		"ListUploads": {[]faulttest.Operation{faulttest.ListMultipartUploads},
			[]string{"list multipart uploads (for the reaper): access denied", "s3:ListBucketMultipartUploads"}, true},
		"Lists": {[]faulttest.Operation{faulttest.ListObjectsV2, faulttest.ListMultipartUploads},
			[]string{"s3:ListBucket)", "s3:ListBucketMultipartUploads)"}, true},
		"ReadOnly": {[]faulttest.Operation{faulttest.PutObject, faulttest.CreateMultipartUpload, faulttest.DeleteObjects},
			[]string{"put an object, begin a multipart upload: access denied", "delete objects: access denied"}, false},
		"PutAndList": {[]faulttest.Operation{faulttest.PutObject, faulttest.ListObjectsV2},
			[]string{"put an object: access denied", "list objects (for audits): access denied"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := backendtest.MinIO(t)
			bucket := server.Bucket(t)
			proxy := faulttest.NewHTTP(t, server.Endpoint())
			proxy.Intercept(faulttest.Every(faulttest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}, test.denied...))
			err := newObjects(t, newClient(server, proxy.URL()), bucket, nil).Probe(t.Context())
			requireLine(t, err, append(test.want, bucket)...)
			require.Equal(t, test.soft, errors.Is(err, s3.ErrNoList), "lists alone are not needed to serve clients")
			if !strings.Contains(err.Error(), "is left") {
				requireNothing(t, newClient(server, ""), bucket)
			}
		})
	}
}

func TestProbeOfReadingWritesNothing(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		proxy := faulttest.NewHTTP(t, server.Endpoint())
		o := newObjects(t, newClient(server, proxy.URL()), server.Bucket(t), prefixed("some/prefix"))
		require.NoError(t, o.ProbeReading(t.Context()))
		require.Equal(t, map[faulttest.Operation]int{faulttest.GetObject: 1, faulttest.ListObjectsV2: 1, faulttest.ListMultipartUploads: 1}, proxy.Counts())
		for operation, want := range map[faulttest.Operation][]string{
			faulttest.GetObject:            {"get an object: access denied", "s3:GetObject"},
			faulttest.ListObjectsV2:        {"list objects (for audits): access denied", "s3:ListBucket"},
			faulttest.ListMultipartUploads: {"list multipart uploads", "s3:ListBucketMultipartUploads"},
		} {
			proxy.Intercept(faulttest.Every(faulttest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}, operation))
			requireLine(t, o.ProbeReading(t.Context()), want...)
		}
		absent := newObjects(t, newClient(server, ""), "absent-bucket", nil)
		requireLine(t, absent.ProbeReading(t.Context()), "the bucket does not exist")
	})
}

// requireLine requires an error of one line that has these words.
func requireLine(t *testing.T, err error, words ...string) {
	t.Helper()
	require.Error(t, err)
	for _, word := range words {
		require.ErrorContains(t, err, word)
	}
	require.NotContains(t, err.Error(), "\n", "what is wrong is said in one line")
}

func TestProbeSaysWhatIsWrongWithTheSettings(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket := server.Bucket(t)
		login := func(key, secret string) func(*sdk.Options) {
			return func(o *sdk.Options) { o.Credentials = credentials.NewStaticCredentialsProvider(key, secret, "") }
		}
		for name, test := range map[string]struct {
			bucket  string
			setting func(*sdk.Options)
			want    []string
		}{
			"Bucket":    {"absent-bucket", func(*sdk.Options) {}, []string{`bucket "absent-bucket"`, "the bucket does not exist"}},
			"Secret":    {bucket, login(server.AccessKey(), "wrong-secret"), []string{"the secret key is wrong"}},
			"AccessKey": {bucket, login("stranger", server.SecretKey()), []string{"the access key is unknown"}},
			"Clock":     {bucket, func(o *sdk.Options) { o.HTTPSignerV4 = newSkewed(20 * time.Minute) }, []string{"clock"}},
			"Endpoint":  {bucket, func(o *sdk.Options) { o.BaseEndpoint = aws.String("http://127.0.0.1:1") }, []string{"cannot be reached", "connection refused"}},
			"Credentials": {bucket, func(o *sdk.Options) { o.Credentials = noCredentials{} },
				[]string{"no credentials are set"}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				client := newClient(server, "", impatient, test.setting)
				err := newObjects(t, client, test.bucket, nil).Probe(t.Context())
				requireLine(t, err, test.want...)
				require.NotErrorIs(t, err, s3.ErrNoList)
				require.Less(t, len(err.Error()), 400, "what is wrong is said once")
				require.Error(t, newObjects(t, client, test.bucket, nil).Ping(t.Context()), "what cannot work is not ready")
			})
		}
	})
}

// skewed signs with a clock that is off.
type skewed struct {
	*signer.Signer
	by time.Duration
}

func newSkewed(by time.Duration) *skewed { return &skewed{signer.NewSigner(), by} }

func (s *skewed) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, now time.Time, opts ...func(*signer.SignerOptions)) error {
	return s.Signer.SignHTTP(ctx, c, r, hash, service, region, now.Add(s.by), opts...)
}

// noCredentials is what a chain that finds nothing says.
type noCredentials struct{}

func (noCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("no credentials are set")
}

func TestProbeSaysWhatTheStoreLacks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault     faulttest.Fault
		operation faulttest.Operation
		want      []string
	}{
		"Multipart": {faulttest.Fault{Status: http.StatusNotImplemented, Code: "NotImplemented"}, faulttest.CreateMultipartUpload,
			[]string{"begin a multipart upload: the store does not have this operation"}},
		"GapsInPartNumbers": {faulttest.Fault{Status: http.StatusBadRequest, Code: "InvalidPartOrder"}, faulttest.CompleteMultipartUpload,
			[]string{"complete a multipart upload whose part numbers have gaps: InvalidPartOrder"}},
		"Region": {faulttest.Fault{Status: http.StatusMovedPermanently, Code: "PermanentRedirect"}, faulttest.PutObject,
			[]string{"the region or the endpoint is not the bucket's"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := backendtest.VersityGW(t)
			proxy := faulttest.NewHTTP(t, server.Endpoint())
			proxy.Intercept(faulttest.Every(test.fault, test.operation))
			bucket := server.Bucket(t)
			requireLine(t, newObjects(t, newClient(server, proxy.URL(), impatient), bucket, nil).Probe(t.Context()), test.want...)
			requireNothing(t, newClient(server, ""), bucket)
		})
	}
	t.Run("Ranges", func(t *testing.T) {
		t.Parallel()
		server := backendtest.MinIO(t)
		target := newReverseProxy(t, server.Endpoint(), func(r *http.Response) {
			if r.StatusCode == http.StatusPartialContent {
				r.StatusCode = http.StatusOK
				r.Header.Del("Content-Range")
			}
		})
		err := newObjects(t, newClient(server, target), server.Bucket(t), nil).Probe(t.Context())
		requireLine(t, err, "get a range of an object", "does not serve ranges")
	})
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		web := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(web.Close)
		err := newObjects(t, newClient(backendtest.MinIO(t), web.URL), "bucket", nil).Probe(t.Context())
		requireLine(t, err, "an answer that is not S3's, with status 404")
	})
}

func TestProbeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	server := backendtest.MinIO(t)
	require.ErrorIs(t, newObjects(t, newClient(server, ""), server.Bucket(t), nil).Probe(ctx), context.Canceled)
}

func TestPingTellsWhetherTheBucketAnswers(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		proxy := faulttest.NewHTTP(t, server.Endpoint())
		o := newObjects(t, newClient(server, proxy.URL()), server.Bucket(t), nil)
		require.NoError(t, o.Ping(t.Context()))
		proxy.Intercept(faulttest.Every(faulttest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}))
		require.NoError(t, o.Ping(t.Context()), "who may not list is told so of what is absent")
		proxy.Intercept(faulttest.Every(faulttest.Fault{Cut: true}))
		require.ErrorIs(t, o.Ping(t.Context()), store.ErrUnavailable)
		proxy.Intercept(faulttest.Every(faulttest.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}))
		proxy.ResetCounts()
		require.ErrorIs(t, o.Ping(t.Context()), store.ErrUnavailable)
		require.Equal(t, map[faulttest.Operation]int{faulttest.GetObject: 1}, proxy.Counts(), "readiness is asked for again soon enough: no repetitions")
	})
}
