package registry_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

// folder is a registry whose one blob is a file.
type folder struct {
	registry.Unsupported
	path string
	size int64
}

func (f *folder) Blob(context.Context, string, digest.Digest) (registry.Blob, error) {
	return registry.Blob{
		Descriptor: ocispec.Descriptor{Size: f.size},
		Open: func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
			file, err := os.Open(f.path)
			if err != nil {
				return nil, err
			}
			_, err = file.Seek(offset, io.SeekStart)
			return writerTo{file, length}, err
		},
	}, nil
}

// writerTo is a part of a file that writes itself, as stores on a file system return it.
type writerTo struct {
	*os.File
	length int64
}

func (w writerTo) WriteTo(dst io.Writer) (int64, error) {
	return io.Copy(dst, &io.LimitedReader{R: w.File, N: w.length})
}

// kernel is a ResponseWriter that copies from files by itself, and remembers how many bytes came so.
type kernel struct {
	*httptest.ResponseRecorder
	copied int64
}

func (k *kernel) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			n, err := io.Copy(k.ResponseRecorder, src)
			k.copied += n
			return n, err
		}
	}
	return io.Copy(k.ResponseRecorder, src)
}

func TestFilesGoToTheSocketWithoutABuffer(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789abcdef", 50_000)
	path := filepath.Join(t.TempDir(), "blob")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	r := &folder{path: path, size: int64(len(content))}
	h := registry.NewHandler(r, nil)
	url := "/v2/a/blobs/" + digest.FromString(content).String()
	for header, want := range map[string]string{"": content, "bytes=100-600000": content[100:600001], "bytes=-1": content[len(content)-1:]} {
		k := &kernel{ResponseRecorder: httptest.NewRecorder()}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		req.Header.Set("Range", header)
		h.ServeHTTP(k, req)
		assert.Equal(t, digest.FromString(want), digest.FromString(k.Body.String()), "range %q", header)
		assert.EqualValues(t, len(want), k.copied, "range %q: bytes that took the short way", header)

		got := serve(t, r, nil).send(t, http.MethodGet, url, nil, "Range: "+header)
		assert.Equal(t, digest.FromString(want), digest.FromString(got.body), "range %q, on a real connection", header)
	}
}
