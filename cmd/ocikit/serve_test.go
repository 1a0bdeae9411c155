package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMistakesAreToldWithTheirFlagAndTheFix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("not a folder, a key or a policy"), 0o600))
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = busy.Close() }) // after the parallel tests

	tests := map[string]struct {
		args []string
		want []string
	}{
		"UnknownFlag":            {[]string{"--port=5000"}, []string{"--port"}},
		"Database":               {[]string{"--database=mysql://localhost"}, []string{"--database", "sqlite:PATH", "postgres://"}},
		"Objects":                {[]string{"--objects=ftp://localhost"}, []string{"--objects", "file:DIR", "s3://BUCKET"}},
		"DatabaseURL":            {[]string{"--database=postgres://h:port/x", "--objects=s3://b"}, []string{"--database", "postgres://USER@HOST", "%XX"}},
		"DatabaseSetting":        {[]string{"--database=postgres://h/x?pool_max_conns=all", "--objects=s3://b"}, []string{"--database", "pool_max_conns"}},
		"DatabaseSchema":         {[]string{"--database=postgres://h/x?schema=", "--objects=s3://b"}, []string{"--database", "schema=registry"}},
		"ObjectsUnknownKey":      {[]string{"--objects=s3://b?endpont=x"}, []string{"--objects", "endpont= is unknown", "endpoint, "}},
		"ObjectsKeyTwice":        {[]string{"--objects=s3://b?region=a&region=b"}, []string{"--objects", "region= is there twice"}},
		"ObjectsEndpoint":        {[]string{"--objects=s3://b?endpoint=localhost:9000"}, []string{"--objects", "endpoint=", "http://localhost:9000"}},
		"ObjectsPathStyle":       {[]string{"--objects=s3://b?path_style=maybe"}, []string{"path_style=", "true or false"}},
		"ObjectsPartSize":        {[]string{"--objects=s3://b?part_size=1MiB"}, []string{"part_size=", "5 MiB"}},
		"ObjectsPartSizeUnit":    {[]string{"--objects=s3://b?part_size=large"}, []string{"part_size=", "64MiB"}},
		"ObjectsChecksum":        {[]string{"--objects=s3://b?checksum=crc32"}, []string{"checksum=", "gaps"}},
		"ObjectsEncryption":      {[]string{"--objects=s3://b?sse=rot13"}, []string{"sse=", "AES256"}},
		"ObjectsEncryptionKey":   {[]string{"--objects=s3://b?kms_key=x"}, []string{"--objects", "aws:kms"}},
		"ObjectsClass":           {[]string{"--objects=s3://b?storage_class=GLACIER"}, []string{"storage_class=", "restored"}},
		"ObjectsPath":            {[]string{"--objects=s3://b/team/x"}, []string{"--objects", "prefix=team/x"}},
		"ObjectsAllAtOnce":       {[]string{"--objects=s3://?x=1&part_size=1"}, []string{"BUCKET", "x= is unknown", "part_size="}},
		"ReplicasNeedObjects":    {[]string{"--database=postgres://h/x"}, []string{"--objects", "s3://BUCKET"}},
		"ReplicasNeedADatabase":  {[]string{"--objects=s3://b"}, []string{"--database", "postgres://"}},
		"SyncIsNotOurs":          {[]string{"--sync=false", "--database=postgres://h/x", "--objects=s3://b"}, []string{"--sync"}},
		"RedirectWithoutS3":      {[]string{"--data=" + dir, "--redirect"}, []string{"--redirect", "s3://BUCKET"}},
		"RedirectExpiry":         {[]string{"--data=" + dir, "--redirect-expiry=48h"}, []string{"--redirect-expiry", "24h"}},
		"NoGrace":                {[]string{"--data=" + dir, "--gc-grace=0s"}, []string{"--gc-grace"}},
		"NegativeDelay":          {[]string{"--data=" + dir, "--gc-delay=-1h"}, []string{"--gc-delay"}},
		"NoShare":                {[]string{"--data=" + dir, "--gc-share=0"}, []string{"--gc-share", "above 0"}},
		"MoreThanAll":            {[]string{"--data=" + dir, "--gc-share=5"}, []string{"--gc-share", "at most 1"}},
		"WriteTimeout":           {[]string{"--data=" + dir, "--write-timeout=1h"}, []string{"--write-timeout", "15m"}},
		"UploadIdle":             {[]string{"--data=" + dir, "--upload-idle=0s"}, []string{"--upload-idle"}},
		"URLsOutliveObjects":     {[]string{"--database=postgres://h/x", "--objects=s3://b", "--redirect", "--gc-delay=10m"}, []string{"--gc-delay", "--redirect-expiry"}},
		"PoliciesAreNone":        {[]string{"--data=" + dir, "--gc-policies=" + file}, []string{"--gc-policies", file}},
		"NegativeShutdownDelay":  {[]string{"--shutdown-delay=-1s"}, []string{"--shutdown-delay"}},
		"IndexOutlivesObjects":   {[]string{"--objects=memory:"}, []string{"--objects", "--database memory:"}},
		"ObjectsOutliveIndex":    {[]string{"--database=memory:", "--objects=file:" + dir}, []string{"--database", "--objects memory:"}},
		"DataIsAFile":            {[]string{"--data=" + file}, []string{"--data", file}},
		"ObjectsIsAFile":         {[]string{"--data=" + dir, "--objects=file:" + file}, []string{"--objects", file}},
		"BusyPort":               {[]string{"--data=" + dir, "--listen=" + busy.Addr().String()}, []string{"--listen", "in use"}},
		"ListenWithoutPort":      {[]string{"--data=" + dir, "--listen=localhost"}, []string{"--listen", "HOST:PORT"}},
		"BusyMetrics":            {[]string{"--data=" + dir, "--metrics-listen=" + busy.Addr().String()}, []string{"--metrics-listen", "in use"}},
		"KeyWithoutCertificate":  {[]string{"--tls-key=" + file}, []string{"--tls-cert and --tls-key together"}},
		"CertificateIsNone":      {[]string{"--tls-cert=" + file, "--tls-key=" + file}, []string{"--tls-cert", "PEM"}},
		"ExternalURL":            {[]string{"--external-url=registry.example.com"}, []string{"--external-url", "https://"}},
		"PolicyIsNone":           {[]string{"--data=" + dir, "--policy=" + file}, []string{"--policy", file}},
		"HtpasswdIsMissing":      {[]string{"--data=" + dir, "--htpasswd=" + filepath.Join(dir, "none")}, []string{"--htpasswd", "none"}},
		"ImmutableTags":          {[]string{"--immutable-tags=v?"}, []string{"--immutable-tags", "v?"}},
		"Size":                   {[]string{"--max-blob=big"}, []string{"--max-blob", "64MiB"}},
		"UploadMemory":           {[]string{"--upload-memory=1KiB"}, []string{"--upload-memory", "1MiB"}},
		"MaxManifest":            {[]string{"--max-manifest=0"}, []string{"--max-manifest"}},
		"LogLevel":               {[]string{"--log-level=loud"}, []string{"--log-level"}},
		"EveryMistakeAtOnce":     {[]string{"--max-manifest=0", "--tls-key=" + file, "--database=x"}, []string{"--max-manifest", "--tls-cert", "--database"}},
		"NegativeShutdownTimout": {[]string{"--shutdown-timeout=-1s"}, []string{"--shutdown-timeout"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			args := append([]string{"serve", "--listen=127.0.0.1:0"}, test.args...)
			ended, end := context.WithCancel(t.Context())
			end() // a server that starts all the same ends at once
			require.NotZerof(t, run(ended, args, io.Discard, &stderr), "a wrong configuration must not start: %s", &stderr)
			for _, want := range test.want {
				assert.Contains(t, stderr.String(), want)
			}
		})
	}
}

