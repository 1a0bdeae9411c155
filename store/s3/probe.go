package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/ocikit/ocikit/store"
)

// ErrNoList is in the error of a Probe if all that is lacking are lists: clients can be served from the bucket, while
// audits and the reaper, which finds uploads whose names were lost, cannot work. Without s3:ListBucket, AWS also says
// "access denied" of an object that is not there.
var ErrNoList = errors.New("the bucket cannot be listed")

// cleanup bounds the deletion of what a probe has stored.
const cleanup = 30 * time.Second

// probeParts is the key of the multipart uploads of all probes, since some stores list unfinished ones by exact keys only: so
// the next probe finds what one that was killed has begun. Probes that meet there do each other no harm: an upload is told by its id,
// all make the same object, and none reads it.
const probeParts store.Key = store.ProbePrefix + "parts"

// killed is the age from which a probe's upload is left over: a probe takes seconds, and clocks differ.
const killed = time.Hour

// Probe tries once each operation that the store will need, on throw-away keys under [store.ProbePrefix], and returns an error
// of one line that says in words what the bucket lacks. It is for start-up: it finds a wrong setting before the first
// push does. An error that wraps [ErrNoList] may be logged and gone on with; one that wraps [store.ErrUnavailable] may
// pass. It deletes what it stored, and says so when it cannot; and it ends multipart uploads of earlier probes that were killed. What
// those have left as objects an audit finds. It takes about ten requests.
func (o *Objects) Probe(ctx context.Context) error {
	p := &probe{objects: o, single: store.ProbePrefix + store.Key(store.NewID())}
	p.object(ctx)
	if !p.hopeless {
		p.multipart(ctx)
	}
	if !p.hopeless {
		p.lists(ctx)
	}
	p.tidy(ctx)
	p.clean(ctx)
	return p.result(ctx)
}

// ProbeReading is Probe of what an audit needs that repairs nothing: it reads and lists, and writes nothing. An error is as Probe's.
func (o *Objects) ProbeReading(ctx context.Context) error {
	p := &probe{objects: o}
	_, err := o.Open(ctx, pinged, 0, -1)
	if !errors.Is(err, store.ErrObjectUnknown) {
		p.failed("get an object", "s3:GetObject", err)
	}
	if !p.hopeless {
		p.lists(ctx)
	}
	return p.result(ctx)
}

// probe is one run of Probe.
type probe struct {
	objects  *Objects
	single   store.Key
	stored   []store.Key
	left     []store.Multipart // unfinished ones of earlier probes
	lacks    []lack
	hopeless bool // nothing else would work either
}

// result is what was found.
func (p *probe) result(ctx context.Context) error {
	bucket := *p.objects.bucket
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("probe bucket %q: %w", bucket, ctx.Err())
	case len(p.lacks) == 0:
		return nil
	}
	return &probeError{bucket: bucket, lacks: p.lacks}
}

// lack is what does not work.
type lack struct {
	what  string // was tried
	needs string // is the permission for it
	soft  bool   // clients can be served nevertheless
	err   error
}

// content is what a probe stores.
const content = "A registry tried whether it can write here. This may be deleted.\n"

// failed notes an error, if it is one. An error that would meet every request is the only one to be told.
func (p *probe) failed(what, needs string, err error) bool {
	if err == nil {
		return false
	}
	l := lack{what: what, needs: needs, err: err}
	if p.hopeless = general(err); p.hopeless {
		p.lacks = nil
	}
	p.lacks = append(p.lacks, l)
	return true
}

func (p *probe) object(ctx context.Context) {
	err := p.objects.Put(ctx, p.single, strings.NewReader(content), int64(len(content)))
	if p.failed("put an object", "s3:PutObject", err) {
		return
	}
	p.stored = append(p.stored, p.single)
	if !p.failed("get an object", "s3:GetObject", p.read(ctx, p.single, 0, -1, content)) {
		p.failed("get a range of an object", "s3:GetObject", p.read(ctx, p.single, 2, 8, content[2:10]))
	}
}

// read compares what is stored with what should be.
func (p *probe) read(ctx context.Context, key store.Key, offset, length int64, want string) error {
	r, err := p.objects.Open(ctx, key, offset, length)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, []byte(want)) {
		err = fmt.Errorf("%w: other bytes than were stored", errAnswer)
	}
	return err
}

