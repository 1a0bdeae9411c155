package backendtest_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(backendtest.Run(m)) }

func TestSharedPostgresIsOneServerWithADatabaseForEachTest(t *testing.T) {
	t.Parallel()
	server := backendtest.Postgres(t)
	require.Same(t, server, backendtest.Postgres(t))
	one, other := server.Database(t), server.Database(t)
	require.NotEqual(t, one, other)
	execute(t, one, "create table things (name text)")
	execute(t, other, "create table things (name text)")
	t.Run("dropped with its test", func(t *testing.T) {
		var url string
		var open *pgx.Conn
		t.Run("user", func(t *testing.T) {
			url = server.Database(t)
			open = connect(t, url) // does not hold it
		})
		require.Error(t, open.Ping(t.Context()), "a connection to a database that was dropped")
		_, err := pgx.Connect(t.Context(), url)
		require.ErrorContains(t, err, "does not exist")
	})
}

func TestOwnPostgresKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	server := backendtest.NewPostgres(t, "max_connections=20")
	url := server.Database(t)
	address := server.Address()
	execute(t, url, "create table things (name text)")
	for _, accident := range []struct {
		name string
		end  func()
	}{
		{"kill", server.Kill},
		{"stop", func() { server.Stop(t) }},
	} {
		busy := connect(t, url) // its process is there when the server is killed
		execute(t, url, "insert into things values ('"+accident.name+"')")
		accident.end()
		require.Error(t, busy.Ping(t.Context()), "after %s", accident.name)
		_, err := pgx.Connect(t.Context(), url)
		require.Error(t, err, "after %s", accident.name)
		server.Start(t)
		require.Equal(t, address, server.Address())
		var found int
		row := connect(t, url).QueryRow(t.Context(), "select count(*) from things where name = $1", accident.name)
		require.NoError(t, row.Scan(&found))
		require.Equal(t, 1, found, "what was inserted before %s", accident.name)
	}
	server.Restart(t)
	var connections, fsync string
	require.NoError(t, connect(t, url).QueryRow(t.Context(), "select current_setting('max_connections'), current_setting('fsync')").Scan(&connections, &fsync))
	require.Equal(t, "20", connections)
	require.Equal(t, "on", fsync)
}

func TestS3Servers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]struct {
		shared, own func(testing.TB) *backendtest.S3Server
	}{
		"MinIO":     {backendtest.MinIO, backendtest.NewMinIO},
		"versitygw": {backendtest.VersityGW, backendtest.NewVersityGW},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("shared", func(t *testing.T) {
				t.Parallel()
				server := start.shared(t)
				require.Same(t, server, start.shared(t))
				one, other := server.Bucket(t), server.Bucket(t)
				put(t, server, one, "key", "content")
				_, err := get(t.Context(), server, other, "key")
				require.ErrorContains(t, err, "NoSuchKey")
			})
			t.Run("own", func(t *testing.T) {
				t.Parallel()
				server := start.own(t)
				bucket := server.Bucket(t)
				put(t, server, bucket, "key", "content")
				for accident, end := range map[string]func(){"kill": server.Kill, "stop": func() { server.Stop(t) }} {
					end()
					_, err := get(t.Context(), server, bucket, "key")
					require.Error(t, err, "after %s", accident)
					server.Start(t)
					content, err := get(t.Context(), server, bucket, "key")
					require.NoError(t, err, "after %s", accident)
					require.Equal(t, "content", content)
				}
			})
		})
	}
}

func TestPausedServerAnswersWhenItGoesOn(t *testing.T) {
	t.Parallel()
	server := backendtest.NewVersityGW(t)
	bucket := server.Bucket(t)
	put(t, server, bucket, "key", "content")
	server.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := get(ctx, server, bucket, "key")
	require.ErrorIs(t, err, context.DeadlineExceeded, "a paused server must not answer")
	server.Resume(t)
	_, err = get(t.Context(), server, bucket, "key")
	require.NoError(t, err)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close(context.WithoutCancel(t.Context())) })
	return connection
}

func execute(t *testing.T, url, statement string) {
	t.Helper()
	_, err := connect(t, url).Exec(t.Context(), statement)
	require.NoError(t, err)
}

func client(server *backendtest.S3Server) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint:     aws.String(server.Endpoint()),
		Region:           server.Region(),
		Credentials:      credentials.NewStaticCredentialsProvider(server.AccessKey(), server.SecretKey(), ""),
		UsePathStyle:     true,
		RetryMaxAttempts: 1,
	})
}

func put(t *testing.T, server *backendtest.S3Server, bucket, key, content string) {
	t.Helper()
	_, err := client(server).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(content)})
	require.NoError(t, err)
}

func get(ctx context.Context, server *backendtest.S3Server, bucket, key string) (string, error) {
	answer, err := client(server).GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	return string(content), err
}
