package registry

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Unsupported is a [Registry] whose every method fails with ErrUnsupported. Embed it to write only the methods that you need, and
// to go on compiling when the interface grows.
type Unsupported struct{}

var _ Registry = Unsupported{}

// Blob fails with ErrUnsupported.
func (Unsupported) Blob(context.Context, string, digest.Digest) (Blob, error) {
	return Blob{}, ErrUnsupported
}

// StatBlob fails with ErrUnsupported.
func (Unsupported) StatBlob(context.Context, string, digest.Digest) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrUnsupported
}

// Manifest fails with ErrUnsupported.
func (Unsupported) Manifest(context.Context, string, Reference) (Manifest, error) {
	return Manifest{}, ErrUnsupported
}

// Tags fails with ErrUnsupported.
func (Unsupported) Tags(context.Context, string, string, int) ([]string, error) {
	return nil, ErrUnsupported
}

// Referrers fails with ErrUnsupported.
func (Unsupported) Referrers(context.Context, string, digest.Digest, ReferrersPage) ([]ocispec.Descriptor, error) {
	return nil, ErrUnsupported
}

// Repositories fails with ErrUnsupported.
func (Unsupported) Repositories(context.Context, string, int) ([]string, error) {
	return nil, ErrUnsupported
}

// Holders fails with ErrUnsupported.
func (Unsupported) Holders(context.Context, digest.Digest, string, int) ([]string, error) {
	return nil, ErrUnsupported
}

// PushBlob fails with ErrUnsupported, and reads nothing of the body.
func (Unsupported) PushBlob(context.Context, string, digest.Digest, io.Reader, int64) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrUnsupported
}

// Mount fails with ErrUnsupported.
func (Unsupported) Mount(context.Context, digest.Digest, string, string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrUnsupported
}

// StartUpload fails with ErrUnsupported.
func (Unsupported) StartUpload(context.Context, string, digest.Algorithm) (Upload, error) {
	return Upload{}, ErrUnsupported
}

// UploadStatus fails with ErrUnsupported.
func (Unsupported) UploadStatus(context.Context, string, string) (Upload, error) {
	return Upload{}, ErrUnsupported
}

// AppendUpload fails with ErrUnsupported, and reads nothing of the chunk.
func (Unsupported) AppendUpload(context.Context, string, string, Chunk) (Upload, error) {
	return Upload{}, ErrUnsupported
}

// FinishUpload fails with ErrUnsupported, and reads nothing of the chunk.
func (Unsupported) FinishUpload(context.Context, string, string, Chunk, digest.Digest) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrUnsupported
}

// CancelUpload fails with ErrUnsupported.
func (Unsupported) CancelUpload(context.Context, string, string) error { return ErrUnsupported }

// PutManifest fails with ErrUnsupported.
func (Unsupported) PutManifest(context.Context, string, ManifestPut) (ManifestReceipt, error) {
	return ManifestReceipt{}, ErrUnsupported
}

// DeleteTag fails with ErrUnsupported.
func (Unsupported) DeleteTag(context.Context, string, string) error { return ErrUnsupported }

// DeleteManifest fails with ErrUnsupported.
func (Unsupported) DeleteManifest(context.Context, string, digest.Digest) error {
	return ErrUnsupported
}

// DeleteBlob fails with ErrUnsupported.
func (Unsupported) DeleteBlob(context.Context, string, digest.Digest) error { return ErrUnsupported }
