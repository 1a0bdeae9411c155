package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ocikit/ocikit/store"
)

// maxDelete is how many keys one request may delete.
const maxDelete = 1000

// Put implements [store.Objects]: one PutObject.
func (o *Objects) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	if err := o.put(ctx, key, r, size); err != nil {
		return fmt.Errorf("put object %q: %w", key, err)
	}
	return nil
}

func (o *Objects) put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	if !key.Valid() {
		return errKey
	}
	content, err := newBody(r, size)
	if err != nil {
		return err
	}
	limited, cancel := bounded(ctx)
	defer cancel()
	out, err := o.client.PutObject(limited, &s3.PutObjectInput{
		Bucket:               o.bucket,
		Key:                  o.name(key),
		Body:                 content,
		ContentLength:        aws.Int64(size),
		ServerSideEncryption: o.options.ServerSideEncryption,
		SSEKMSKeyId:          o.kmsKey(),
		StorageClass:         o.class(key),
	}, o.writes...)
	if err != nil {
		return classifyWrite(ctx, content, err)
	}
	if aws.ToString(out.ETag) == "" {
		return fmt.Errorf("%w: %w: an object without an ETag", store.ErrUnavailable, errAnswer)
	}
	return nil
}

// Open implements [store.Objects]: one GetObject. What it read is there in full when the reader says io.EOF: a connection that
// was cut fails it with [io.ErrUnexpectedEOF], which wraps [store.ErrUnavailable].
func (o *Objects) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	r, err := o.open(ctx, key, offset, length)
	if err != nil {
		return nil, fmt.Errorf("open object %q at %d for %d bytes: %w", key, offset, length, err)
	}
	return r, nil
}

func (o *Objects) open(ctx context.Context, key store.Key, offset, length int64) (*reader, error) {
	switch {
	case !key.Valid():
		return nil, errKey
	case offset < 0 || length == 0 || length < -1:
		return nil, store.ErrOutOfRange
	}
	in := &s3.GetObjectInput{Bucket: o.bucket, Key: o.name(key)}
	asked := byteRange{offset, length}
	if !asked.whole() {
		in.Range = aws.String(asked.header())
	}
	out, err := o.client.GetObject(ctx, in, o.calls...)
	if err != nil {
		return nil, classify(ctx, err)
	}
	size, err := asked.answered(out)
	if err != nil {
		return nil, errors.Join(err, out.Body.Close())
	}
	return &reader{ctx: ctx, body: out.Body, offset: offset, left: size, again: func(ctx context.Context, offset, length int64) (*reader, error) {
		return o.open(ctx, key, offset, length)
	}}, nil
}

// Delete implements [store.Objects]: one DeleteObjects for a thousand keys. Once a request fails as a whole, the keys after it
// are not tried.
func (o *Objects) Delete(ctx context.Context, keys []store.Key) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete objects: %w", err)
	}
	failed := map[store.Key]error{}
	valid := make([]store.Key, 0, len(keys))
	for _, key := range keys {
		if key.Valid() {
			valid = append(valid, key)
		} else {
			failed[key] = errKey
		}
	}
	var down error
	for batch := range slices.Chunk(valid, maxDelete) {
		if down == nil {
			down = o.delete(ctx, batch, failed)
		}
		if down == nil {
			continue
		}
		for _, key := range batch {
			failed[key] = down
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("delete objects: %w", &store.DeleteError{Failed: failed})
	}
	return nil
}

// delete deletes a batch, and notes the keys that the store names as failed. Its own error is one of all keys.
func (o *Objects) delete(ctx context.Context, keys []store.Key, failed map[store.Key]error) error {
	names := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		names[i].Key = o.name(key)
	}
	limited, cancel := bounded(ctx)
	defer cancel()
	out, err := o.client.DeleteObjects(limited, &s3.DeleteObjectsInput{
		Bucket: o.bucket,
		Delete: &types.Delete{Objects: names, Quiet: aws.Bool(true)},
	}, o.calls...)
	if err != nil {
		return classify(ctx, err)
	}
	for _, e := range out.Errors {
		code := aws.ToString(e.Code)
		if code == codeNoSuchKey {
			continue
		}
		key, ok := o.key(aws.ToString(e.Key))
		if !ok {
			return fmt.Errorf("%s: %s", code, aws.ToString(e.Message))
		}
		failed[key] = classifyCode(code, aws.ToString(e.Message))
	}
	return nil
}

// errKey refuses what has not a key's form.
var errKey = errors.New("invalid key")
