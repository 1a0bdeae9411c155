package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ocikit/ocikit/store"
)

// reader is the body of an answer, whose length is known: it ends there and nowhere else. One that breaks off is asked for again from
// where it was, as long as that gets on: stores end answers that a slow client makes wait, and objects never change.
type reader struct {
	ctx    context.Context
	body   io.ReadCloser
	offset int64 // of the next byte, in the object
	left   int64
	came   int64 // bytes since it was last asked for
	tries  int   // in a row that brought little
	again  func(ctx context.Context, offset, length int64) (*reader, error)
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	if ended := r.ctx.Err(); ended != nil {
		return 0, fmt.Errorf("read object: %w", ended)
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	r.offset += int64(n)
	r.came += int64(n)
	switch {
	case err == nil:
		return n, nil
	case r.left == 0 && errors.Is(err, io.EOF):
		return n, io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	if ended := r.ctx.Err(); ended != nil {
		return n, fmt.Errorf("read object: %w", ended)
	}
	if r.goOn() {
		if n > 0 || r.left == 0 {
			return n, nil
		}
		return r.Read(p)
	}
	return n, fmt.Errorf("read object: %w: %w", store.ErrUnavailable, err)
}

// An answer that brought so much is worth another request, and so many that did not are.
const (
	muchCame  = 1 << 20
	fruitless = 2
)

// goOn asks for the rest, unless that has brought little lately.
func (r *reader) goOn() bool {
	if r.left == 0 {
		return true
	}
	if r.tries++; r.came >= muchCame {
		r.tries = 0
	}
	if r.tries > fruitless {
		return false
	}
	next, err := r.again(r.ctx, r.offset, r.left)
	if err != nil {
		return false
	}
	if next.left != r.left {
		_ = next.body.Close() // it is another object
		return false
	}
	_ = r.body.Close() // it has ended
	r.body, r.came = next.body, 0
	return true
}

// Close implements [io.Closer]. The connection is used again if all was read.
func (r *reader) Close() error {
	r.left = 0
	return r.body.Close()
}

// byteRange is what Open is asked for.
type byteRange struct{ offset, length int64 }

func (b byteRange) whole() bool { return b.offset == 0 && b.length < 0 }

// header is the range in a request. One that reaches past every end is open.
func (b byteRange) header() string {
	first := "bytes=" + strconv.FormatInt(b.offset, 10) + "-"
	if b.length < 0 || b.length > math.MaxInt64-b.offset {
		return first
	}
	return first + strconv.FormatInt(b.offset+b.length-1, 10)
}

// answered returns how many bytes the answer's body has, and refuses an answer to another question, and what somebody on
// the way says of his own: every object has an ETag.
func (b byteRange) answered(out *s3.GetObjectOutput) (int64, error) {
	if aws.ToString(out.ETag) == "" {
		return 0, fmt.Errorf("%w: %w: an object without an ETag", store.ErrUnavailable, errAnswer)
	}
	length := int64(-1)
	if out.ContentLength != nil {
		length = *out.ContentLength
	}
	if b.whole() {
		if length < 1 {
			return 0, fmt.Errorf("%w: an answer of %d bytes", errAnswer, length)
		}
		return length, nil
	}
	first, last, total, ok := parseContentRange(aws.ToString(out.ContentRange))
	want := total - b.offset
	if b.length >= 0 {
		want = min(want, b.length)
	}
	if !ok || first != b.offset || last-first+1 != want || length >= 0 && length != want {
		return 0, fmt.Errorf("%w: asked for %q, got Content-Range %q and %d bytes: the store or a proxy does not serve ranges",
			errAnswer, b.header(), aws.ToString(out.ContentRange), length)
	}
	return want, nil
}

// parseContentRange parses "bytes FIRST-LAST/TOTAL".
func parseContentRange(s string) (first, last, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, 0, false
	}
	span, size, _ := strings.Cut(s, "/")
	from, to, _ := strings.Cut(span, "-")
	first, errFirst := strconv.ParseInt(from, 10, 64)
	last, errLast := strconv.ParseInt(to, 10, 64)
	total, errTotal := strconv.ParseInt(size, 10, 64)
	if errFirst != nil || errLast != nil || errTotal != nil || first < 0 || last < first || total <= last {
		return 0, 0, 0, false
	}
	return first, last, total, true
}
