package s3_test

import (
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

func TestPresignedAddressServesAnybodyForAWhile(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		bucket := server.Bucket(t)
		o := newObjects(t, newClient(server, ""), bucket, &s3.Options{Prefix: "p", PresignExpiry: time.Minute})
		key, data := store.NewBlobKey(), pattern(1, 100_000)
		put(t, o, key, data)
		address, err := o.PresignGet(t.Context(), key)
		require.NoError(t, err)

		status, body := get(t, address, "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, data, body)
		status, body = get(t, address, "bytes=10-19")
		require.Equal(t, http.StatusPartialContent, status, "a range of a presigned address can be read")
		require.Equal(t, data[10:20], body)

		parsed, err := url.Parse(address)
		require.NoError(t, err)
		query := parsed.Query()
		require.Equal(t, "60", query.Get("X-Amz-Expires"), "an address expires when the options say")
		require.Equal(t, "host", query.Get("X-Amz-SignedHeaders"), "who follows a redirect sends no headers of S3")
		query.Set("X-Amz-Expires", "3600")
		parsed.RawQuery = query.Encode()
		status, _ = get(t, parsed.String(), "")
		require.Equal(t, http.StatusForbidden, status, "nobody can make an address last longer")

		absent, err := o.PresignGet(t.Context(), store.NewBlobKey())
		require.NoError(t, err)
		status, _ = get(t, absent, "")
		require.Equal(t, http.StatusNotFound, status)
		_, err = o.PresignGet(t.Context(), "../secret")
		require.Error(t, err)
	})
}

func get(t *testing.T, address, byteRange string) (status int, body []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	require.NoError(t, err)
	if byteRange != "" {
		r.Header.Set("Range", byteRange)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, body
}
