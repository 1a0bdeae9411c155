package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const repository = "/v2/team/app"

// pushAndPull pushes an image as clients do, its layer in three pieces, and pulls it back.
func pushAndPull(ctx context.Context, registry string, out io.Writer) error {
	layer := make([]byte, 40<<20)
	rand.Read(layer)
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    descriptor(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:    []ocispec.Descriptor{descriptor(ocispec.MediaTypeImageLayer, layer)},
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	c := client{ctx, registry}
	third := len(layer) / 3
	if err := c.pushBlob(manifest.Layers[0].Digest, layer[:third], layer[third:2*third], layer[2*third:]); err != nil {
		return fmt.Errorf("push the layer: %w", err)
	}
	if err := c.pushBlob(manifest.Config.Digest, []byte("{}")); err != nil {
		return fmt.Errorf("push the configuration: %w", err)
	}
	if _, _, err := c.do(http.MethodPut, repository+"/manifests/v1", manifest.MediaType, text, http.StatusCreated); err != nil {
		return fmt.Errorf("push the manifest: %w", err)
	}

	if err := c.pull("/manifests/v1", text); err != nil {
		return fmt.Errorf("pull the manifest: %w", err)
	}
	for range 2 { // from each replica
		if err := c.pull("/blobs/"+manifest.Layers[0].Digest.String(), layer); err != nil {
			return fmt.Errorf("pull the layer: %w", err)
		}
	}
	fmt.Fprintf(out, "\npulled what was pushed: %s, %d MiB\n", manifest.Layers[0].Digest, len(layer)>>20)
	return nil
}

func descriptor(mediaType string, content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

// client talks to a registry.
type client struct {
	ctx context.Context
	url string
}

// pushBlob begins an upload, sends its pieces, each in a request of its own, and closes it.
func (c *client) pushBlob(d digest.Digest, pieces ...[]byte) error {
	header, _, err := c.do(http.MethodPost, repository+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	for _, piece := range pieces {
		header, _, err = c.do(http.MethodPatch, header.Get("Location"), "application/octet-stream", piece, http.StatusAccepted)
		if err != nil {
			return err
		}
	}
	_, _, err = c.do(http.MethodPut, header.Get("Location")+"?digest="+d.String(), "", nil, http.StatusCreated)
	return err
}

// pull compares what a path has with what was pushed.
func (c *client) pull(path string, want []byte) error {
	_, got, err := c.do(http.MethodGet, repository+path, "", nil, http.StatusOK)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s came back with other bytes", path)
	}
	return err
}

// do sends a request, and returns the answer, which must have the status that is wanted.
func (c *client) do(method, path, mediaType string, body []byte, want int) (http.Header, []byte, error) {
	request, err := http.NewRequestWithContext(c.ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if mediaType != "" {
		request.Header.Set("Content-Type", mediaType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != want {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, content)
	}
	return response.Header, content, err
}
