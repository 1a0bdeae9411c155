package store

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Catalog keeps manifests, tags, referrers and repositories.
//
// A repository appears with its first link and goes with its last. A manifest is content with a link, whose references are
// edges; each is kept whether its target is here or not.
type Catalog interface {
	// PutManifest stores a manifest, its edges and its tags in one transaction, and takes what it refers to off the
	// candidates. Once it has returned nil, everything the manifest refers to that was present stays until the manifest
	// is deleted.
	// It fails with *MissingError (references that are not here, unless allowed), ErrConditionFailed or *TagLockedError.
	// Putting the same again changes nothing; with a condition, it may find the condition no longer met.
	PutManifest(ctx context.Context, put ManifestPut) error

	// Manifest returns a manifest with its bytes, by one query, else ErrManifestUnknown.
	Manifest(ctx context.Context, repository string, ref ManifestRef) (Manifest, error)

	// Tags returns a page of the repository's tags. ErrRepositoryUnknown.
	Tags(ctx context.Context, repository, after string, limit int) ([]string, error)

	// Referrers returns a page of the manifests whose subject is the digest, by digest. An unknown repository or subject has
	// none. Each has its media type, digest, size, artifact type and annotations.
	Referrers(ctx context.Context, repository string, subject digest.Digest, page ReferrersPage) ([]ocispec.Descriptor, error)

	// Repositories returns a page of all repositories' names.
	Repositories(ctx context.Context, after string, limit int) ([]string, error)

	// Holders returns a page of the names of the repositories that link to the content.
	Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error)

	// Mount links content that one repository has to another one, and makes it a candidate there, touched now. It returns
	// the content, or ErrContentUnknown when from has no link to it. Mounting again changes nothing.
	Mount(ctx context.Context, d digest.Digest, from, to string) (Content, error)

	// DeleteTag deletes a tag; its manifest stays. ErrManifestUnknown when there is no such tag.
	DeleteTag(ctx context.Context, repository, tag string) error

	// DeleteManifest deletes a manifest from the repository with its tags, its link and its edges, and makes all it
	// referred to, and itself, candidates, touched now. Referrers of it stay. It fails with ErrManifestUnknown, with
	// *ReferencedError when another manifest refers to it (as a child; a subject may go), or with *TagLockedError when it
	// has a tag for which locked (which may be nil, and must be quick and pure) answers true.
	DeleteManifest(ctx context.Context, repository string, d digest.Digest, locked func(tag string) bool) error

	// DeleteContent deletes the link of content that is not a manifest, and makes it a candidate, touched now. It fails
	// with ErrContentUnknown, or with *ReferencedError when a manifest of the repository refers to it, or it is one.
	DeleteContent(ctx context.Context, repository string, d digest.Digest) error
}

// ManifestRef names a manifest by tag or by digest: exactly one of them is set.
type ManifestRef struct {
	Tag    string
	Digest digest.Digest
}

// String returns the tag or the digest.
func (r ManifestRef) String() string {
	if r.Tag != "" {
		return r.Tag
	}
	return r.Digest.String()
}

// Manifest is a manifest or an index as it was pushed.
type Manifest struct {
	Digest       digest.Digest
	MediaType    string
	ArtifactType string        // as the referrers API tells it
	Subject      digest.Digest // or ""
	Annotations  map[string]string
	Bytes        []byte // shared: not to be changed
}

// ManifestPut asks to store a manifest.
type ManifestPut struct {
	Repository   string
	Manifest     Manifest
	References   []Reference // not the subject, which may be missing
	AllowMissing bool        // references need not be here
	Tags         []string    // that shall point to it
	Condition    TagCondition
	Locked       func(tag string) bool // tags that may be created, not moved; nil: none. Quick and pure
}

// Reference is one of the things that a manifest refers to.
type Reference struct {
	Digest   digest.Digest
	Manifest bool // of a known manifest type: content that was pushed as a blob does not do
	Optional bool // may be missing: non-distributable layers
}

// TagCondition is what must hold for each tag of a put before it is moved. The zero value asks nothing.
type TagCondition struct {
	Absent bool            // the tag does not exist
	AnyOf  []digest.Digest // if not empty: the tag exists and points to one of these
}

// Met reports whether the condition holds for a tag that points to current, or "" when it does not exist.
func (c TagCondition) Met(current digest.Digest) bool {
	if c.Absent && current != "" {
		return false
	}
	if len(c.AnyOf) == 0 {
		return true
	}
	for _, d := range c.AnyOf {
		if d == current {
			return true
		}
	}
	return false
}

// ReferrersPage selects referrers.
type ReferrersPage struct {
	ArtifactTypes []string      // any of them; none means all
	After         digest.Digest // or "" for the first page
	Limit         int
}
