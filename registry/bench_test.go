package registry_test

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// constant is a registry that has everything, at no cost: what is measured is the handler.
type constant struct {
	registry.Unsupported
	manifest registry.Manifest
}

func (c *constant) StatBlob(context.Context, string, digest.Digest) (ocispec.Descriptor, error) {
	return c.manifest.Descriptor, nil
}

func (c *constant) Manifest(context.Context, string, registry.Reference) (registry.Manifest, error) {
	return c.manifest, nil
}

// sink is a http.ResponseWriter that forgets.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}

func BenchmarkHandler(b *testing.B) {
	body := make([]byte, 1000)
	c := &constant{manifest: registry.Manifest{
		Descriptor: ocispec.Descriptor{MediaType: typeManifest, Digest: digest.FromBytes(body), Size: 1000},
		Bytes:      body,
	}}
	d := c.manifest.Digest.String()
	for _, bench := range []struct{ name, method, path string }{
		{"ManifestGetByTag", "GET", "/v2/team/app/manifests/v1.0"},
		{"ManifestGetByDigest", "GET", "/v2/team/app/manifests/" + d},
		{"ManifestHead", "HEAD", "/v2/team/app/manifests/v1.0"},
		{"BlobHead", "HEAD", "/v2/team/app/blobs/" + d},
		{"Refused", "HEAD", "/v2/team/app/blobs/uploads/x"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			h := registry.NewHandler(c, nil)
			u, err := url.Parse(bench.path)
			if err != nil {
				b.Fatal(err)
			}
			r := (&http.Request{Method: bench.method, URL: u, Header: http.Header{}, Body: http.NoBody}).WithContext(b.Context())
			w := &sink{}
			b.ReportAllocs()
			for b.Loop() {
				w.header = make(http.Header) // as net/http does for each request
				h.ServeHTTP(w, r)
			}
		})
	}
}
