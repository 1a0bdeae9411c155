package e2e_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// backends is a database and a bucket: what the replicas of a cluster share.
type backends struct {
	database string // the URL
	store    *backendtest.S3Server
	bucket   string
}

// newBackends makes an empty database with the schema, and an empty bucket on the
// given server.
func newBackends(t testing.TB, store *backendtest.S3Server) *backends {
	t.Helper()
	return newBackendsOn(t, backendtest.Postgres(t), store)
}

func newBackendsOn(t testing.TB, index *backendtest.PostgresServer, store *backendtest.S3Server) *backends {
	t.Helper()
	b := &backends{database: index.Database(t), store: store, bucket: store.Bucket(t)}
	servertest.Run(t, "migrate", "up", "--database", b.database)
	return b
}

// route is how a replica reaches the backends. The zero value is directly.
type route struct {
	postgres string     // the address of a proxy for PostgreSQL
	s3       string     // the URL of a proxy for the S3 server
	options  url.Values // further ones of --objects
}

// start starts a replica on the backends.
func (b *backends) start(t testing.TB, by route, args ...string) *servertest.Server {
	t.Helper()
	database := b.database
	if by.postgres != "" {
		parsed, err := url.Parse(database)
		require.NoError(t, err)
		parsed.Host = by.postgres
		database = parsed.String()
	}
	return servertest.StartEnv(t, b.credentials(), append([]string{"--database", database, "--objects", b.objectsURL(by)}, args...)...)
}

// credentials are those of the S3 server, for a process's environment.
func (b *backends) credentials() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + b.store.AccessKey(), "AWS_SECRET_ACCESS_KEY=" + b.store.SecretKey()}
}

// objectsURL is --objects.
func (b *backends) objectsURL(by route) string {
	objects := url.Values{"endpoint": {b.store.Endpoint()}, "region": {b.store.Region()}, "path_style": {"true"}}
	if by.s3 != "" {
		objects.Set("endpoint", by.s3)
	}
	for name, values := range by.options {
		objects[name] = values
	}
	return "s3://" + b.bucket + "?" + objects.Encode()
}

// partsOf is the option of --objects for parts of that size.
func partsOf(size string) url.Values { return url.Values{"part_size": {size}} }

// cluster is replicas on the same backends, and a proxy that sends each request
// to the next of them.
type cluster struct {
	*backends
	replicas []*servertest.Server
	proxy    *faulttest.RoundRobin
}

func newCluster(t *testing.T, count int, store *backendtest.S3Server, args ...string) *cluster {
	t.Helper()
	c := &cluster{backends: newBackends(t, store)}
	var urls []string
	for range count {
		replica := c.start(t, route{}, args...)
		c.replicas, urls = append(c.replicas, replica), append(urls, replica.URL())
	}
	c.proxy = faulttest.NewRoundRobin(t, urls...)
	return c
}

// requireUploadsTouchedEveryReplica requires that there were uploads through the
// proxy, and that each was served by all replicas, or by as many as it had
// requests. One upload at least must have had a request for each of them, unless
// fewest, what the client needs for an upload, is less.
func (c *cluster) requireUploadsTouchedEveryReplica(t *testing.T, fewest int) {
	t.Helper()
	uploads := c.proxy.Uploads()
	require.NotEmpty(t, uploads, "the uploads through the proxy")
	most := 0
	for _, upload := range uploads {
		assert.Equal(t, min(len(c.replicas), len(upload.Targets)), upload.Touched(),
			"the replicas that served the upload %s, whose requests went to %v", upload.ID, upload.Targets)
		most = max(most, upload.Touched())
	}
	require.GreaterOrEqual(t, most, min(len(c.replicas), fewest), "how many replicas served the upload that was served by the most")
	t.Logf("%d uploads, each over as many of the %d replicas as it had requests: at most %d", len(uploads), len(c.replicas), most)
}

// eachStore runs a test on each kind of S3 server.
func eachStore(t *testing.T, test func(t *testing.T, store *backendtest.S3Server)) {
	t.Helper()
	for name, start := range map[string]func(testing.TB) *backendtest.S3Server{
		"MinIO": backendtest.MinIO, "versitygw": backendtest.VersityGW,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// pathOf returns a location's path and query, so that it can be asked of another
// replica.
func pathOf(t *testing.T, location string) string {
	t.Helper()
	parsed, err := url.Parse(location)
	require.NoError(t, err)
	return strings.TrimPrefix(parsed.RequestURI(), parsed.Host)
}
