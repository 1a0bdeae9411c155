package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source is a registry that others fall through to.
type Source struct {
	Registry Registry

	// Link makes a blob of one of the registry's repositories visible in a local one, without a copy; ErrBlobUnknown if the
	// registry does not have it. nil: it cannot.
	Link func(ctx context.Context, repository string, d digest.Digest, to string) error
}

// FallThroughOptions configures [NewFallThrough]. The zero value works, and nil too.
type FallThroughOptions struct {
	// Mix also looks behind local repositories, for tags that they do not have, and behind sources that fail or refuse. Whoever can
	// push to what lies behind can then put tags beside those that were pushed before it: leave it out unless you trust them all alike.
	Mix bool

	// Owns reports whether a repository is the local registry's own. Default: whether it has a manifest, if that is a [Local]; else
	// whether it has tags, or a list of none.
	Owns func(ctx context.Context, repository string) (bool, error)
}

// FallThrough is a [Registry] in which the first of several that has something answers: the local one, and then the sources in their
// order. Everything is written to, and deleted from, the local one only.
//
// A repository that is local hides those of the same name behind it: tags, lists and referrers are its own alone, so that nobody
// can slip a tag under a name that is yours (dependency confusion). It is local from its first manifest on, as the blobs of a push that
// stopped half-way hide nothing, and until its last one is deleted: then the name leads to what lies behind it again, unless Owns says
// more. What is asked for by its digest is what it is, wherever it comes from, and falls through all the same.
//
// What no source gives is unknown, and so is what one refuses: registries refuse strangers what they do not have. A source that fails is
// no answer in a repository that is local, nor to StatBlob, which is what pushes ask: they go on without it. Else the failure is told.
// To StatBlob, and to manifests by digest in a local repository, no answer within 5 s is none; all else waits as long as its context.
//
// A manifest may be pushed that refers to what only a source has: a client that found a blob there did not upload it. It is linked from
// the source, or put here, before the manifest is, which takes as long as the source takes to have it: a blob is fetched as a whole.
type FallThrough struct {
	Writer
	Deleter
	local   Registry
	sources []*source
	options FallThroughOptions
}

var _ Registry = (*FallThrough)(nil)

// NewFallThrough returns a registry of a local one and those behind it. Where local is nil, there is nothing to write to. opts may be nil.
func NewFallThrough(local Registry, sources []Source, opts *FallThroughOptions) *FallThrough {
	if local == nil {
		local = nowhere{}
	}
	f := &FallThrough{Writer: local, Deleter: local, local: local}
	for _, each := range sources {
		f.sources = append(f.sources, &source{Source: each})
	}
	if opts != nil {
		f.options = *opts
	}
	if f.options.Owns == nil {
		f.options.Owns = f.isListed
		if own, ok := local.(*Local); ok {
			f.options.Owns = own.HasManifest
		}
	}
	return f
}

// isListed reports whether the local registry knows a repository, as far as every registry can tell.
func (f *FallThrough) isListed(ctx context.Context, repository string) (bool, error) {
	_, err := f.local.Tags(ctx, repository, "", 1)
	if errors.Is(err, ErrNameUnknown) {
		return false, nil
	}
	return err == nil, err
}

// owns reports whether a repository is a local one.
func (f *FallThrough) owns(ctx context.Context, repository string) (bool, error) {
	own, err := f.options.Owns(ctx, repository)
	if err != nil {
		return false, fmt.Errorf("look whether %s is local: %w", repository, err)
	}
	return own, nil
}

// hides reports whether a repository is a local one, behind which nobody is to look.
func (f *FallThrough) hides(ctx context.Context, repository string) (bool, error) {
	if f.options.Mix {
		return false, nil
	}
	return f.owns(ctx, repository)
}

// Blob implements [Reader].
func (f *FallThrough) Blob(ctx context.Context, repository string, d digest.Digest) (Blob, error) {
	found, err := f.local.Blob(ctx, repository, d)
	if !errors.Is(err, ErrBlobUnknown) {
		return found, err
	}
	return behind(ctx, f, wanted{repository: repository, unknown: ErrBlobUnknown},
		func(ctx context.Context, r Registry) (Blob, error) { return r.Blob(ctx, repository, d) })
}

