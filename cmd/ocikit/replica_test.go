package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/tooltest"
)

// layer is content of a size, the same for the same size.
func layer(size int) []byte {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(content)
	return content
}

// push pushes a blob through one replica after the other, in pieces, and returns its path.
func push(t *testing.T, content []byte, pieces int, replicas ...*server) string {
	t.Helper()
	turn := 0
	next := func(method, path string, body []byte, want int) *http.Response {
		response := replicas[turn%len(replicas)].do(t, method, path, bytes.NewReader(body))
		turn++
		require.Equal(t, want, response.StatusCode, "%s %s", method, path)
		return response
	}
	location := next(http.MethodPost, "/v2/team/app/blobs/uploads/", nil, http.StatusAccepted).Header.Get("Location")
	for i := range pieces {
		from, to := i*len(content)/pieces, (i+1)*len(content)/pieces
		location = next(http.MethodPatch, location, content[from:to], http.StatusAccepted).Header.Get("Location")
	}
	d := digest.FromBytes(content)
	next(http.MethodPut, location+"?digest="+d.String(), nil, http.StatusCreated)
	return "/v2/team/app/blobs/" + d.String()
}

func requireBlob(t *testing.T, s *server, path string, want []byte) {
	t.Helper()
	response := s.do(t, http.MethodGet, path, nil)
	require.Equal(t, http.StatusOK, response.StatusCode)
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "%s comes back as it was pushed", path)
}

func TestReplicasOnPostgreSQLAndS3ShareAPush(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *backendtest.S3Server{"MinIO": backendtest.MinIO, "VersityGW": backendtest.VersityGW} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bucket := start(t)
			args := []string{
				"--database=" + migrated(t, backendtest.Postgres(t)),
				"--objects=" + bucketURL(t, bucket, bucket.Endpoint(), "prefix=a/registry", "part_size=5MiB"),
			}
			first := startProgram(t, credentialsOf(bucket), args...)
			second := startProgram(t, credentialsOf(bucket), args...)
			content := layer(17<<20 + 1)
			path := push(t, content, 3, first, second)
			requireBlob(t, first, path, content)
			requireBlob(t, second, path, content)
			first.stop(t)
			second.stop(t)
			for _, s := range []*server{first, second} {
				assert.NotContains(t, s.log(), bucket.SecretKey())
			}
		})
	}
}

func TestCredentialsComeFromAProfile(t *testing.T) {
	t.Parallel()
	bucket := backendtest.MinIO(t)
	file := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[registry]\naws_access_key_id = %s\naws_secret_access_key = %s\nregion = %s\n", bucket.AccessKey(), bucket.SecretKey(), bucket.Region())
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	s := startProgram(t, []string{"AWS_PROFILE=registry", "AWS_SHARED_CREDENTIALS_FILE=" + file, "AWS_ENDPOINT_URL_S3=" + bucket.Endpoint()},
		"--database=sqlite:"+filepath.Join(t.TempDir(), "index"), "--objects=s3://"+bucket.Bucket(t))
	content := layer(100_000)
	requireBlob(t, s, push(t, content, 1, s), content)
	s.stop(t)
}

// A pod's service account has a token, for which AWS's token service, asked as the first thing, gives a key.
func TestCredentialsComeFromAWebIdentity(t *testing.T) {
	t.Parallel()
	bucket := backendtest.MinIO(t)
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("Action") != "AssumeRoleWithWebIdentity" || r.PostFormValue("WebIdentityToken") != "a token" {
			http.Error(w, "not what is expected", http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
			<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration></Credentials>
			</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			bucket.AccessKey(), bucket.SecretKey(), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(tokens.Close)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("a token"), 0o600))
	env := []string{"AWS_ROLE_ARN=arn:aws:iam::123456789012:role/registry", "AWS_WEB_IDENTITY_TOKEN_FILE=" + file, "AWS_ENDPOINT_URL_STS=" + tokens.URL}
	s := startProgram(t, env, "--database=sqlite:"+filepath.Join(t.TempDir(), "index"), "--objects="+bucketURL(t, bucket, bucket.Endpoint()))
	content := layer(100_000)
	requireBlob(t, s, push(t, content, 1, s), content)
	s.stop(t)
}

func TestPostgreSQLGoesWithAFolder(t *testing.T) {
	t.Parallel()
	args := []string{"--database=" + backendtest.Postgres(t).Database(t) + "&schema=team", "--objects=file:" + t.TempDir(), "--migrate"}
	first := start(t, args...)
	second := start(t, args...)
	content := layer(300_000)
	requireBlob(t, second, push(t, content, 2, first, second), content)
	first.stop(t)
	second.stop(t)
	assert.Contains(t, first.log(), "schema=team")
	assert.NotContains(t, first.log(), "sslmode", "what is logged is composed, not copied")
}

