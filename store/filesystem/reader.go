package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ocikit/ocikit/store"
)

// Open implements [store.Objects]. The reader is an [io.WriterTo]: copied to a network connection, or to the
// [net/http.ResponseWriter] of a plain HTTP/1 request whose Content-Length is set, the bytes go from the file to the
// socket inside the kernel.
func (o *Objects) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	r, err := o.openObject(ctx, key, offset, length)
	if err != nil {
		return nil, fmt.Errorf("open object %q: %w", key, classify(err))
	}
	return r, nil
}

func (o *Objects) openObject(ctx context.Context, key store.Key, offset, length int64) (*reader, error) {
	if !key.Valid() {
		return nil, errKey
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	_, name := o.object(key)
	f, err := o.files.open(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, store.ErrObjectUnknown
	} else if err != nil {
		return nil, err
	}
	r := &reader{ctx: ctx, file: f}
	if err := r.seek(offset, length); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

// reader reads a section of an object's file. The file does not change any more, and stays readable when it is deleted.
type reader struct {
	ctx     context.Context
	file    file
	section io.LimitedReader // the part of the file that may be sent before the next look at ctx
	left    int64            // after section
}

// seek puts the reader onto length bytes from offset on.
func (r *reader) seek(offset, length int64) error {
	size, err := r.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if offset < 0 || offset >= size || length == 0 || length < -1 {
		return fmt.Errorf("%d bytes from %d of %d: %w", length, offset, size, store.ErrOutOfRange)
	}
	if _, err := r.file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	r.left = size - offset
	if length > 0 {
		r.left = min(r.left, length)
	}
	return nil
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, r.check(err)
}

// sendSpan is how many bytes are sent between two looks at the context: many enough to cost nothing.
const sendSpan = 16 << 20

// WriteTo hands w sections of the file itself, which is what a connection can send without reading it.
func (r *reader) WriteTo(w io.Writer) (written int64, err error) {
	for r.left > 0 {
		if err := r.ctx.Err(); err != nil {
			return written, err
		}
		span := min(r.left, sendSpan)
		r.section = io.LimitedReader{R: r.file, N: span}
		n, err := io.Copy(w, &r.section)
		written += n
		r.left -= n
		if err == nil && n < span {
			err = io.EOF
		}
		if err := r.check(err); err != nil {
			return written, err
		}
	}
	return written, nil
}

// check tells an end that comes too early from the right one.
func (r *reader) check(err error) error {
	if errors.Is(err, io.EOF) && r.left > 0 {
		return io.ErrUnexpectedEOF
	}
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return classify(err)
}

func (r *reader) Close() error {
	r.left = 0
	return r.file.Close()
}
