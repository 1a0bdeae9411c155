package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ocikit/ocikit/internal/imagetest"
)

// pushClient speaks the push protocol, one request a call, with nothing but
// net/http: no retry hides what the server did.
type pushClient struct {
	url  string
	http *http.Client
}

func newPushClient(url string) *pushClient {
	return &pushClient{url: url, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

// lostError means that there was no whole answer, so that the outcome is unknown.
type lostError struct{ err error }

func (e *lostError) Error() string { return "no answer: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// cutError means that the answer began, and ended too early.
type cutError struct{ err error }

func (e *cutError) Error() string { return e.err.Error() }
func (e *cutError) Unwrap() error { return e.err }

// statusError is an answer other than the one that the protocol has for success.
type statusError struct {
	request string
	status  int
	header  http.Header
	body    string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: %d: %s", e.request, e.status, e.body)
}

// do sends a request and returns the answer's header and body.
func (c *pushClient) do(req *http.Request, want int) (http.Header, []byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, &lostError{err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, &lostError{&cutError{fmt.Errorf("%s %s: read the answer: %w", req.Method, req.URL.Path, err)}}
	}
	if resp.StatusCode != want {
		return resp.Header, body, &statusError{req.Method + " " + req.URL.String(), resp.StatusCode, resp.Header, string(body)}
	}
	return resp.Header, body, nil
}

func (c *pushClient) request(ctx context.Context, method, location string, body io.Reader, size int64) (*http.Request, error) {
	if size == 0 {
		body = http.NoBody // else net/http takes a length of 0 for an unknown one
	}
	target, err := url.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("parse location %q: %w", location, err)
	}
	base, err := url.Parse(c.url)
	if err != nil {
		return nil, fmt.Errorf("parse url %q: %w", c.url, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, base.ResolveReference(target).String(), body)
	if err != nil {
		return nil, err
	}
	if size != 0 {
		req.ContentLength = size // -1: chunked
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	return req, nil
}

// get returns what is at a path below /v2/.
func (c *pushClient) get(ctx context.Context, path string) ([]byte, error) {
	req, err := c.request(ctx, http.MethodGet, "/v2/"+path, nil, 0)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", acceptedTypes)
	_, body, err := c.do(req, http.StatusOK)
	return body, err
}

// start opens an upload and returns its location.
func (c *pushClient) start(ctx context.Context, repository string) (string, error) {
	req, err := c.request(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil, 0)
	if err != nil {
		return "", err
	}
	header, _, err := c.do(req, http.StatusAccepted)
	if err != nil {
		return "", err
	}
	return header.Get("Location"), nil
}

// putBlob pushes a blob in one request.
func (c *pushClient) putBlob(ctx context.Context, repository string, name imagetest.Digest, body io.Reader, size int64) error {
	req, err := c.request(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+name.String(), body, size)
	if err != nil {
		return err
	}
	_, _, err = c.do(req, http.StatusCreated)
	return err
}

// mount mounts a blob of another repository; an upload in its place is an error.
func (c *pushClient) mount(ctx context.Context, repository, from string, name imagetest.Digest) error {
	req, err := c.request(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?mount="+name.String()+"&from="+from, nil, 0)
	if err != nil {
		return err
	}
	_, _, err = c.do(req, http.StatusCreated)
	return err
}

// patch appends to an upload: at an offset if the size is known, else (-1) as a
// stream that begins where the upload ends. It returns the location and the
// offset to go on from.
func (c *pushClient) patch(ctx context.Context, location string, body io.Reader, offset, size int64) (string, int64, error) {
	req, err := c.request(ctx, http.MethodPatch, location, body, size)
	if err != nil {
		return "", 0, err
	}
	if size > 0 {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, offset+size-1))
	}
	header, _, err := c.do(req, http.StatusAccepted)
	if err != nil {
		return "", 0, err
	}
	return position(header)
}

// status asks how far an upload is.
func (c *pushClient) status(ctx context.Context, location string) (string, int64, error) {
	req, err := c.request(ctx, http.MethodGet, location, nil, 0)
	if err != nil {
		return "", 0, err
	}
	header, _, err := c.do(req, http.StatusNoContent)
	if err != nil {
		return "", 0, err
	}
	return position(header)
}

// finish closes an upload, with its last bytes.
func (c *pushClient) finish(ctx context.Context, location string, name imagetest.Digest, body io.Reader, offset, size int64) error {
	req, err := c.request(ctx, http.MethodPut, location, body, size)
	if err != nil {
		return err
	}
	query := req.URL.Query()
	query.Set("digest", name.String())
	req.URL.RawQuery = query.Encode()
	if size > 0 {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, offset+size-1))
	}
	_, _, err = c.do(req, http.StatusCreated)
	return err
}

// putManifest pushes a manifest under a tag or its digest.
func (c *pushClient) putManifest(ctx context.Context, repository, reference, mediaType string, content []byte) error {
	req, err := c.request(ctx, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", mediaType)
	_, _, err = c.do(req, http.StatusCreated)
	return err
}

// position reads where an upload stands. Nothing and one byte look the same, as
// the protocol has it: 0-0.
func position(header http.Header) (string, int64, error) {
	from, to, found := strings.Cut(header.Get("Range"), "-")
	last, err := strconv.ParseInt(to, 10, 64)
	if !found || from != "0" || err != nil {
		return "", 0, fmt.Errorf("the range should be 0-LAST, not %q", header.Get("Range"))
	}
	location := header.Get("Location")
	if location == "" {
		return "", 0, fmt.Errorf("the answer to an upload should have a Location: %v", header)
	}
	if last == 0 {
		return location, 0, nil
	}
	return location, last + 1, nil
}