func TestNoMistakeTellsAPassword(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--database=mysql://root:hunter2@localhost/x"},
		{"--database=host=localhost password=hunter2"},
		{"--database=postgres:alice:hunter2@localhost"},
		{"--database=postgres://alice:hunter2@localhost:port/x"},
		{"--database=postgres://alice:hunt/hunter2@localhost/x"},
		{"--database=postgres://alice:100%hunter2@localhost/x"},
		{"--database=postgres://alice:hunter2@localhost/x?sslmode=maybe"},
		{"--database=postgres://alice:hunter2@localhost/x?schema="},
		{"--database=postgres://alice:hunter2@127.0.0.1:1/x", "--objects=file:" + t.TempDir()},
		{"--database=postgres://127.0.0.1:1/x?user=alice&password=hunter2", "--objects=file:" + t.TempDir()},
		{"--objects=s3://key:hunter2@bucket"},
		{"--objects=s3://bucket?secret_key=hunter2"},
		{"--objects=s3://bucket?endpoint=http://key:hunter2@localhost"},
		{"--objects=s3:hunter2"},
	} {
		var stderr bytes.Buffer
		require.NotZero(t, run(t.Context(), append([]string{"serve", "--listen=127.0.0.1:0"}, args...), io.Discard, &stderr), "%q must not start", args)
		assert.NotContains(t, stderr.String(), "hunter2", "of %q", args)
		assert.Contains(t, stderr.String(), "--", "of %q: the flag is named", args)
	}
}

