package registry

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registry is what a registry means, with nothing of HTTP in it. [Local] is one, and so are a [Route] over several, a [ReadOnly]
// one, an upstream, and whatever somebody else writes: embed [Unsupported] to have the methods that you leave out.
//
// Repository names, tags and digests that a method is given are well-formed: see [ValidRepository], [ValidTag] and
// [cas.ParseDigest]. Errors are [Error] values, to be compared with errors.Is by their code, unless a method names
// another type; any other error is a failure of the registry itself, whose text no client sees.
// Every method honours its context.
type Registry interface {
	Reader
	Lister
	Writer
	Deleter
}

// Reader finds blobs and manifests.
type Reader interface {
	// Blob locates a blob for reading. ErrBlobUnknown.
	Blob(ctx context.Context, repository string, d digest.Digest) (Blob, error)

	// StatBlob tells whether a blob is here, so that it need not be uploaded; the registry keeps it for a while for the
	// manifest that is to come. ErrBlobUnknown.
	StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error)

	// Manifest returns a manifest by tag or digest. ErrManifestUnknown, even for a repository that is unknown: clients
	// (containers/image) fail hard on NAME_UNKNOWN here.
	Manifest(ctx context.Context, repository string, ref Reference) (Manifest, error)
}

// Lister lists, by page: the first limit entries greater than after, in byte order. A page that is shorter than its limit
// is the last one.
type Lister interface {
	// Tags lists a repository's tags. ErrNameUnknown.
	Tags(ctx context.Context, repository, after string, limit int) ([]string, error)

	// Referrers lists the manifests whose subject is the digest, by digest; an unknown repository or subject has none.
	Referrers(ctx context.Context, repository string, subject digest.Digest, page ReferrersPage) ([]ocispec.Descriptor, error)

	// Repositories lists all repositories.
	Repositories(ctx context.Context, after string, limit int) ([]string, error)

	// Holders lists the repositories that have a blob, which is where it can be mounted from.
	Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error)
}

// Writer stores blobs and manifests. A nil error means durable.
type Writer interface {
	// PushBlob stores a blob whose digest and size are known; size may be -1. ErrDigestInvalid when body is something
	// else, ErrSizeInvalid when it is longer or shorter than size, or larger than the registry takes.
	PushBlob(ctx context.Context, repository string, d digest.Digest, body io.Reader, size int64) (ocispec.Descriptor, error)

	// Mount makes a blob that one repository has visible in another. ErrBlobUnknown when from does not have it.
	Mount(ctx context.Context, d digest.Digest, from, to string) (ocispec.Descriptor, error)

	// StartUpload begins a resumable upload. algorithm is what its digest will be of, or "" when nobody said.
	StartUpload(ctx context.Context, repository string, algorithm digest.Algorithm) (Upload, error)

	// UploadStatus tells how far an upload has come. ErrBlobUploadUnknown.
	UploadStatus(ctx context.Context, repository, id string) (Upload, error)

	// AppendUpload adds a chunk. *OffsetError when it does not begin where the upload stands, or another writer took the
	// upload over. However it ends, what came before is kept, and UploadStatus tells how much is durable. ErrBlobUploadUnknown,
	// ErrSizeInvalid. It returns only after the last Read of the chunk's body has.
	AppendUpload(ctx context.Context, repository, id string, chunk Chunk) (Upload, error)

	// FinishUpload adds a last chunk, which may be empty, and makes the upload a blob if its digest is d; else
	// ErrDigestInvalid. Finishing again with the same digest succeeds. Errors as those of AppendUpload.
	FinishUpload(ctx context.Context, repository, id string, chunk Chunk, d digest.Digest) (ocispec.Descriptor, error)

	// CancelUpload ends an upload. ErrBlobUploadUnknown.
	CancelUpload(ctx context.Context, repository, id string) error

	// PutManifest stores a manifest and points tags to it. ErrManifestInvalid, ErrManifestBlobUnknown (an [Errors], one
	// for each missing digest), ErrDigestInvalid, ErrDenied (an immutable tag), ErrPreconditionFailed, ErrSizeInvalid.
	PutManifest(ctx context.Context, repository string, put ManifestPut) (ManifestReceipt, error)
}

