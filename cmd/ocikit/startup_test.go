package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
)

// requireRefused requires that serve says, in one line and soon, what is wrong.
func requireRefused(t *testing.T, env, args []string, want ...string) {
	t.Helper()
	_, stderr, status := ended(t, env, append([]string{"serve", "--listen=127.0.0.1:0"}, args...)...)
	require.Equal(t, 1, status, stderr)
	assert.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
	for _, text := range want {
		assert.Contains(t, stderr, text)
	}
	assert.NotContains(t, stderr, "hunter2")
}

// silent is a server that takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// execute runs a statement.
func execute(t *testing.T, url, statement string) {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer connection.Close(context.WithoutCancel(t.Context()))
	_, err = connection.Exec(t.Context(), statement)
	require.NoError(t, err, statement)
}

func TestDatabaseThatCannotBeServedFromIsToldInOneLine(t *testing.T) {
	t.Parallel()
	server := backendtest.Postgres(t)
	empty, older, newer, readOnly := server.Database(t), migrated(t, server), migrated(t, server), migrated(t, server)
	execute(t, older, "delete from ocikit.goose_db_version where version_id = (select max(version_id) from ocikit.goose_db_version)")
	execute(t, newer, "insert into ocikit.goose_db_version (version_id, is_applied) values (999999, true)")
	at := func(url, from, to string) string { return strings.Replace(url, from, to, 1) }
	tests := map[string]struct {
		url  string
		want []string
	}{
		"NoSchema":       {empty, []string{`no schema "ocikit"`, "ocikit migrate up"}},
		"OtherSchema":    {older + "&schema=elsewhere", []string{`no schema "elsewhere"`, "ocikit migrate up"}},
		"OlderSchema":    {older, []string{"older schema", "ocikit migrate up"}},
		"NewerSchema":    {newer, []string{"newer schema", "upgrade"}},
		"NoDatabase":     {at(empty, "/test", "/other"), []string{"does not exist", "createdb"}},
		"NoServer":       {"postgres://postgres@127.0.0.1:1/x?sslmode=disable", []string{"nothing listens at 127.0.0.1:1", "start PostgreSQL"}},
		"NoHost":         {"postgres://postgres@nowhere.invalid/x", []string{"nowhere.invalid", "correct"}},
		"NoAnswer":       {"postgres://postgres@" + silent(t) + "/x?sslmode=disable", []string{"no answer", "in time"}},
		"NoTLS":          {at(empty, "sslmode=disable", "sslmode=require"), []string{"refused TLS", "sslmode="}},
		"UnknownSetting": {empty + "&sslmod=disable", []string{"sslmod", "question mark"}},
		"ReadOnly":       {readOnly + "&default_transaction_read_only=on", []string{"takes no writes"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireRefused(t, nil, []string{"--database=" + test.url, "--objects=file:" + t.TempDir()}, append(test.want, "--database")...)
		})
	}
}

func TestWrongPasswordAndMissingPermissionsAreTold(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "hba") //nolint:usetesting // the server's user has to be able to read it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	hba := filepath.Join(dir, "hba.conf")
	require.NoError(t, os.WriteFile(hba, []byte("host all postgres 127.0.0.1/32 trust\nhost all alice 127.0.0.1/32 scram-sha-256\n"), 0o600))
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(hba, 0o644))
	server := backendtest.NewPostgres(t, "hba_file="+hba)
	url := migrated(t, server)
	execute(t, url, "create role alice login password 'hunter2'")
	as := func(who string) []string {
		return []string{"--database=" + strings.Replace(url, "postgres@", who+"@", 1), "--objects=file:" + t.TempDir()}
	}
	requireRefused(t, nil, as("alice:hunter23"), "--database", "password authentication failed", "PGPASSWORD")
	requireRefused(t, []string{"PGPASSWORD=hunter23"}, as("alice"), "--database", "password authentication failed")
	requireRefused(t, nil, as("bob:hunter2"), "--database", "pg_hba.conf")
	requireRefused(t, nil, as("alice:hunter2"), "--database", "permission denied", "grant")

	execute(t, url, "grant usage on schema ocikit to alice; grant all on all tables in schema ocikit to alice")
	s := startProgram(t, []string{"PGPASSWORD=hunter2"}, as("alice")...)
	s.stop(t)
	assert.NotContains(t, s.log(), "hunter2")
}

