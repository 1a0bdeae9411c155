package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
)

// LocalOptions configures [NewLocal]. The zero value works.
type LocalOptions struct {
	Budget      *staging.Budget // buffers of uploads, for the whole process; nil: one of its own, 64 MiB
	InlineLimit int64           // bytes; blobs up to it are kept in the index. Default 64 KiB; negative: only empty ones
	PartSize    int64           // bytes; of uploads. Default: what the objects prefer. The largest blob has as many parts as they take
	MaxBlob     int64           // bytes; the largest blob. Default: what PartSize leads to
	UploadLife  store.Life      // how long uploads last; default 24 h idle, 6 days in all
	Grace       time.Duration   // how long a blob that no manifest refers to is kept; default 24 h

	// WriteTimeout is how long one request to the objects may take; default, and at most, 15 min. The collector has to know it.
	WriteTimeout time.Duration

	// Pulled is told of each manifest that was read, by its digest, and by its tag if that was asked for. It must be quick, and
	// safe for concurrent use; a collector's policies may want to know. nil: nobody is told.
	Pulled func(repository string, d digest.Digest, tag string)

	// Redirect returns a URL that a client may read the object from; nil: blobs are never redirected.
	Redirect func(ctx context.Context, key store.Key) (string, error)

	// Immutable reports whether a tag, once it is there, can neither be moved nor deleted, nor its manifest be deleted.
	// It is called inside transactions, and has to be quick and pure; see [ParseTagPatterns]. nil: no tag is.
	Immutable func(repository, tag string) bool

	NoDelete              bool // refuse every delete with UNSUPPORTED
	AllowMissing          bool // take manifests whose references are not here: sparse indexes
	AllowUnknownManifests bool // take manifests of other media types; what they refer to is not known, and not kept for them
}

// Local is the [Registry] on a store of its own: any number of replicas over the same index and objects are one registry.
// Make one with [NewLocal].
//
// A manifest, and a blob's whereabouts, are one query of the index; reading a blob is one more request to the objects, or none
// where it is kept inline.
type Local struct {
	meta     store.Metadata
	contents *cas.Store
	stage    *staging.Stage
	options  LocalOptions
}

var _ Registry = (*Local)(nil)

// NewLocal returns the registry on an index and objects. opts may be nil. There is nothing to close: the stores are the
// caller's.
func NewLocal(meta store.Metadata, objects store.Objects, opts *LocalOptions) *Local {
	if opts == nil {
		opts = &LocalOptions{}
	}
	return &Local{
		meta:     meta,
		contents: cas.New(meta, objects, &cas.Options{InlineLimit: opts.InlineLimit, Grace: opts.Grace}),
		stage: staging.New(meta, objects, &staging.Options{
			Budget:      opts.Budget,
			InlineLimit: opts.InlineLimit,
			PartSize:    opts.PartSize,
			MaxSize:     opts.MaxBlob,
			Life:        opts.UploadLife,

			WriteTimeout: opts.WriteTimeout,
		}),
		options: *opts,
	}
}

// locked returns which of a repository's tags may not change.
func (l *Local) locked(repository string) func(tag string) bool {
	if l.options.Immutable == nil {
		return nil
	}
	return func(tag string) bool { return l.options.Immutable(repository, tag) }
}

// translations is the one place that turns what the layers below say into what a Registry says. Errors that are not in it stay
// as they are: failures of the registry itself.
var translations = []struct {
	from error
	to   error
}{
	{store.ErrSessionUnknown, ErrBlobUploadUnknown},
	{store.ErrContentUnknown, ErrBlobUnknown},
	{store.ErrManifestUnknown, ErrManifestUnknown},
	{store.ErrRepositoryUnknown, ErrNameUnknown},
	{store.ErrConditionFailed, ErrPreconditionFailed},
	{store.ErrUnavailable, &RetryError{Err: ErrUnavailable}},
	{staging.ErrBusy, &RetryError{Err: ErrUnavailable.With("too many uploads at once")}},
}

// translate keeps err in the chain, for logs.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if said := translateTyped(err); said != nil {
		return said
	}
	for _, t := range translations {
		if errors.Is(err, t.from) {
			return fmt.Errorf("%w: %w", t.to, err)
		}
	}
	return err
}

// translateTyped turns errors that carry something into errors that carry it on.
func translateTyped(err error) error {
	var (
		offset     *staging.OffsetError
		size       *staging.SizeError
		body       *staging.BodyError
		mismatch   *cas.MismatchError
		missing    *store.MissingError
		referenced *store.ReferencedError
		locked     *store.TagLockedError
	)
	switch {
	case errors.As(err, &offset):
		return &OffsetError{Upload: Upload(offset.Upload)}
	case errors.As(err, &size):
		return ErrTooLarge.With("the largest blob has %d bytes", size.Limit)
	case errors.As(err, &body) && errors.As(body.Err, new(*Error)):
		return err // the body itself says why
	case errors.As(err, &body):
		return fmt.Errorf("%w: %w", ErrSizeInvalid.With("the request's body ended early"), err)
	case errors.As(err, &mismatch):
		return ErrDigestInvalid.With("%s", mismatch)
	case errors.As(err, &missing):
		return missingReferences(missing)
	case errors.As(err, &referenced):
		return ErrUnsupported.With("manifest %s needs it; delete that first", referenced.By)
	case errors.As(err, &locked):
		return ErrDenied.With("%s", locked)
	}
	return nil
}

func missingReferences(missing *store.MissingError) Errors {
	errs := make(Errors, len(missing.Digests))
	for i, d := range missing.Digests {
		errs[i] = ErrManifestBlobUnknown.WithDetail(map[string]string{"digest": d.String()})
	}
	return errs
}
