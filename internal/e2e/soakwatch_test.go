package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/stretchr/testify/require"
)

// soakWatch sees what replicas ask of the store, whatever becomes of it.
type soakWatch struct {
	mu      sync.Mutex
	fault   func(*http.Request) faulttest.Fault // nil: none
	begun   map[string]bool                     // keys that multipart uploads were begun for
	deleted map[string]bool                     // keys of blobs that were asked to be deleted
}

func newSoakWatch() *soakWatch {
	return &soakWatch{begun: map[string]bool{}, deleted: map[string]bool{}}
}

// disturb has a hook decide what happens from now on; nil lets everything pass.
func (w *soakWatch) disturb(fault func(*http.Request) faulttest.Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// intercept is the proxy's hook.
func (w *soakWatch) intercept(r *http.Request) faulttest.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch faulttest.OperationOf(r) {
	case faulttest.CreateMultipartUpload:
		_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		w.begun[key] = true
	case faulttest.DeleteObjects:
		r.Body = &deletion{ReadCloser: r.Body, watch: w}
	}
	if w.fault == nil {
		return faulttest.Fault{}
	}
	return w.fault(r)
}

// deletion reads along which keys a request deletes.
type deletion struct {
	io.ReadCloser
	watch *soakWatch
	body  bytes.Buffer
}

var deletedBlob = regexp.MustCompile(`<Key>(blobs/[^<]+)</Key>`)

func (d *deletion) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	d.body.Write(p[:n])
	if errors.Is(err, io.EOF) {
		d.watch.mu.Lock()
		defer d.watch.mu.Unlock()
		for _, found := range deletedBlob.FindAllSubmatch(d.body.Bytes(), -1) {
			d.watch.deleted[string(found[1])] = true
		}
	}
	return n, err
}

// collections is how many blobs were deleted, once nothing is left.
func (w *soakWatch) collections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.deleted)
}

// requireNoMultiparts asks for each key that an upload was begun for, since MinIO lists uploads in no other way.
func (w *soakWatch) requireNoMultiparts(t *testing.T, stores soakStores) {
	t.Helper()
	w.mu.Lock()
	keys := slices.Sorted(maps.Keys(w.begun))
	w.mu.Unlock()
	require.NotEmpty(t, keys, "multipart uploads")
	client := stores.client()
	for _, key := range keys {
		left, err := client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &stores.bucket, Prefix: &key})
		require.NoError(t, err)
		require.Empty(t, left.Uploads, "a multipart upload of %s is left", key)
	}
	t.Logf("%d keys that multipart uploads were begun for have none", len(keys))
}