func TestBucketThatCannotBeServedFromIsToldInOneLine(t *testing.T) {
	t.Parallel()
	server := backendtest.MinIO(t)
	credentials := credentialsOf(server)
	database := migrated(t, backendtest.Postgres(t))
	faulty := func(fault faulttest.Fault, operations ...faulttest.Operation) string {
		proxy := faulttest.NewHTTP(t, server.Endpoint())
		proxy.Intercept(faulttest.Every(fault, operations...))
		return bucketURL(t, server, proxy.URL())
	}
	page := faulttest.NewHTTP(t, server.Endpoint()) // its own answers are no S3 server's
	page.Intercept(faulttest.Every(faulttest.Fault{Status: http.StatusTeapot}))
	right := bucketURL(t, server, server.Endpoint())
	tests := map[string]struct {
		env  []string
		url  string
		want []string
	}{
		"NoBucket":     {credentials, "s3://nowhere?endpoint=" + server.Endpoint(), []string{"does not exist", "create it"}},
		"WrongSecret":  {[]string{credentials[0], "AWS_SECRET_ACCESS_KEY=hunter2"}, right, []string{"secret key is wrong", "AWS_SECRET_ACCESS_KEY"}},
		"WrongKey":     {[]string{"AWS_ACCESS_KEY_ID=nobody", credentials[1]}, right, []string{"access key is unknown", "AWS_ACCESS_KEY_ID"}},
		"NoKey":        {nil, right, []string{"no AWS credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"}},
		"NoProfile":    {[]string{"AWS_PROFILE=nobody"}, right, []string{"nobody"}},
		"NoToken":      {[]string{"AWS_ROLE_ARN=arn:aws:iam::123456789012:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE=/nowhere"}, right, []string{"/nowhere"}},
		"NoRegion":     {credentials, "s3://nowhere", []string{"region=", "AWS_REGION"}},
		"NoServer":     {credentials, "s3://nowhere?endpoint=http://127.0.0.1:1", []string{"nothing listens", "endpoint="}},
		"NoHost":       {credentials, "s3://nowhere?endpoint=http://nowhere.invalid", []string{"nowhere.invalid", "endpoint="}},
		"NoAnswer":     {credentials, "s3://nowhere?endpoint=http://" + silent(t), []string{"no answer", "in time"}},
		"NotTLS":       {credentials, "s3://nowhere?endpoint=" + strings.Replace(server.Endpoint(), "http:", "https:", 1), []string{"HTTP response to HTTPS client", "endpoint="}},
		"NotS3":        {credentials, "s3://nowhere?endpoint=" + page.URL(), []string{"418"}},
		"Skewed":       {credentials, faulty(faulttest.Fault{Status: http.StatusForbidden, Code: "RequestTimeTooSkewed"}), []string{"clock"}},
		"Denied":       {credentials, faulty(faulttest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}, faulttest.UploadPart), []string{"upload a part", "s3:PutObject", "grant"}},
		"NoMultipart":  {credentials, faulty(faulttest.Fault{Status: http.StatusNotImplemented, Code: "NotImplemented"}, faulttest.CreateMultipartUpload), []string{"begin a multipart upload", "does not have this operation"}},
		"NoDelete":     {credentials, faulty(faulttest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}, faulttest.DeleteObjects), []string{"delete objects", "s3:DeleteObject"}},
		"WrongRegion":  {credentials, faulty(faulttest.Fault{Status: http.StatusBadRequest, Code: "AuthorizationHeaderMalformed"}), []string{"region is not the bucket's", "region="}},
		"Overburdened": {credentials, faulty(faulttest.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}), []string{"SlowDown", "try again"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireRefused(t, test.env, []string{"--database=" + database, "--objects=" + test.url}, append(test.want, "--objects")...)
		})
	}
}

func TestBucketThatCannotBeListedIsServedFromWithAWarning(t *testing.T) {
	t.Parallel()
	server := backendtest.MinIO(t)
	proxy := faulttest.NewHTTP(t, server.Endpoint())
	proxy.Intercept(faulttest.Every(faulttest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}, faulttest.ListObjectsV2))
	s := startProgram(t, credentialsOf(server), "--database="+migrated(t, backendtest.Postgres(t)), "--objects="+bucketURL(t, server, proxy.URL()))
	s.stop(t)
	assert.Contains(t, s.log(), "level=WARN")
	assert.Contains(t, s.log(), "s3:ListBucket")
}
