package main

import (
	"bytes"
	"fmt"
	"time"
)

// accept names the manifests' type, for distribution v2 converts them to an older one for whoever does not.
const accept = manifestType + ", */*"

// pushBlob pushes as docker does: does the registry have it, begin, one streamed PATCH of unknown length, an empty PUT.
func (c *client) pushBlob(repository, digest string, parts ...[]byte) error {
	c.open("HEAD", repository, "/blobs/", digest)
	if _, err := c.do(404); err != nil {
		return err
	}
	if err := c.beginUpload(repository); err != nil {
		return err
	}
	c.openLocation("PATCH", "")
	c.header("Content-Type", "application/octet-stream")
	if _, err := c.doChunked(202, parts...); err != nil {
		return err
	}
	return c.finishUpload(digest)
}

// pushLarge pushes a large blob in the same way, and tells how long all of it and how long its closing PUT took.
func (c *client) pushLarge(repository string, large *largeBlob) (whole, finish time.Duration, err error) {
	start := time.Now()
	if err := c.beginUpload(repository); err != nil {
		return 0, 0, err
	}
	c.openLocation("PATCH", "")
	c.header("Content-Type", "application/octet-stream")
	if _, err := c.doStream(202, large.write); err != nil {
		return 0, 0, err
	}
	streamed := time.Now()
	if err := c.finishUpload(large.digest); err != nil {
		return 0, 0, err
	}
	end := time.Now()
	return end.Sub(start), end.Sub(streamed), nil
}

func (c *client) beginUpload(repository string) error {
	c.location = c.location[:0]
	c.open("POST", repository, "/blobs/uploads/")
	if _, err := c.do(202); err != nil {
		return err
	}
	if len(c.location) == 0 {
		return fmt.Errorf("%s: expected a Location header", c.requestLine())
	}
	return nil
}

// finishUpload closes the upload that the last PATCH has told the location of.
func (c *client) finishUpload(digest string) error {
	c.openLocation("PUT", digest)
	_, err := c.do(201)
	return err
}

func (c *client) pushManifest(repository, tag string, manifest []byte) error {
	c.open("PUT", repository, "/manifests/", tag)
	c.header("Content-Type", manifestType)
	_, err := c.do(201, manifest)
	return err
}

// pushImage pushes the layers, the configuration, and at last the manifest under the tag.
func (c *client) pushImage(repository, tag string, pushed *image) error {
	for i := range pushed.layers {
		layer := &pushed.layers[i]
		if err := c.pushBlob(repository, layer.digest, layer.nonce[:], layer.rest); err != nil {
			return err
		}
	}
	if err := c.pushBlob(repository, pushed.configDigest, pushed.config); err != nil {
		return err
	}
	return c.pushManifest(repository, tag, pushed.manifest)
}

// get asks for a target and expects the body to have a size.
func (c *client) get(size int64, parts ...string) error {
	c.open("GET", parts...)
	c.header("Accept", accept)
	got, err := c.do(200)
	if err != nil {
		return err
	}
	if got.size != size {
		return fmt.Errorf("%s: expected a body of %d bytes, got %d", c.requestLine(), size, got.size)
	}
	return nil
}

// head asks for a target's headers and expects its length to be told.
func (c *client) head(size int64, parts ...string) error {
	c.open("HEAD", parts...)
	c.header("Accept", accept)
	got, err := c.do(200)
	if err != nil {
		return err
	}
	if got.length != size {
		return fmt.Errorf("%s: expected Content-Length %d, got %d", c.requestLine(), size, got.length)
	}
	return nil
}

// fetch returns the body of a target, and expects it to have a size. It is for checks that are not timed.
func (c *client) fetch(size int64, parts ...string) ([]byte, error) {
	body, err := c.fetchAny(parts...)
	if err == nil && int64(len(body)) != size {
		err = fmt.Errorf("%s: expected a body of %d bytes, got %d", c.requestLine(), size, len(body))
	}
	return body, err
}

// fetchAny is fetch for a body of any size.
func (c *client) fetchAny(parts ...string) ([]byte, error) {
	var body bytes.Buffer
	c.capture = &body
	defer func() { c.capture = nil }()
	c.open("GET", parts...)
	c.header("Accept", accept)
	_, err := c.do(200)
	return body.Bytes(), err
}
