package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ocikit/ocikit/store"
)

// Begin implements [store.Objects]: one CreateMultipartUpload, which is never repeated. If its answer is lost there may be an
// upload whose id nobody knows: it is the only one of its key, whose owner condemns the key, and so [Objects.Begun] finds it in
// time. Of two, one could be completed, and then nobody would look for the other.
func (o *Objects) Begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	m, err := o.begin(ctx, key)
	if err != nil {
		return store.Multipart{}, fmt.Errorf("begin multipart upload of %q: %w", key, err)
	}
	return m, nil
}

func (o *Objects) begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	if !key.Valid() {
		return store.Multipart{}, errKey
	}
	limited, cancel := bounded(ctx)
	defer cancel()
	out, err := o.client.CreateMultipartUpload(limited, &s3.CreateMultipartUploadInput{
		Bucket:               o.bucket,
		Key:                  o.name(key),
		ServerSideEncryption: o.options.ServerSideEncryption,
		SSEKMSKeyId:          o.kmsKey(),
		StorageClass:         o.class(key),
	}, append(slices.Clip(o.calls), once)...)
	if err != nil {
		return store.Multipart{}, classify(ctx, err)
	}
	id := aws.ToString(out.UploadId)
	if id == "" {
		return store.Multipart{}, fmt.Errorf("%w: %w: an upload without an id", store.ErrUnavailable, errAnswer)
	}
	return store.Multipart{Key: key, ID: id}, nil
}

// PutPart implements [store.Objects]: one UploadPart. Parts of different numbers are kept apart, so fence is not looked at.
func (o *Objects) PutPart(ctx context.Context, m store.Multipart, _ int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	tag, err := o.putPart(ctx, m, part, r)
	if err != nil {
		return store.Part{}, fmt.Errorf("put part %d of %q: %w", part.Number, m.Key, err)
	}
	part.Tag = tag
	return part, nil
}

func (o *Objects) putPart(ctx context.Context, m store.Multipart, part store.Part, r io.ReadSeeker) (tag string, err error) {
	if err := check(m); err != nil {
		return "", err
	}
	if part.Number < 1 || part.Number > maxParts {
		return "", fmt.Errorf("a part number of %d: it must be from 1 to %d", part.Number, maxParts)
	}
	content, err := newBody(r, part.Size)
	if err != nil {
		return "", err
	}
	limited, cancel := bounded(ctx)
	defer cancel()
	out, err := o.client.UploadPart(limited, &s3.UploadPartInput{
		Bucket:        o.bucket,
		Key:           o.name(m.Key),
		UploadId:      aws.String(m.ID),
		PartNumber:    aws.Int32(part.Number),
		Body:          content,
		ContentLength: aws.Int64(part.Size),
	}, o.writes...)
	if err != nil {
		return "", classifyWrite(ctx, content, err)
	}
	tag = aws.ToString(out.ETag)
	if tag == "" {
		return "", fmt.Errorf("%w: %w: a part without an ETag", store.ErrUnavailable, errAnswer)
	}
	return tag, nil
}

// Complete implements [store.Objects]: one CompleteMultipartUpload; and one GetObject of a single byte where its outcome
// is not known from the answer, as when an earlier answer was lost.
func (o *Objects) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	if err := o.complete(ctx, m, parts); err != nil {
		return fmt.Errorf("complete multipart upload of %q: %w", m.Key, err)
	}
	return nil
}

func (o *Objects) complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	if err := check(m); err != nil {
		return err
	}
	if len(parts) == 0 {
		return fmt.Errorf("%w: none is named", store.ErrInvalidPart)
	}
	named := make([]types.CompletedPart, len(parts))
	var size int64
	for i := range parts {
		named[i] = types.CompletedPart{PartNumber: &parts[i].Number, ETag: &parts[i].Tag}
		size += parts[i].Size
	}
	limited, cancel := bounded(ctx)
	defer cancel()
	out, err := o.client.CompleteMultipartUpload(limited, &s3.CompleteMultipartUploadInput{
		Bucket:          o.bucket,
		Key:             o.name(m.Key),
		UploadId:        aws.String(m.ID),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: named},
	}, o.calls...)
	switch {
	case err == nil && aws.ToString(out.ETag) != "":
		return nil
	case err == nil: // an answer that was cut off before it said anything
		return o.completed(limited, m.Key, size, fmt.Errorf("%w: %w: a completion without an ETag", store.ErrUnavailable, errAnswer))
	}
	err = classify(ctx, err)
	if errors.Is(err, store.ErrMultipartUnknown) {
		return o.completed(limited, m.Key, size, err)
	}
	return err
}

