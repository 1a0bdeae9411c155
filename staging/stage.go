package staging

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/store"
)

// Options configures [New]. The zero value works.
type Options struct {
	Budget *Budget // shared by the whole process; nil: one of its own, of DefaultBudget

	// InlineLimit in bytes: content and leftovers up to it are kept in the index. Default 64 KiB; negative: only empty
	// content, which makes an object of every small chunk.
	InlineLimit int64
	PartSize    int64 // bytes; default: what the store prefers. An upload keeps the one that it was begun with
	MaxSize     int64 // bytes; the largest content. Default, and at most: PartSize times the store's number of parts

	Life store.Life // of sessions; default: 24 h idle, 6 days in all, 24 h as a tombstone

	// PartsInFlight is how many parts of one upload may be on their way to the store at once, while the next is received;
	// each is in buffers until it has arrived. Default 3.
	PartsInFlight int

	SaveBytes int64         // progress is saved after so many bytes in parts; default 64 MiB
	SaveEvery time.Duration // and after so much time, with all that has come by then; default 1 min
	Idle      time.Duration // after so long without a byte, an upload saves and gives its buffers back; default 5 s
	Busy      time.Duration // an upload that waits so long for a buffer fails with ErrBusy; default 30 s
	Linger    time.Duration // how long an upload whose request has ended may take to save what it has; default 30 s

	// WriteTimeout is how long one request to the objects may take; at most, and by default, 15 min, which is what the contract of
	// [store.Objects] allows. The collector has to know it: it leaves alone for longer what a write may still reach.
	WriteTimeout time.Duration
}

// MaxWriteTimeout is the longest that a request to the objects may take.
const MaxWriteTimeout = 15 * time.Minute

// Stage takes uploads. It keeps nothing between calls that another Stage over the same stores would have to know. Make
// one with [New]; it is safe for concurrent use.
type Stage struct {
	meta    Index
	objects store.Objects
	limits  store.Limits
	options Options
}

// Index is the part of [store.Metadata] that staging needs.
type Index interface {
	store.Sessions
	store.Contents
}

// New returns a Stage over the stores. opts may be nil.
func New(meta Index, objects store.Objects, opts *Options) *Stage {
	s := &Stage{meta: meta, objects: objects, limits: objects.Limits()}
	if opts != nil {
		s.options = *opts
	}
	o := &s.options
	if o.Budget == nil {
		o.Budget = NewBudget(DefaultBudget)
	}
	setDefault(&o.InlineLimit, 64<<10)
	setDefault(&o.PartSize, s.limits.PartSize)
	o.PartSize = min(max(o.PartSize, s.limits.MinPart), s.limits.MaxPart)
	largest := o.PartSize * int64(s.limits.MaxParts)
	setDefault(&o.MaxSize, largest)
	o.MaxSize = min(o.MaxSize, largest)
	setDefault(&o.Life.Idle, 24*time.Hour)
	setDefault(&o.Life.Total, 6*24*time.Hour)
	setDefault(&o.Life.Tombstone, 24*time.Hour)
	setDefault(&o.PartsInFlight, 3)
	setDefault(&o.SaveBytes, 64<<20)
	setDefault(&o.SaveEvery, time.Minute)
	setDefault(&o.Idle, 5*time.Second)
	setDefault(&o.Busy, 30*time.Second)
	setDefault(&o.Linger, 30*time.Second)
	setDefault(&o.WriteTimeout, MaxWriteTimeout)
	o.WriteTimeout = min(o.WriteTimeout, MaxWriteTimeout)
	return s
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Upload is how far an upload has come.
type Upload struct {
	ID       string
	Offset   int64 // durable bytes
	MinChunk int64 // bytes; smaller chunks cost more. 0: any size is as good
}

// Chunk is bytes that continue an upload.
type Chunk struct {
	Body io.Reader // nil is empty
	At   int64     // the offset that it begins at; -1: wherever the upload stands
	Size int64     // bytes; -1: until Body ends
}

// Start begins an upload. algorithm is the digest's that it will be finished with, or "" when that is not known; one
// that is not supported fails with [cas.ErrDigest].
func (s *Stage) Start(ctx context.Context, repository string, algorithm digest.Algorithm) (Upload, error) {
	if algorithm != "" && !cas.Supported(algorithm) {
		return Upload{}, fmt.Errorf("start upload: %w: algorithm not supported", cas.ErrDigest)
	}
	id := store.NewID()
	if err := s.meta.CreateSession(ctx, id, repository, algorithm); err != nil {
		return Upload{}, fmt.Errorf("start upload: %w", err)
	}
	return s.upload(&store.Session{ID: id}), nil
}

// Status tells how far an upload has come, on any replica. [store.ErrSessionUnknown] if it is unknown, finished,
// cancelled or expired.
func (s *Stage) Status(ctx context.Context, repository, id string) (Upload, error) {
	session, err := s.meta.Session(ctx, s.ref(repository, id))
	if err == nil && session.State == store.SessionFinished {
		err = store.ErrSessionUnknown
	}
	if err != nil {
		return Upload{}, fmt.Errorf("upload status: %w", err)
	}
	return s.upload(&session), nil
}

// Cancel ends an upload: whoever writes to it is fenced off, and its bytes become garbage. [store.ErrSessionUnknown] as
// for Status.
func (s *Stage) Cancel(ctx context.Context, repository, id string) error {
	session, err := s.meta.DropSession(ctx, s.ref(repository, id))
	if err != nil {
		return fmt.Errorf("cancel upload: %w", err)
	}
	s.abort(ctx, &session)
	return nil
}

// abort drops the parts of a session that is gone. Its key is in the garbage already, so a failure leaves it to the
// collector.
func (s *Stage) abort(ctx context.Context, session *store.Session) {
	if session.Multipart != (store.Multipart{}) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.Linger)
		defer cancel()
		_ = s.objects.Abort(ctx, session.Multipart)
	}
}

func (s *Stage) ref(repository, id string) store.SessionRef {
	return store.SessionRef{ID: id, Repository: repository, Life: s.options.Life}
}

func (s *Stage) upload(session *store.Session) Upload {
	u := Upload{ID: session.ID, Offset: session.Offset}
	if s.limits.MinPart > 1 {
		u.MinChunk = s.limits.MinPart
	}
	return u
}

// offsetError tells where an upload stands that a chunk did not continue.
func (s *Stage) offsetError(session *store.Session) error {
	return &OffsetError{Upload: s.upload(session)}
}
