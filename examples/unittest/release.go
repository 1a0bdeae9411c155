// Package unittest is code of an application that keeps its releases in a registry, written without a thought of tests, and
// release_test.go is how to test it: against a real registry, in memory, within the test's own process, with the failures
// that one wants to see.
package unittest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ArtifactType is what manifests of releases say that they are.
const ArtifactType = "application/vnd.example.release"

// maxManifest is the largest manifest that is read, in bytes.
const maxManifest = 4 << 20

// ErrNoRelease says that there is no release of that name.
var ErrNoRelease = errors.New("no such release")

// Releases are in one repository of a registry.
type Releases struct {
	Client     *http.Client
	URL        string // of the registry: https://registry.example.com
	Repository string
}

// Publish makes content the release of a name, a tag. It replaces an earlier one.
func (r *Releases) Publish(ctx context.Context, name string, content []byte) error {
	for _, blob := range [][]byte{content, ocispec.DescriptorEmptyJSON.Data} {
		d := digest.FromBytes(blob)
		answer, err := r.do(ctx, http.MethodPost, "/blobs/uploads/?digest="+d.String(), "application/octet-stream", blob, http.StatusCreated)
		if err != nil {
			return fmt.Errorf("publish %s: %w", name, err)
		}
		answer.Body.Close()
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       ocispec.DescriptorEmptyJSON,
		Layers:       []ocispec.Descriptor{{MediaType: "application/octet-stream", Digest: digest.FromBytes(content), Size: int64(len(content))}},
	})
	if err != nil {
		return fmt.Errorf("publish %s: %w", name, err)
	}
	answer, err := r.do(ctx, http.MethodPut, "/manifests/"+name, ocispec.MediaTypeImageManifest, manifest, http.StatusCreated)
	if err != nil {
		return fmt.Errorf("publish %s: %w", name, err)
	}
	return answer.Body.Close()
}

// Fetch returns the content of a release. ErrNoRelease.
func (r *Releases) Fetch(ctx context.Context, name string) ([]byte, error) {
	text, err := r.get(ctx, "/manifests/"+name, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", name, err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", name, err)
	}
	if manifest.ArtifactType != ArtifactType || len(manifest.Layers) != 1 {
		return nil, fmt.Errorf("fetch %s: %w: what has this name is something else", name, ErrNoRelease)
	}
	layer := manifest.Layers[0]
	content, err := r.get(ctx, "/blobs/"+layer.Digest.String(), layer.Size)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", name, err)
	}
	if digest.FromBytes(content) != layer.Digest {
		return nil, fmt.Errorf("fetch %s: the content is not what was published", name)
	}
	return content, nil
}

// get returns a body of at most so many bytes.
func (r *Releases) get(ctx context.Context, path string, most int64) ([]byte, error) {
	answer, err := r.do(ctx, http.MethodGet, path, "", nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(io.LimitReader(answer.Body, most))
}

// do returns an answer of the wanted status, whose body the caller closes.
func (r *Releases) do(ctx context.Context, method, path, mediaType string, body []byte, want int) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.URL+"/v2/"+r.Repository+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		request.Header.Set("Content-Type", mediaType)
	}
	answer, err := r.Client.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode == want {
		return answer, nil
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return nil, ErrNoRelease
	}
	return nil, fmt.Errorf("%s %s: %s", method, path, answer.Status)
}