// completed returns nil if the object is there with that size. Nobody but this upload could have made it, since keys are used
// once; so the upload is gone because it was completed before.
func (o *Objects) completed(ctx context.Context, key store.Key, size int64, otherwise error) error {
	total, err := o.size(ctx, key)
	switch {
	case errors.Is(err, store.ErrObjectUnknown):
		return otherwise
	case err != nil:
		return fmt.Errorf("look whether it was completed before: %w", err)
	case total != size:
		return fmt.Errorf("%w (an object of %d bytes is there, not of %d)", otherwise, total, size)
	}
	return nil
}

// size reads one byte of an object, whose answer tells the size.
func (o *Objects) size(ctx context.Context, key store.Key) (int64, error) {
	asked := byteRange{0, 1}
	out, err := o.client.GetObject(ctx, &s3.GetObjectInput{Bucket: o.bucket, Key: o.name(key), Range: aws.String(asked.header())}, o.calls...)
	if err != nil {
		return 0, classify(ctx, err)
	}
	defer out.Body.Close()
	if _, err := asked.answered(out); err != nil {
		return 0, err
	}
	_, _, total, _ := parseContentRange(aws.ToString(out.ContentRange))
	return total, nil
}

// Abort implements [store.Objects]: one AbortMultipartUpload.
func (o *Objects) Abort(ctx context.Context, m store.Multipart) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("abort multipart upload of %q: %w", m.Key, err)
	}
	if check(m) != nil {
		return nil // there is none of that name
	}
	limited, cancel := bounded(ctx)
	defer cancel()
	_, err := o.client.AbortMultipartUpload(limited, &s3.AbortMultipartUploadInput{
		Bucket:   o.bucket,
		Key:      o.name(m.Key),
		UploadId: aws.String(m.ID),
	}, o.calls...)
	if err == nil {
		return nil
	}
	if err = classify(ctx, err); errors.Is(err, store.ErrMultipartUnknown) {
		return nil
	}
	return fmt.Errorf("abort multipart upload of %q: %w", m.Key, err)
}

// check refuses a name that no upload has.
func check(m store.Multipart) error {
	switch {
	case !m.Key.Valid():
		return errKey
	case m.ID == "":
		return store.ErrMultipartUnknown
	}
	return nil
}

// Begun implements [store.Objects]: one ListMultipartUploads, as a rule. Some stores list by whole keys only, others by any
// prefix; so it asks for the key, and keeps what has it.
func (o *Objects) Begun(ctx context.Context, key store.Key) ([]store.Multipart, error) {
	return o.begun(ctx, key, time.Time{})
}

// begun is Begun of what was begun before a time by the store's clock, or at any.
func (o *Objects) begun(ctx context.Context, key store.Key, before time.Time) ([]store.Multipart, error) {
	if !key.Valid() {
		return nil, nil // nothing could be begun for it
	}
	var begun []store.Multipart
	name := o.name(key)
	pages := s3.NewListMultipartUploadsPaginator(o.client, &s3.ListMultipartUploadsInput{Bucket: o.bucket, Prefix: name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, o.calls...)
		if err != nil {
			return nil, fmt.Errorf("list multipart uploads of %q: %w", key, classify(ctx, err))
		}
		for i := range page.Uploads {
			upload := &page.Uploads[i]
			m := store.Multipart{Key: key, ID: aws.ToString(upload.UploadId)}
			old := before.IsZero() || upload.Initiated != nil && upload.Initiated.Before(before)
			if aws.ToString(upload.Key) == *name && m.ID != "" && old && !slices.Contains(begun, m) {
				begun = append(begun, m)
			}
		}
	}
	return begun, nil
}
