package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Child is one of the registries of a [Route].
type Child struct {
	// Prefix is what the names of the registry's repositories begin with, in whole path segments: "hub" is the prefix of
	// hub and hub/library/alpine, and not of hubble. "" is the prefix of all names.
	Prefix string

	// Registry is given the full names, prefix included.
	Registry Registry
}

// Route is a [Registry] over several others, each with the repositories that its prefix selects. Where several prefixes
// fit a name, the longest decides. Names that none fits do not exist, and cannot be pushed to.
//
// Repositories of different children share nothing: a mount from one to the other fails with ErrBlobUnknown, so that the
// client uploads.
type Route struct {
	children []Child
	byPrefix map[string]int // index in children
}

var _ Registry = (*Route)(nil)

// NewRoute returns a route over the children. It fails if two have the same prefix, a prefix is not a repository's name (and not
// empty), or a registry is nil.
func NewRoute(children ...Child) (*Route, error) {
	r := &Route{children: children, byPrefix: make(map[string]int, len(children))}
	for i, child := range children {
		if child.Prefix != "" && !ValidRepository(child.Prefix) {
			return nil, fmt.Errorf("new route: prefix %q is not a repository's name", child.Prefix)
		}
		if _, ok := r.byPrefix[child.Prefix]; ok {
			return nil, fmt.Errorf("new route: prefix %q is there twice", child.Prefix)
		}
		if child.Registry == nil {
			return nil, fmt.Errorf("new route: prefix %q has no registry", child.Prefix)
		}
		r.byPrefix[child.Prefix] = i
	}
	return r, nil
}

// find returns the index of the child that has a repository, or -1.
func (r *Route) find(repository string) int {
	for prefix := repository; prefix != ""; {
		if i, ok := r.byPrefix[prefix]; ok {
			return i
		}
		prefix = prefix[:max(0, strings.LastIndexByte(prefix, '/'))]
	}
	if i, ok := r.byPrefix[""]; ok {
		return i
	}
	return -1
}

// Child returns the child that has a repository, if there is one.
func (r *Route) Child(repository string) (child Child, ok bool) {
	if i := r.find(repository); i >= 0 {
		return r.children[i], true
	}
	return Child{}, false
}

// to returns the registry that has a repository.
func (r *Route) to(repository string) Registry {
	if child, ok := r.Child(repository); ok {
		return child.Registry
	}
	return nowhere{}
}

// Blob asks the child that has the repository.
func (r *Route) Blob(ctx context.Context, repository string, d digest.Digest) (Blob, error) {
	return r.to(repository).Blob(ctx, repository, d)
}

// StatBlob asks the child that has the repository.
func (r *Route) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	return r.to(repository).StatBlob(ctx, repository, d)
}

// Manifest asks the child that has the repository.
func (r *Route) Manifest(ctx context.Context, repository string, ref Reference) (Manifest, error) {
	return r.to(repository).Manifest(ctx, repository, ref)
}

// Tags asks the child that has the repository.
func (r *Route) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	return r.to(repository).Tags(ctx, repository, after, limit)
}

// Referrers asks the child that has the repository.
func (r *Route) Referrers(ctx context.Context, repository string, subject digest.Digest, page ReferrersPage) ([]ocispec.Descriptor, error) {
	return r.to(repository).Referrers(ctx, repository, subject, page)
}

// Repositories merges what the children list, each as far as its prefix selects it. Children that cannot list have nothing to
// show.
func (r *Route) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	return r.merge(after, limit, func(child Registry, after string, limit int) ([]string, error) {
		return child.Repositories(ctx, after, limit)
	})
}

// Holders merges what the children list, as Repositories does.
func (r *Route) Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error) {
	return r.merge(after, limit, func(child Registry, after string, limit int) ([]string, error) {
		return child.Holders(ctx, d, after, limit)
	})
}

// PushBlob asks the child that has the repository.
func (r *Route) PushBlob(ctx context.Context, repository string, d digest.Digest, body io.Reader, size int64) (ocispec.Descriptor, error) {
	return r.to(repository).PushBlob(ctx, repository, d, body, size)
}

// Mount asks the child that has both repositories. If there is none, it fails with ErrBlobUnknown.
func (r *Route) Mount(ctx context.Context, d digest.Digest, from, to string) (ocispec.Descriptor, error) {
	if r.find(from) != r.find(to) {
		return ocispec.Descriptor{}, ErrBlobUnknown
	}
	return r.to(to).Mount(ctx, d, from, to)
}

// StartUpload asks the child that has the repository.
func (r *Route) StartUpload(ctx context.Context, repository string, algorithm digest.Algorithm) (Upload, error) {
	return r.to(repository).StartUpload(ctx, repository, algorithm)
}

// UploadStatus asks the child that has the repository.
func (r *Route) UploadStatus(ctx context.Context, repository, id string) (Upload, error) {
	return r.to(repository).UploadStatus(ctx, repository, id)
}

// AppendUpload asks the child that has the repository.
func (r *Route) AppendUpload(ctx context.Context, repository, id string, chunk Chunk) (Upload, error) {
	return r.to(repository).AppendUpload(ctx, repository, id, chunk)
}