// multipart makes an object of one part whose number is not 1: of an upload whose claim was lost, the numbers have gaps.
func (p *probe) multipart(ctx context.Context) {
	m, err := p.objects.Begin(ctx, probeParts)
	if p.failed("begin a multipart upload", "s3:PutObject", err) {
		return
	}
	part := store.Part{Number: 2, Size: int64(len(content))}
	part, err = p.objects.PutPart(ctx, m, 1, part, strings.NewReader(content))
	if !p.failed("upload a part", "s3:PutObject", err) {
		err = p.objects.Complete(ctx, m, []store.Part{part})
		if !p.failed("complete a multipart upload whose part numbers have gaps", "s3:PutObject", err) {
			p.stored = append(p.stored, probeParts)
			if m, err = p.objects.Begin(ctx, probeParts); p.failed("begin a multipart upload", "s3:PutObject", err) {
				return
			}
		}
	}
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	p.failed("abort a multipart upload ("+string(probeParts)+" is left)", "s3:AbortMultipartUpload", p.objects.Abort(tidy, m))
}

// lists tries what only audits and the reaper need.
func (p *probe) lists(ctx context.Context) {
	_, list := p.objects.List(ctx, store.ProbePrefix, "", 1)
	left, begun := p.objects.begun(ctx, probeParts, time.Now().Add(-killed))
	p.left = left
	for _, l := range []lack{
		{what: "list objects (for audits)", needs: "s3:ListBucket", err: list},
		{what: "list multipart uploads (for the reaper)", needs: "s3:ListBucketMultipartUploads", err: begun},
	} {
		if p.failed(l.what, l.needs, l.err) {
			p.lacks[len(p.lacks)-1].soft = !p.hopeless
		}
	}
}

// tidy ends what earlier probes have left.
func (p *probe) tidy(ctx context.Context) {
	for _, m := range p.left {
		_ = p.objects.Abort(ctx, m) // the next probe may succeed
	}
}

// clean deletes what was stored, and thereby tries to delete: also where nothing could be stored, unless that is hopeless.
func (p *probe) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	keys, what := p.stored, "delete objects"
	switch {
	case len(keys) > 0:
		what += " (" + string(keys[0]) + " is left)"
	case p.hopeless:
		return
	default:
		keys = []store.Key{p.single}
	}
	if err := p.objects.Delete(ctx, keys); err != nil {
		p.lacks = append(p.lacks, lack{what: what, needs: "s3:DeleteObject", err: err})
	}
}

// general reports whether an error would meet any other request as well.
func general(err error) bool {
	if errors.Is(err, store.ErrUnavailable) {
		return true
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return !errors.Is(err, errAnswer) // nothing was sent: there are no credentials, say
	}
	return everywhere[api.ErrorCode()]
}

// everywhere are the codes of errors that do not depend on the operation.
var everywhere = map[string]bool{
	codeNoSuchBucket:               true,
	"AuthorizationHeaderMalformed": true,
	"ExpiredToken":                 true,
	"IllegalLocationConstraint":    true,
	"InvalidAccessKeyId":           true,
	"InvalidBucketName":            true,
	"InvalidToken":                 true,
	"PermanentRedirect":            true,
	"RequestTimeTooSkewed":         true,
	"SignatureDoesNotMatch":        true,
	"TokenRefreshRequired":         true,
	"XAdminUserNotFound":           true,
}

// probeError tells all that is lacking in one line.
type probeError struct {
	bucket string
	lacks  []lack
}

func (e *probeError) Error() string {
	var reasons []string
	tried := map[string][]string{} // by reason
	for _, l := range e.lacks {
		reason := explain(l.err)
		if isDenied(l.err) {
			reason += " (it needs " + l.needs + ")"
		}
		if tried[reason] == nil {
			reasons = append(reasons, reason)
		}
		tried[reason] = append(tried[reason], l.what)
	}
	texts := make([]string, len(reasons))
	for i, reason := range reasons {
		texts[i] = strings.Join(tried[reason], ", ") + ": " + reason
	}
	return fmt.Sprintf("bucket %q: %s", e.bucket, strings.Join(texts, "; "))
}

// Unwrap returns the reasons, so that errors.Is finds each.
func (e *probeError) Unwrap() []error {
	soft := true
	var reasons []error
	for _, l := range e.lacks {
		reasons = append(reasons, l.err)
		soft = soft && l.soft
	}
	if soft {
		reasons = append(reasons, ErrNoList)
	}
	return reasons
}

func isDenied(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == codeAccessDenied
}