func TestVersionAndHelpAreTold(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"version"}, &stdout, io.Discard))
	assert.Regexp(t, `^ocikit \S+.* go1\.`, stdout.String())

	stdout.Reset()
	require.Zero(t, run(t.Context(), []string{"serve", "--help"}, &stdout, io.Discard))
	assert.Contains(t, stdout.String(), "OCIKIT_LISTEN", "help tells the variables")
}

func TestServerKeepsWhatWasPushedAcrossARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "by", "serve")
	blob := []byte("kept across a restart")
	d := digest.FromBytes(blob)

	first := start(t, "--data="+dir)
	response := first.do(t, http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+d.String(), bytes.NewReader(blob))
	require.Equal(t, http.StatusCreated, response.StatusCode)
	first.stop(t)

	second := start(t, "--data="+dir)
	response = second.do(t, http.MethodGet, "/v2/team/app/blobs/"+d.String(), nil)
	require.Equal(t, http.StatusOK, response.StatusCode)
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Equal(t, blob, got)
	second.stop(t)
}

func TestMetricsCountRequestsBytesAndMemory(t *testing.T) {
	t.Parallel()
	s := start(t, "--database=memory:", "--metrics-listen=127.0.0.1:0")
	s.do(t, http.MethodGet, "/v2/team/app/tags/list", nil)
	text := s.scrape(t)
	for _, want := range []string{
		`ocikit_requests_total{method="GET",route="tags",status="404"} 1`,
		`ocikit_request_duration_seconds_count{method="GET",route="tags",status="404"} 1`,
		`ocikit_response_bytes_total{route="tags"}`,
		`ocikit_uploads_receiving 0`,
		`ocikit_upload_memory_held_bytes 0`,
		`ocikit_upload_memory_bytes 6.7108864e+07`,
		`go_goroutines`,
	} {
		assert.Contains(t, text, want)
	}
	s.stop(t)
}

func TestUploadUnderWayAtShutdownCanBeResumed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, "--data="+dir, "--shutdown-timeout=0s", "--metrics-listen=127.0.0.1:0")
	response := first.do(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
	require.Equal(t, http.StatusAccepted, response.StatusCode)
	location := response.Header.Get("Location")

	body, client := io.Pipe()
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPatch, first.url+location, body)
		if assert.NoError(t, err) {
			if response, err := http.DefaultClient.Do(request); err == nil {
				_ = response.Body.Close()
			}
		}
	}()
	_, err := client.Write(bytes.Repeat([]byte("x"), 300_000))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !strings.Contains(first.scrape(t), "ocikit_upload_memory_held_bytes 0") },
		30*time.Second, time.Millisecond, "the server has received some of it")
	first.stop(t)
	_ = client.Close()
	<-cut

	second := start(t, "--data="+dir)
	response = second.do(t, http.MethodGet, location, nil)
	require.Equal(t, http.StatusNoContent, response.StatusCode)
	assert.Regexp(t, `^0-[1-9][0-9]*$`, response.Header.Get("Range"), "bytes that came before the shutdown are kept")
	second.stop(t)
}