// Deleter deletes. What is deleted is gone for readers at once. ErrUnsupported where the registry does not allow it.
type Deleter interface {
	// DeleteTag deletes a tag; the manifest stays. ErrManifestUnknown, ErrDenied (immutable).
	DeleteTag(ctx context.Context, repository, tag string) error

	// DeleteManifest deletes a manifest with its tags. ErrManifestUnknown, ErrDenied (an immutable tag), ErrUnsupported
	// (an index refers to it).
	DeleteManifest(ctx context.Context, repository string, d digest.Digest) error

	// DeleteBlob takes a blob out of the repository. ErrBlobUnknown, ErrUnsupported (a manifest refers to it).
	DeleteBlob(ctx context.Context, repository string, d digest.Digest) error
}

// Reference names a manifest: exactly one field is set.
type Reference struct {
	Tag    string
	Digest digest.Digest
}

// String returns the tag or the digest.
func (r Reference) String() string {
	if r.Tag != "" {
		return r.Tag
	}
	return r.Digest.String()
}

// Blob is a blob that was located, and not opened yet.
type Blob struct {
	ocispec.Descriptor

	// Open reads length bytes from offset on, both within the size; -1 means up to the end. The caller closes the
	// reader, which is an io.WriterTo where that saves copies.
	Open func(ctx context.Context, offset, length int64) (io.ReadCloser, error)

	// URL returns a URL that the client may read the blob from instead; nil means that there is none.
	URL func(ctx context.Context) (string, error)

	// Coming says that its bytes are still on their way here: what there is of them is sent to the client at once, and does not wait in
	// a buffer for more.
	Coming bool
}

// Manifest is a manifest or an index, as it was pushed. Of its descriptor MediaType, Digest and Size are set.
type Manifest struct {
	ocispec.Descriptor
	Bytes   []byte // not to be changed
	Warning string // that people are to see beside it, such as that it may be out of date; or ""
}

// Upload is how far an upload has come.
type Upload struct {
	ID       string // letters, digits and -_.=, at most 255: it becomes part of a URL
	Offset   int64  // durable bytes
	MinChunk int64  // bytes; smaller chunks cost more; 0 means that any size is as good
}

// Chunk is bytes for an upload.
type Chunk struct {
	Body io.Reader // nil is empty
	At   int64     // the offset that it begins at; -1 means wherever the upload stands
	Size int64     // bytes; -1 means until Body ends. A Body that ends early is a cut connection
}

// ManifestPut asks to store a manifest.
type ManifestPut struct {
	MediaType string        // without parameters; "" means what the manifest says of itself
	Digest    digest.Digest // that the client expects; "" means sha256 of the bytes
	Tags      []string
	Bytes     []byte
	IfAbsent  bool            // only if no tag of Tags exists
	IfTagged  []digest.Digest // only if each tag of Tags points to one of these; nil means no such condition
}

// ManifestReceipt tells what was stored.
type ManifestReceipt struct {
	ocispec.Descriptor
	Subject digest.Digest // that the manifest names, or ""
}

// ReferrersPage selects referrers.
type ReferrersPage struct {
	ArtifactTypes []string      // any of them; none means all
	After         digest.Digest // "" for the first page
	Limit         int
}

// OffsetError says that a chunk does not begin where its upload stands, which is told. Nothing has changed.
type OffsetError struct {
	Upload Upload
}

func (e *OffsetError) Error() string { return "chunk does not begin where the upload stands" }

// Unwrap returns ErrBlobUploadInvalid, which is what clients see, with the upload's Location and Range.
func (e *OffsetError) Unwrap() error { return ErrBlobUploadInvalid }
