package s3

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// body is what a request sends: the first size bytes of a caller's reader. It keeps the reader's own error, which is not the
// store's. The SDK reads it from the start for each attempt, and has let go of it when its call returns.
type body struct {
	r        io.ReadSeeker
	size, at int64
	err      error
}

// newBody rewinds the reader.
func newBody(r io.ReadSeeker, size int64) (*body, error) {
	if size < 1 || size > maxPart {
		return nil, fmt.Errorf("a body of %d bytes: it must have from 1 to %d", size, int64(maxPart))
	}
	b := &body{r: r, size: size}
	_, err := b.Seek(0, io.SeekStart)
	return b, err
}

// Read implements [io.Reader]. A reader that ends early fails: what it lacks must not be taken for the end.
func (b *body) Read(p []byte) (int, error) {
	if b.at >= b.size {
		return 0, io.EOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.size-b.at)])
	b.at += int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
		if b.at < b.size {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, b.keep(err)
}

// Seek implements [io.Seeker]. The end is where size says.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset == b.at && whence != io.SeekStart {
		return offset, nil
	}
	if _, err := b.r.Seek(offset, io.SeekStart); err != nil {
		return b.at, b.keep(err)
	}
	b.at = offset
	return offset, nil
}

func (b *body) keep(err error) error {
	if err != nil {
		b.err = fmt.Errorf("read what to store: %w", err)
	}
	return err
}

// requireTLS refuses to send a body that nothing protects.
func requireTLS(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("RequireTLS",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			if r, ok := in.Request.(*smithyhttp.Request); !ok || !r.IsHTTPS() {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, errPlain
			}
			return next.HandleFinalize(ctx, in)
		}), middleware.After)
}

// errPlain says what is wrong with the options.
var errPlain = fmt.Errorf("checksum mode %q needs an https endpoint: over plain http nothing would protect the bytes", UnsignedPayload)
