package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// writeSpan is how many bytes are written between two looks at the context.
const writeSpan = 4 << 20

// write writes the size bytes that r holds from its start to f at offset. A reader that has them in memory, and therefore
// is an io.WriterTo, hands them over without a buffer.
func (o *Objects) write(ctx context.Context, f file, offset int64, r io.ReadSeeker, size int64) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	w := sectionWriter{ctx: ctx, file: f, offset: offset, left: size}
	buffer := o.buffers.Get().(*[]byte)
	defer o.buffers.Put(buffer)
	if _, err := io.CopyBuffer(&w, r, *buffer); err != nil && !errors.Is(err, errFull) {
		return err
	}
	if w.left > 0 {
		return fmt.Errorf("%w after %d of %d bytes", io.ErrUnexpectedEOF, size-w.left, size)
	}
	return nil
}

// errFull stops a reader that holds more than is asked for.
var errFull = errors.New("section is full")

// sectionWriter writes at most left bytes to the file from offset on.
type sectionWriter struct {
	ctx    context.Context
	file   file
	offset int64
	left   int64
}

func (w *sectionWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		if w.left == 0 {
			return written, errFull
		}
		if err := w.ctx.Err(); err != nil {
			return written, err
		}
		n, err := w.file.WriteAt(p[:min(int64(len(p)), w.left, writeSpan)], w.offset)
		written += n
		w.offset += int64(n)
		w.left -= int64(n)
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}
