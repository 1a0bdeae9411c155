package registry_test

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// fake is a registry of a few things, all of them in every repository but for the blobs' holders. Its err fails every
// call, and its calls tell which there were.
type fake struct {
	registry.Unsupported

	blob       string
	url        string // that the blob is redirected to
	manifest   registry.Manifest
	names      []string // of repositories
	holders    []string // repositories with the blob
	referrers  []ocispec.Descriptor
	upload     registry.Upload
	err        error
	unknown    error                                           // of blobs and manifests
	appendBody func(ctx context.Context, body io.Reader) error // receives a chunk; nil reads all of it

	mu    sync.Mutex
	calls []string
}

func (f *fake) call(words ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, strings.Join(words, " "))
	return f.err
}

// called returns the calls so far.
func (f *fake) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fake) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString(f.blob), Size: int64(len(f.blob))}
}

func (f *fake) Blob(_ context.Context, repository string, d digest.Digest) (registry.Blob, error) {
	if err := f.call("Blob", repository, d.String()); err != nil {
		return registry.Blob{}, err
	}
	b := registry.Blob{Descriptor: f.descriptor()}
	b.Open = func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(f.blob[offset : offset+length])), nil
	}
	if f.url != "" {
		b.URL = func(context.Context) (string, error) { return f.url, nil }
	}
	return b, nil
}

func (f *fake) StatBlob(_ context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	return f.descriptor(), cmp.Or(f.call("StatBlob", repository, d.String()), f.unknown)
}

func (f *fake) Manifest(_ context.Context, repository string, ref registry.Reference) (registry.Manifest, error) {
	return f.manifest, cmp.Or(f.call("Manifest", repository, ref.String()), f.unknown)
}

func (f *fake) Tags(_ context.Context, repository, after string, limit int) ([]string, error) {
	return nil, f.call("Tags", repository, after, itoa(limit))
}

func (f *fake) Repositories(_ context.Context, after string, limit int) ([]string, error) {
	return pageOf(f.names, after, limit), f.call("Repositories", after, itoa(limit))
}

func (f *fake) Holders(_ context.Context, _ digest.Digest, after string, limit int) ([]string, error) {
	return pageOf(f.holders, after, limit), f.call("Holders", after, itoa(limit))
}

func (f *fake) Referrers(_ context.Context, repository string, _ digest.Digest, page registry.ReferrersPage) ([]ocispec.Descriptor, error) {
	if err := f.call("Referrers", repository, strings.Join(page.ArtifactTypes, ",")); err != nil {
		return nil, err
	}
	var found []ocispec.Descriptor
	for _, r := range f.referrers {
		if r.Digest > page.After && len(found) < page.Limit {
			found = append(found, r)
		}
	}
	return found, nil
}

func (f *fake) Mount(_ context.Context, d digest.Digest, from, to string) (ocispec.Descriptor, error) {
	if err := f.call("Mount", from, to); err != nil {
		return ocispec.Descriptor{}, err
	}
	if !slices.Contains(f.holders, from) || d != f.descriptor().Digest {
		return ocispec.Descriptor{}, registry.ErrBlobUnknown
	}
	return f.descriptor(), nil
}

func (f *fake) PushBlob(_ context.Context, repository string, d digest.Digest, body io.Reader, _ int64) (ocispec.Descriptor, error) {
	if err := f.call("PushBlob", repository, d.String()); err != nil {
		return ocispec.Descriptor{}, err
	}
	_, err := io.Copy(io.Discard, body)
	return ocispec.Descriptor{Digest: d}, err
}

func (f *fake) StartUpload(_ context.Context, repository string, algorithm digest.Algorithm) (registry.Upload, error) {
	return f.upload, f.call("StartUpload", repository, string(algorithm))
}

func (f *fake) UploadStatus(_ context.Context, repository, id string) (registry.Upload, error) {
	return f.upload, f.call("UploadStatus", repository, id)
}

func (f *fake) AppendUpload(ctx context.Context, repository, id string, chunk registry.Chunk) (registry.Upload, error) {
	if err := f.call("AppendUpload", repository, id); err != nil {
		return registry.Upload{}, err
	}
	if f.appendBody != nil {
		return f.upload, f.appendBody(ctx, chunk.Body)
	}
	if chunk.Body != nil {
		if _, err := io.Copy(io.Discard, chunk.Body); err != nil {
			return registry.Upload{}, err
		}
	}
	return f.upload, nil
}

func (f *fake) FinishUpload(_ context.Context, repository, id string, _ registry.Chunk, d digest.Digest) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{Digest: d}, f.call("FinishUpload", repository, id, d.String())
}

func (f *fake) CancelUpload(_ context.Context, repository, id string) error {
	return f.call("CancelUpload", repository, id)
}

func (f *fake) PutManifest(_ context.Context, repository string, put registry.ManifestPut) (registry.ManifestReceipt, error) {
	d := digest.FromBytes(put.Bytes)
	return registry.ManifestReceipt{Descriptor: ocispec.Descriptor{Digest: d}}, f.call("PutManifest", repository, strings.Join(put.Tags, ","))
}

func (f *fake) DeleteTag(_ context.Context, repository, tag string) error {
	return f.call("DeleteTag", repository, tag)
}

func (f *fake) DeleteManifest(_ context.Context, repository string, d digest.Digest) error {
	return f.call("DeleteManifest", repository, d.String())
}

func (f *fake) DeleteBlob(_ context.Context, repository string, d digest.Digest) error {
	return f.call("DeleteBlob", repository, d.String())
}

// pageOf returns the first limit names after one.
func pageOf(names []string, after string, limit int) []string {
	var page []string
	for _, name := range names {
		if name > after && len(page) < limit {
			page = append(page, name)
		}
	}
	return page
}
