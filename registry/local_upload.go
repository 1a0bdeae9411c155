package registry

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/staging"
)

// PushBlob implements [Writer]. A small blob is one transaction; a larger one is an upload that nobody has to resume.
func (l *Local) PushBlob(ctx context.Context, repository string, d digest.Digest, body io.Reader, size int64) (ocispec.Descriptor, error) {
	if size >= 0 && l.contents.Fits(size) {
		return l.pushSmall(ctx, repository, d, body, size)
	}
	upload, err := l.stage.Start(ctx, repository, d.Algorithm())
	if err != nil {
		return ocispec.Descriptor{}, translate(err)
	}
	pushed, err := l.stage.Finish(ctx, repository, upload.ID, staging.Chunk{Body: body, Size: size}, d)
	if err != nil {
		// Nobody knows this upload's URL. If the cancel fails too, the session expires.
		_ = l.stage.Cancel(context.WithoutCancel(ctx), repository, upload.ID)
		return ocispec.Descriptor{}, translate(err)
	}
	return blobDescriptor(d, pushed), nil
}

func (l *Local) pushSmall(ctx context.Context, repository string, d digest.Digest, body io.Reader, size int64) (ocispec.Descriptor, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(body, data); err != nil {
		return ocispec.Descriptor{}, translate(&staging.BodyError{Err: err})
	}
	if err := l.contents.Put(ctx, repository, d, data); err != nil {
		return ocispec.Descriptor{}, translate(err)
	}
	return blobDescriptor(d, size), nil
}

// StartUpload implements [Writer].
func (l *Local) StartUpload(ctx context.Context, repository string, algorithm digest.Algorithm) (Upload, error) {
	upload, err := l.stage.Start(ctx, repository, algorithm)
	return Upload(upload), translate(err)
}

// UploadStatus implements [Writer].
func (l *Local) UploadStatus(ctx context.Context, repository, id string) (Upload, error) {
	upload, err := l.stage.Status(ctx, repository, id)
	return Upload(upload), translate(err)
}

// AppendUpload implements [Writer].
func (l *Local) AppendUpload(ctx context.Context, repository, id string, chunk Chunk) (Upload, error) {
	upload, err := l.stage.Append(ctx, repository, id, staging.Chunk(chunk))
	return Upload(upload), translate(err)
}

// FinishUpload implements [Writer].
func (l *Local) FinishUpload(ctx context.Context, repository, id string, chunk Chunk, d digest.Digest) (ocispec.Descriptor, error) {
	size, err := l.stage.Finish(ctx, repository, id, staging.Chunk(chunk), d)
	if err != nil {
		return ocispec.Descriptor{}, translate(err)
	}
	return blobDescriptor(d, size), nil
}

// CancelUpload implements [Writer].
func (l *Local) CancelUpload(ctx context.Context, repository, id string) error {
	return translate(l.stage.Cancel(ctx, repository, id))
}
