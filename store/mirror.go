package store

import (
	"context"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// MirrorPrefix is what the names of mirrored repositories begin with: those that hold what was pulled through from upstreams. No
// client can name one, since names begin with a letter or a digit; so what is in them is never what somebody pushed, though
// all of them share contents. They come after all others in the order of names.
const MirrorPrefix = "~"

// IsMirror reports whether a repository is a mirrored one.
func IsMirror(repository string) bool { return strings.HasPrefix(repository, MirrorPrefix) }

// Mirror keeps what was pulled through from upstreams, in repositories of their own that [MirrorPrefix] tells from others. What
// is kept comes there like anything else, by PutManifest and by uploads.
type Mirror interface {
	// MirroredTag is Manifest for a tag, and tells how long ago the tag was last put or confirmed. It is one query.
	// ErrManifestUnknown.
	MirroredTag(ctx context.Context, repository, tag string) (MirroredTag, error)

	// ConfirmTag says that a tag has just been found to be what it is here. It fails with ErrManifestUnknown if there is no such
	// tag, or it points to another manifest by now.
	ConfirmTag(ctx context.Context, repository, tag string, d digest.Digest) error

	// ClaimFetch reports whether holder may fetch and keep content, for life from now on: nobody else has claimed it, or his time
	// is over. Whoever has claimed it may claim it again, which renews it. Claims whose time is over are forgotten on the way.
	// It keeps work from being done twice, and nothing depends on it.
	ClaimFetch(ctx context.Context, d digest.Digest, holder string, life time.Duration) (claimed bool, err error)

	// ReleaseFetch ends holder's claim. It does nothing if there is none.
	ReleaseFetch(ctx context.Context, d digest.Digest, holder string) error

	// MirroredSize adds up the contents that manifests of mirrored repositories refer to, or are, each once, a page at a time: it
	// looks at up to limit links of mirrored repositories after one, in the order of repository and digest. Its cost grows with
	// what is mirrored, and not with the rest.
	MirroredSize(ctx context.Context, after ManifestAt, limit int) (MirroredPage, error)

	// EvictManifest is DeleteManifest for a manifest of a mirrored repository that goes with its tags because nobody wants it. It
	// looks again, in the transaction, at what that was decided by: it fails with ErrConditionFailed if the manifest was put or
	// pulled within eviction.Quiet, or the repository is not mirrored; with *ReferencedError if another manifest refers to it;
	// and with ErrManifestUnknown. It returns how many bytes have become garbage in the eyes of MirroredSize.
	EvictManifest(ctx context.Context, eviction ManifestEviction) (freed int64, err error)
}

// MirroredTag is a manifest, and how fresh the tag is that led to it.
type MirroredTag struct {
	Manifest
	Age time.Duration // since the tag was put or confirmed
}

// MirroredPage is a part of what is mirrored.
type MirroredPage struct {
	Contents int
	Bytes    int64
	Last     ManifestAt // where the next page begins, whether it is a manifest or not
	Done     bool       // there is no next page
}

// ManifestEviction asks for a manifest of a mirrored repository to be deleted.
type ManifestEviction struct {
	Repository string
	Digest     digest.Digest
	Quiet      time.Duration // not put or pulled for so long
}
