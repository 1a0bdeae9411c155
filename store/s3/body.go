package s3

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// body is what a request sends: the first size bytes of a caller's reader. The SDK asks for its length, reads it to sign it,
// and again for each attempt to send it; when its call returns, it has let go of it. The reader is moved only when it has
// to be, since moving may mean work. Its own error is kept: it is not the store's.
type body struct {
	r    io.ReadSeeker
	size int64
	at   int64 // of the next Read
	pos  int64 // of r; -1: unknown
	err  error
}

func newBody(r io.ReadSeeker, size int64) (*body, error) {
	if size < 1 || size > maxPart {
		return nil, fmt.Errorf("a body of %d bytes: it must have from 1 to %d", size, int64(maxPart))
	}
	return &body{r: r, size: size, pos: -1}, nil
}

// Read implements [io.Reader]. A reader that ends early fails: what it lacks must not be taken for the end.
func (b *body) Read(p []byte) (int, error) {
	if b.at >= b.size {
		return 0, io.EOF
	}
	if b.pos != b.at {
		if _, err := b.r.Seek(b.at, io.SeekStart); err != nil {
			return 0, b.failed(err)
		}
		b.pos = b.at
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.size-b.at)])
	b.at += int64(n)
	b.pos = b.at
	switch {
	case err == nil || errors.Is(err, io.EOF) && b.at == b.size:
		return n, nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, b.failed(err)
}

// Seek implements [io.Seeker]. The end is where size says.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return b.at, errors.New("seek before the start")
	}
	b.at = offset
	return offset, nil
}

func (b *body) failed(err error) error {
	b.pos = -1
	b.err = fmt.Errorf("read what to store: %w", err)
	return b.err
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