func TestExternalURLsPathStandsBeforeEveryURL(t *testing.T) {
	t.Parallel()
	s := start(t, "--database=memory:", "--external-url=https://example.com/registry/")
	response := s.do(t, http.MethodPost, "/registry/v2/team/app/blobs/uploads/", nil)
	require.Equal(t, http.StatusAccepted, response.StatusCode)
	assert.True(t, strings.HasPrefix(response.Header.Get("Location"), "/registry/v2/team/app/"), "Location is %q", response.Header.Get("Location"))
	assert.Equal(t, http.StatusNotFound, s.do(t, http.MethodGet, "/v2/", nil).StatusCode)
	s.stop(t)
}

func TestServingWithoutUsersIsWarnedAboutOnlyBeyondLoopback(t *testing.T) {
	t.Parallel()
	const warning = "anybody who reaches this address"
	everywhere := start(t, "--database=memory:", "--listen=0.0.0.0:0")
	everywhere.stop(t)
	assert.Contains(t, everywhere.log(), warning)

	loopback := start(t, "--database=memory:")
	loopback.stop(t)
	assert.NotContains(t, loopback.log(), warning)
}

// server is a run of the command.
type server struct {
	url, metrics string
	cancel       func()
	done         chan int
	stderr       *lockedBuffer
}

var (
	servingURL  = regexp.MustCompile(`msg=serving url=http://\S+?:(\d+)\S* `)
	servingStat = regexp.MustCompile(`metrics=(\S+)`)
)

// start runs ocikit serve, and returns when it says where it serves.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	return startBy(t, args, func(args []string, stderr io.Writer) (func() int, func()) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		t.Cleanup(cancel)
		return func() int { return run(ctx, args, io.Discard, stderr) }, cancel
	})
}

// startBy is start with what begins a run: it returns what waits for its end, and what ends it.
func startBy(t *testing.T, args []string, begin func(args []string, stderr io.Writer) (wait func() int, end func())) *server {
	t.Helper()
	s := &server{done: make(chan int, 1), stderr: newLockedBuffer()}
	wait, end := begin(append([]string{"serve", "--listen=127.0.0.1:0"}, args...), s.stderr)
	s.cancel = end
	go func() { s.done <- wait() }()
	for {
		select {
		case <-s.stderr.written:
		case status := <-s.done:
			require.FailNow(t, "server does not start", "status %d: %s", status, s.log())
		case <-time.After(30 * time.Second):
			require.FailNow(t, "server does not start", s.log())
		}
		if found := servingURL.FindStringSubmatch(s.log()); found != nil {
			s.url = "http://127.0.0.1:" + found[1]
			if found := servingStat.FindStringSubmatch(s.log()); found != nil {
				s.metrics = found[1]
			}
			return s
		}
	}
}

func (s *server) log() string { return s.stderr.String() }

// stop ends the server as a signal does.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	require.Zero(t, <-s.done, "the server ends without an error; its log: %s", s.log())
}

// scrape returns the metrics.
func (s *server) scrape(t *testing.T) string {
	t.Helper()
	response, err := http.Get(s.metrics)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}

func (s *server) do(t *testing.T, method, path string, body io.Reader) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, body)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// lockedBuffer tells when something was written.
type lockedBuffer struct {
	mu      sync.Mutex
	buffer  bytes.Buffer
	written chan struct{}
}

func newLockedBuffer() *lockedBuffer { return &lockedBuffer{written: make(chan struct{}, 1)} }

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.written <- struct{}{}:
	default:
	}
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