// StatBlob implements [Reader]. Who pushes asks for it, and uploads what is unknown: so it is unknown also where a source fails, or takes
// long. A local repository asks the sources, too, since that may spare an upload: they learn the digests that are pushed.
func (f *FallThrough) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	found, err := f.local.StatBlob(ctx, repository, d)
	if !errors.Is(err, ErrBlobUnknown) {
		return found, err
	}
	return behind(ctx, f, wanted{repository: repository, unknown: ErrBlobUnknown, spare: true},
		func(ctx context.Context, r Registry) (ocispec.Descriptor, error) {
			return r.StatBlob(ctx, repository, d)
		})
}

// Manifest implements [Reader].
func (f *FallThrough) Manifest(ctx context.Context, repository string, ref Reference) (Manifest, error) {
	found, err := f.local.Manifest(ctx, repository, ref)
	if !errors.Is(err, ErrManifestUnknown) {
		return found, err
	}
	w, err := f.wantManifest(ctx, repository, ref)
	if err != nil {
		return Manifest{}, err
	}
	return behind(ctx, f, w,
		func(ctx context.Context, r Registry) (Manifest, error) { return r.Manifest(ctx, repository, ref) })
}

// Tags implements [Lister].
func (f *FallThrough) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	tags, err := f.local.Tags(ctx, repository, after, limit)
	if err != nil && !errors.Is(err, ErrNameUnknown) {
		return nil, err
	}
	known := err == nil
	if f.options.Mix {
		return f.allTags(ctx, repository, after, limit, known, tags)
	}
	if len(tags) > 0 {
		return tags, nil
	}
	if known {
		if own, err := f.owns(ctx, repository); own || err != nil {
			return tags, err
		}
	}
	found, err := behind(ctx, f, wanted{repository: repository, unknown: ErrNameUnknown, byName: true},
		func(ctx context.Context, r Registry) ([]string, error) { return r.Tags(ctx, repository, after, limit) })
	if known && errors.Is(err, ErrNameUnknown) {
		return tags, nil
	}
	return found, err
}

// allTags returns the tags of all registries together. known are those of the local one, if it knows the repository.
func (f *FallThrough) allTags(ctx context.Context, repository, after string, limit int, known bool, tags []string) ([]string, error) {
	nobody := &nobodyError{unknown: ErrNameUnknown}
	for _, source := range f.sources {
		more, err := source.Registry.Tags(ctx, repository, after, limit)
		if err != nil {
			if !isUnknown(err, ErrNameUnknown) {
				nobody.note(err)
			}
			continue
		}
		known = true
		tags = append(tags, more...)
	}
	if !known {
		if nobody.failed != nil {
			return nil, nobody.failed
		}
		return nil, nobody.answer()
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	return tags[:min(len(tags), limit)], nil
}

// Referrers implements [Lister].
func (f *FallThrough) Referrers(ctx context.Context, repository string, subject digest.Digest, page ReferrersPage) ([]ocispec.Descriptor, error) {
	found, err := f.local.Referrers(ctx, repository, subject, page)
	if err != nil {
		return nil, err
	}
	if hidden, err := f.hides(ctx, repository); hidden || err != nil {
		return found, err
	}
	var failed error
	for _, source := range f.sources {
		more, err := source.Registry.Referrers(ctx, repository, subject, page)
		if err != nil {
			if !isUnknown(err, ErrNameUnknown) && !isRefusal(err) && failed == nil {
				failed = err
			}
			continue
		}
		found = append(found, more...)
	}
	if len(found) == 0 && failed != nil { // else what is known is better than nothing
		if own, err := f.owns(ctx, repository); !own || err != nil {
			return nil, errors.Join(failed, err)
		}
	}
	slices.SortStableFunc(found, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	found = slices.CompactFunc(found, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest })
	return found[:min(len(found), page.Limit)], nil
}

// Repositories implements [Lister]: what all of them list.
func (f *FallThrough) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	names, err := f.local.Repositories(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	for _, source := range f.sources {
		more, err := source.Registry.Repositories(ctx, after, limit)
		if errors.Is(err, ErrUnsupported) {
			continue
		}
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), limit)], nil
}

// Holders implements [Lister]. Blobs can be mounted from local repositories.
func (f *FallThrough) Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error) {
	return f.local.Holders(ctx, d, after, limit)
}
