package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Errors that a caller decides on, of [Objects].
var (
	// ErrObjectUnknown: no object has that key.
	ErrObjectUnknown = errors.New("object unknown")
	// ErrOutOfRange: the first byte asked for is at or past the object's end.
	ErrOutOfRange = errors.New("range starts past the end of the object")
	// ErrMultipartUnknown: the multipart upload was aborted, or never begun.
	ErrMultipartUnknown = errors.New("multipart upload unknown")
	// ErrInvalidPart: a part named at completion was never stored, or has been replaced since.
	ErrInvalidPart = errors.New("part unknown or replaced")
)

// Errors that a caller decides on, of [Metadata].
var (
	// ErrSessionUnknown: no upload session of that repository has that id, or it was cancelled or has expired.
	ErrSessionUnknown = errors.New("upload session unknown")
	// ErrContentUnknown: the repository has no link to content of that digest.
	ErrContentUnknown = errors.New("content unknown")
	// ErrManifestUnknown: the repository has no manifest of that digest or tag.
	ErrManifestUnknown = errors.New("manifest unknown")
	// ErrRepositoryUnknown: no repository has that name; a repository exists from its first link to its last.
	ErrRepositoryUnknown = errors.New("repository unknown")
	// ErrConditionFailed: a [TagCondition] did not hold.
	ErrConditionFailed = errors.New("tag is not in the expected state")
)

// Errors of both.
var (
	// ErrFenced: a later claim took the upload over, or it ended. What the caller knows of it is stale; it must stop.
	ErrFenced = errors.New("fenced off by a later claim")
	// ErrUnavailable: the store cannot answer now (it is busy, full or out of reach) and the caller may try again. Like any
	// other error that is not typed, it leaves the outcome unknown.
	ErrUnavailable = errors.New("store unavailable")
)

// OffsetError says that a claim's offset is not the session's durable one, or that the session takes no more bytes.
// Nothing has changed.
type OffsetError struct {
	Session Session // as it stands, without its parts
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("upload session continues at %d", e.Session.Offset)
}

// DeleteError names the keys that [Objects.Delete] could not delete; the others are gone.
type DeleteError struct {
	Failed map[Key]error // never empty
}

func (e *DeleteError) Error() string {
	keys := slices.Sorted(maps.Keys(e.Failed))
	if len(keys) == 0 {
		return "no object failed"
	}
	return fmt.Sprintf("%d objects not deleted, among them %s: %v", len(keys), keys[0], e.Failed[keys[0]])
}

// Unwrap returns the reasons, so that errors.Is finds each.
func (e *DeleteError) Unwrap() []error { return slices.Collect(maps.Values(e.Failed)) }

// MissingError names what a manifest refers to and the repository does not have.
type MissingError struct {
	Digests []digest.Digest // in the manifest's order, each once, never empty
}

func (e *MissingError) Error() string {
	names := make([]string, len(e.Digests))
	for i, d := range e.Digests {
		names[i] = d.String()
	}
	return "references missing: " + strings.Join(names, ", ")
}

// ReferencedError says that something cannot be deleted because a manifest of the repository needs it.
type ReferencedError struct {
	By digest.Digest // one such manifest
}

func (e *ReferencedError) Error() string { return "needed by manifest " + e.By.String() }

// TagLockedError says that a tag may not be moved or deleted.
type TagLockedError struct {
	Tag string
}

func (e *TagLockedError) Error() string { return "tag " + e.Tag + " is immutable" }
