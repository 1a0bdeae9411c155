package registry

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mediaTypeBlob is the type of every blob: what it really is, the manifest says that refers to it.
const mediaTypeBlob = "application/octet-stream"

func blobDescriptor(d digest.Digest, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaTypeBlob, Digest: d, Size: size}
}

// Blob implements [Reader].
func (l *Local) Blob(ctx context.Context, repository string, d digest.Digest) (Blob, error) {
	content, err := l.contents.Find(ctx, repository, d)
	if err != nil {
		return Blob{}, translate(err)
	}
	blob := Blob{Descriptor: blobDescriptor(d, content.Size)}
	blob.Open = func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		r, err := content.Open(ctx, offset, length)
		return r, translate(err)
	}
	if l.options.Redirect != nil && !content.IsInline() {
		blob.URL = func(ctx context.Context) (string, error) { return l.options.Redirect(ctx, content.Key) }
	}
	return blob, nil
}

// StatBlob implements [Reader].
func (l *Local) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	size, err := l.contents.Stat(ctx, repository, d)
	if err != nil {
		return ocispec.Descriptor{}, translate(err)
	}
	return blobDescriptor(d, size), nil
}

// Mount implements [Writer].
func (l *Local) Mount(ctx context.Context, d digest.Digest, from, to string) (ocispec.Descriptor, error) {
	content, err := l.meta.Mount(ctx, d, from, to)
	if err != nil {
		return ocispec.Descriptor{}, translate(err)
	}
	return blobDescriptor(d, content.Size), nil
}

// Holders implements [Lister].
func (l *Local) Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error) {
	names, err := l.meta.Holders(ctx, d, after, limit)
	return withoutMirrors(names), translate(err)
}

// DeleteBlob implements [Deleter].
func (l *Local) DeleteBlob(ctx context.Context, repository string, d digest.Digest) error {
	if l.options.NoDelete {
		return errNoDelete
	}
	return translate(l.meta.DeleteContent(ctx, repository, d))
}

var errNoDelete = ErrUnsupported.With("deleting is switched off in this registry")
