package main

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A blob that is pushed as docker does it, in more than one part, comes back whole and by ranges, also after a restart, and no
// object holds it in the clear.
func TestBlobsComeBackAndNoObjectHoldsThemInTheClear(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := strings.Repeat("0123456789abcdef", 4)
	const phrase = "what nobody else should read. "
	for _, size := range []int{len(phrase), 100_000, 9_000_001} {
		content := strings.Repeat(phrase, size/len(phrase)+1)[:size]
		d := digest.FromString(content).String()
		server := start(t, dir, secret)
		location, _ := do(t, http.MethodPost, server+"/v2/team/app/blobs/uploads/", "", nil, http.StatusAccepted)
		// Hide the length: docker does not know it beforehand either.
		location, _ = do(t, http.MethodPatch, server+location, "", struct{ io.Reader }{strings.NewReader(content)}, http.StatusAccepted)
		do(t, http.MethodPut, server+location+"?digest="+d, "", nil, http.StatusCreated)

		server = start(t, dir, secret)
		_, got := do(t, http.MethodGet, server+"/v2/team/app/blobs/"+d, "", nil, http.StatusOK)
		require.Equal(t, d, digest.FromString(got).String(), "a blob of %d bytes comes back as it was", size)
		_, got = do(t, http.MethodGet, server+"/v2/team/app/blobs/"+d, "bytes="+strconv.Itoa(size/2)+"-", nil, http.StatusPartialContent)
		require.Equal(t, digest.FromString(content[size/2:]), digest.FromString(got), "a range of a blob of %d bytes is what was asked for", size)
	}
	requireNowhere(t, filepath.Join(dir, "objects"), phrase)
}

func TestWithoutASecretNothingIsServed(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"", "0123", "not hexadecimal"} {
		_, _, err := newHandler(t.TempDir(), secret)
		assert.Error(t, err, "secret %q", secret)
	}
	assert.Error(t, run(nil, ""))
}

// start serves the folder, as a process of its own would, and returns the URL.
func start(t *testing.T, dir, secret string) string {
	t.Helper()
	handler, closeIndex, err := newHandler(dir, secret)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		assert.NoError(t, closeIndex())
	})
	return server.URL
}

// do sends a request, and returns the answer's Location and body.
func do(t *testing.T, method, url, byteRange string, body io.Reader, want int) (location, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	if byteRange != "" {
		r.Header.Set("Range", byteRange)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, want, answer.StatusCode, "%s %s", method, url)
	all, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.Header.Get("Location"), string(all)
}

func requireNowhere(t *testing.T, dir, phrase string) {
	t.Helper()
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files++
		require.False(t, bytes.Contains(data, []byte(phrase)), path)
		return err
	}))
	require.GreaterOrEqual(t, files, 3, "there is an object for each blob")
}
