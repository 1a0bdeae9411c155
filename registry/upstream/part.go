package upstream

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// pass returns a part of a blob from the upstream as it comes: what is far ahead of the fetch is not worth waiting for. If it is all of
// it, its digest is checked before the end is shown; nobody can check a part.
func (r *Registry) pass(ctx context.Context, name blobName, offset, end, size int64, event Event) (io.ReadCloser, error) {
	if offset == end {
		return http.NoBody, nil
	}
	began := time.Now()
	got, err := r.part(ctx, name, offset, end)
	if err != nil {
		return nil, err
	}
	body := &exact{ReadCloser: got.body, left: end - offset, digest: name.digest}
	body.came = func() {
		event.Bytes, event.Took = end-offset-body.left, time.Since(began)
		r.observe(event)
	}
	if offset == 0 && end == size {
		body.sum = name.digest.Algorithm().Hash()
	}
	return body, nil
}

// part asks the upstream for the bytes from offset to end.
func (r *Registry) part(ctx context.Context, name blobName, offset, end int64) (*answer, error) {
	got, err := r.remote.ask(ctx, question{
		method: http.MethodGet, repository: name.repository, path: "blobs/" + name.digest.String(),
		header: http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", offset, end-1)}},
	})
	if err != nil {
		return nil, err
	}
	if got.StatusCode == http.StatusPartialContent && !strings.HasPrefix(got.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/", offset, end-1)) ||
		got.StatusCode == http.StatusOK && offset > 0 {
		got.close()
		return nil, wrong("another range than it was asked for")
	}
	return got, nil
}

// exact is a body that has to have so many bytes, of which no more are read, and a digest if that can be told.
type exact struct {
	io.ReadCloser
	left   int64
	digest digest.Digest
	sum    hash.Hash // nil: it is a part
	came   func()    // is told, once, when no more comes
	close  sync.Once
}

// Close ends the request.
func (e *exact) Close() error {
	e.close.Do(e.came)
	return e.ReadCloser.Close()
}

// Read implements [io.Reader].
func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.ReadCloser.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if e.sum != nil {
		e.sum.Write(p[:n])
		if e.left == 0 && digest.NewDigest(e.digest.Algorithm(), e.sum) != e.digest {
			return 0, wrong("content that does not have the digest %s", e.digest)
		}
	}
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