func TestClientsAreSentToS3(t *testing.T) {
	t.Parallel()
	bucket := backendtest.MinIO(t)
	s := startProgram(t, credentialsOf(bucket), "--redirect", "--redirect-expiry=2m",
		"--database="+migrated(t, backendtest.Postgres(t)), "--objects="+bucketURL(t, bucket, bucket.Endpoint()))
	content := layer(1 << 20)
	path := push(t, content, 1, s)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	require.NoError(t, err)
	response, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusTemporaryRedirect, response.StatusCode)
	location := response.Header.Get("Location")
	assert.True(t, strings.HasPrefix(location, bucket.Endpoint()+"/"), location)
	assert.Contains(t, location, "X-Amz-Expires=120")
	requireBlob(t, s, path, content)
	s.stop(t)
}

// PostgreSQL that lies behind a pooler keeps no prepared statements for anybody. Nobody has to tell.
func TestReplicaNoticesAPooler(t *testing.T) {
	t.Parallel()
	program := tooltest.Require(t, "pgbouncer")
	database := migrated(t, backendtest.Postgres(t))
	pooler := startPooler(t, program, database)
	s := start(t, "--database="+pooler, "--objects=file:"+t.TempDir())
	assert.Contains(t, s.log(), "a pooler is in between")
	for i := range 3 {
		content := layer(100_000 + i)
		requireBlob(t, s, push(t, content, 2, s), content)
	}
	s.stop(t)
	assert.NotContains(t, s.log(), "prepared statement \"")

	direct := start(t, "--database="+database, "--objects=file:"+t.TempDir())
	direct.stop(t)
	assert.NotContains(t, direct.log(), "pooler")
}

// startPooler starts PgBouncer in transaction mode before a database, and returns its URL.
func startPooler(t *testing.T, program, database string) string {
	t.Helper()
	at, name, _ := strings.Cut(strings.TrimPrefix(database, "postgres://postgres@"), "/")
	name, _, _ = strings.Cut(name, "?")
	host, port, err := net.SplitHostPort(at)
	require.NoError(t, err)
	address := tooltest.FreeAddress(t)
	_, listen, err := net.SplitHostPort(address)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "pooler") //nolint:usetesting // another user has to be able to read it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	file := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n%s = host=%s port=%s user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\n"+
		"auth_type = any\npool_mode = transaction\nunix_socket_dir =\n", name, host, port, listen)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.NoError(t, os.Chmod(file, 0o644))
	words := []string{program, "-q", file}
	if os.Geteuid() == 0 { // as which it does not run
		words = append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, words...)
	}
	process := tooltest.StartProcess(t, exec.Command(words[0], words[1:]...))
	process.AwaitReady(t, func() error {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return err
		}
		return connection.Close()
	})
	return "postgres://postgres@" + address + "/" + name + "?sslmode=disable"
}

func TestReadinessTellsWhichDependencyIsDown(t *testing.T) {
	t.Parallel()
	postgres, bucket := backendtest.Postgres(t), backendtest.MinIO(t)
	database := migrated(t, postgres)
	databaseProxy := faulttest.NewTCP(t, postgres.Address())
	objectsProxy := faulttest.NewHTTP(t, bucket.Endpoint())
	s := startProgram(t, credentialsOf(bucket), "--metrics-listen=127.0.0.1:0",
		"--database="+strings.Replace(database, postgres.Address(), databaseProxy.Address(), 1),
		"--objects="+bucketURL(t, bucket, objectsProxy.URL()))
	s.requireReady(t, http.StatusOK, "database: ok\nobjects: ok\n")

	objectsProxy.Intercept(faulttest.Every(faulttest.Fault{Status: http.StatusInternalServerError, Code: "InternalError"}))
	s.requireReady(t, http.StatusServiceUnavailable, "database: ok\nobjects: down\n")
	objectsProxy.Intercept(nil)
	s.requireReady(t, http.StatusOK, "database: ok\nobjects: ok\n")

	databaseProxy.Refuse(t, true)
	databaseProxy.Cut()
	s.requireReady(t, http.StatusServiceUnavailable, "database: down\nobjects: ok\n")
	status, body := s.probe(t, "/livez")
	assert.Equal(t, http.StatusOK, status, "the process is up, whatever is down: %s", body)
	databaseProxy.Refuse(t, false)
	s.requireReady(t, http.StatusOK, "database: ok\nobjects: ok\n")

	databaseProxy.Stall(true)
	s.requireReady(t, http.StatusServiceUnavailable, "database: no answer within 2s\nobjects: ok\n")
	databaseProxy.Stall(false)
	s.requireReady(t, http.StatusOK, "database: ok\nobjects: ok\n")
	s.stop(t)
	assert.Contains(t, s.log(), `msg="not ready" dependency=objects`)
	assert.Contains(t, s.log(), `msg="ready again" dependency=database`)
}

func TestReadinessAsksSeldomHoweverOftenItIsAsked(t *testing.T) {
	t.Parallel()
	bucket := backendtest.MinIO(t)
	proxy := faulttest.NewHTTP(t, bucket.Endpoint())
	s := startProgram(t, credentialsOf(bucket), "--metrics-listen=127.0.0.1:0",
		"--database="+migrated(t, backendtest.Postgres(t)), "--objects="+bucketURL(t, bucket, proxy.URL()))
	proxy.ResetCounts()
	start := time.Now()
	for range 100 {
		status, body := s.probe(t, "/readyz")
		require.Equal(t, http.StatusOK, status, body)
	}
	asked := 0
	for _, n := range proxy.Counts() {
		asked += n
	}
	assert.LessOrEqual(t, asked, 1+int(time.Since(start)/time.Second), "one request a second")
	s.stop(t)
}