// FinishUpload asks the child that has the repository.
func (r *Route) FinishUpload(ctx context.Context, repository, id string, chunk Chunk, d digest.Digest) (ocispec.Descriptor, error) {
	return r.to(repository).FinishUpload(ctx, repository, id, chunk, d)
}

// CancelUpload asks the child that has the repository.
func (r *Route) CancelUpload(ctx context.Context, repository, id string) error {
	return r.to(repository).CancelUpload(ctx, repository, id)
}

// PutManifest asks the child that has the repository.
func (r *Route) PutManifest(ctx context.Context, repository string, put ManifestPut) (ManifestReceipt, error) {
	return r.to(repository).PutManifest(ctx, repository, put)
}

// DeleteTag asks the child that has the repository.
func (r *Route) DeleteTag(ctx context.Context, repository, tag string) error {
	return r.to(repository).DeleteTag(ctx, repository, tag)
}

// DeleteManifest asks the child that has the repository.
func (r *Route) DeleteManifest(ctx context.Context, repository string, d digest.Digest) error {
	return r.to(repository).DeleteManifest(ctx, repository, d)
}

// DeleteBlob asks the child that has the repository.
func (r *Route) DeleteBlob(ctx context.Context, repository string, d digest.Digest) error {
	return r.to(repository).DeleteBlob(ctx, repository, d)
}

// lister lists names of a child, by page.
type lister func(child Registry, after string, limit int) ([]string, error)

// merge returns the first limit names greater than after that the children list and that are routed to them, in byte order.
func (r *Route) merge(after string, limit int, list lister) ([]string, error) {
	cursors := make([]*cursor, len(r.children))
	for i := range r.children {
		cursors[i] = r.cursor(i, after, limit, list)
	}
	var names []string
	for len(names) < limit {
		var first *cursor
		for _, c := range cursors {
			if err := c.fill(); err != nil {
				return nil, err
			}
			if len(c.names) > 0 && (first == nil || c.names[0] < first.names[0]) {
				first = c
			}
		}
		if first == nil {
			return names, nil
		}
		names = append(names, first.names[0])
		first.names = first.names[1:]
	}
	return names, nil
}

// cursor goes through the names of one child.
type cursor struct {
	next  func(after string) (page []string, last bool, err error)
	keep  func(name string) bool
	after string
	names []string // read, and not yet used
	done  bool     // nothing is left to read
}

func (r *Route) cursor(i int, after string, limit int, list lister) *cursor {
	child := r.children[i]
	return &cursor{
		after: max(after, before(child.Prefix)),
		next: func(after string) ([]string, bool, error) {
			page, err := list(child.Registry, after, limit)
			if errors.Is(err, ErrUnsupported) {
				return nil, true, nil
			}
			if err != nil {
				return nil, false, fmt.Errorf("list %q: %w", child.Prefix, err)
			}
			return page, len(page) < limit || !mayFollow(page[len(page)-1], child.Prefix), nil
		},
		keep: func(name string) bool { return r.find(name) == i },
	}
}

// fill makes sure that there is a name in c.names, unless nothing is left.
func (c *cursor) fill() error {
	for len(c.names) == 0 && !c.done {
		page, last, err := c.next(c.after)
		if err != nil {
			return err
		}
		c.done = last
		if len(page) > 0 {
			c.after = page[len(page)-1]
		}
		for _, name := range page {
			if c.keep(name) {
				c.names = append(c.names, name)
			}
		}
	}
	return nil
}

// before returns a string that is less than all names with the prefix and greater than nearly all names before them: no name
// has a byte as large as its last one.
func before(prefix string) string {
	if prefix == "" {
		return ""
	}
	last := len(prefix) - 1
	return prefix[:last] + string(prefix[last]-1) + "\x7f"
}

// mayFollow reports whether names with the prefix may follow a name in byte order.
func mayFollow(name, prefix string) bool {
	return prefix == "" || name < prefix+string('/'+1)
}

// nowhere has the repositories that no child has: none.
type nowhere struct{ Unsupported }

func (nowhere) Blob(context.Context, string, digest.Digest) (Blob, error) {
	return Blob{}, ErrBlobUnknown
}

func (nowhere) StatBlob(context.Context, string, digest.Digest) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrBlobUnknown
}

func (nowhere) Manifest(context.Context, string, Reference) (Manifest, error) {
	return Manifest{}, ErrManifestUnknown
}

func (nowhere) Tags(context.Context, string, string, int) ([]string, error) {
	return nil, ErrNameUnknown
}

func (nowhere) Referrers(context.Context, string, digest.Digest, ReferrersPage) ([]ocispec.Descriptor, error) {
	return nil, nil
}

func (nowhere) UploadStatus(context.Context, string, string) (Upload, error) {
	return Upload{}, ErrBlobUploadUnknown
}

func (nowhere) Repositories(context.Context, string, int) ([]string, error) { return nil, nil }

func (nowhere) Holders(context.Context, digest.Digest, string, int) ([]string, error) {
	return nil, nil
}