func TestReplicaIsNotReadyWhileItShutsDown(t *testing.T) {
	t.Parallel()
	s := start(t, "--database=memory:", "--metrics-listen=127.0.0.1:0", "--shutdown-delay=10s")
	s.requireReady(t, http.StatusOK, "database: ok\nobjects: ok\n")
	s.cancel()
	s.requireReady(t, http.StatusServiceUnavailable, "shutting down\n")
	assert.Equal(t, http.StatusOK, s.do(t, http.MethodGet, "/v2/", nil).StatusCode, "until load balancers have noticed, it serves")
	s.stop(t)
}

func TestMetricsCountRequestsToPostgreSQLAndS3(t *testing.T) {
	t.Parallel()
	bucket := backendtest.MinIO(t)
	s := startProgram(t, credentialsOf(bucket), "--metrics-listen=127.0.0.1:0",
		"--database="+migrated(t, backendtest.Postgres(t)), "--objects="+bucketURL(t, bucket, bucket.Endpoint()))
	content := layer(6 << 20)
	requireBlob(t, s, push(t, content, 1, s), content)
	text := s.scrape(t)
	for _, want := range []string{
		`ocikit_s3_requests_total{operation="PutObject",outcome="answered"} 2`, // one of them the probe's
		`ocikit_s3_request_duration_seconds_count{operation="GetObject"}`,
		`ocikit_database_connections{state="idle"}`,
		`ocikit_database_connections_max 16`,
		`ocikit_database_requests_total{outcome="answered"}`,
	} {
		assert.Contains(t, text, want)
	}
	s.stop(t)
}

func TestShutdownDoesNotWaitForADatabaseThatIsSilent(t *testing.T) {
	t.Parallel()
	postgres := backendtest.Postgres(t)
	proxy := faulttest.NewTCP(t, postgres.Address())
	s := start(t, "--database="+strings.Replace(migrated(t, postgres), postgres.Address(), proxy.Address(), 1),
		"--objects=file:"+t.TempDir(), "--metrics-listen=127.0.0.1:0")
	proxy.Stall(true)
	s.requireReady(t, http.StatusServiceUnavailable, "database: no answer within 2s\nobjects: ok\n") // which leaves a connection half made
	start := time.Now()
	s.stop(t)
	assert.Less(t, time.Since(start), 30*time.Second, "else it would wait for as long as the database is silent")
}

// What is down is told as such within seconds, and nobody has to restart anything once it is back.
func TestRequestIsAskedToComeBackWhileADependencyIsDown(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"PostgreSQL", "S3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			postgres, bucket := backendtest.Postgres(t), backendtest.MinIO(t)
			proxies := map[string]*faulttest.TCP{
				"PostgreSQL": faulttest.NewTCP(t, postgres.Address()),
				"S3":         faulttest.NewTCP(t, bucket.Address()),
			}
			s := startProgram(t, credentialsOf(bucket),
				"--database="+strings.Replace(migrated(t, postgres), postgres.Address(), proxies["PostgreSQL"].Address(), 1),
				"--objects="+bucketURL(t, bucket, "http://"+proxies["S3"].Address()))
			content := layer(1 << 20)
			path := push(t, content, 1, s)

			proxy := proxies[name]
			proxy.Refuse(t, true)
			proxy.Cut()
			s.requireComeBack(t, path, 10*time.Second, name+" refuses connections")
			proxy.Refuse(t, false)
			requireBlob(t, s, path, content)
			proxy.Stall(true)
			s.requireComeBack(t, path, quietTimeout+5*time.Second, name+" does not answer")
			proxy.Stall(false)
			requireBlob(t, s, path, content)
			s.stop(t)
		})
	}
}

func (s *server) requireComeBack(t *testing.T, path string, within time.Duration, when string) {
	t.Helper()
	start := time.Now()
	response := s.do(t, http.MethodGet, path, nil)
	took := time.Since(start)
	t.Logf("%s: %s after %v", when, response.Status, took.Round(time.Millisecond))
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, when)
	require.NotEmpty(t, response.Header.Get("Retry-After"), when)
	require.Less(t, took, within, when)
}

// probe asks the operators' address.
func (s *server) probe(t *testing.T, path string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, strings.Replace(s.metrics, "/metrics", path, 1), nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

// requireReady waits until readiness says so: an answer is good for a second.
func (s *server) requireReady(t *testing.T, wantStatus int, wantBody string) {
	t.Helper()
	var status int
	var body string
	require.Eventually(t, func() bool {
		status, body = s.probe(t, "/readyz")
		return status == wantStatus && body == wantBody
	}, 20*time.Second, 50*time.Millisecond, "readiness should become %d %q", wantStatus, wantBody)
}
