package gc

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// FindingKind is a kind of thing that would go.
type FindingKind string

// What [Preview] finds.
const (
	FindLink     FindingKind = "link"     // a repository's link to content that another one keeps
	FindContent  FindingKind = "content"  // with its last link
	FindManifest FindingKind = "manifest" // that a policy lets go, or that would be evicted
	FindTag      FindingKind = "tag"      // that a policy lets go
	FindUpload   FindingKind = "upload"   // that has outlived its life
	FindObject   FindingKind = "object"   // that the index has stopped naming, and whose delay is over
	FindPattern  FindingKind = "pattern"  // of a policy, that matches nothing: nothing goes, or stays, by it

	// FindRepository is told once, without a name: repositories that were deleted are still there in part.
	FindRepository FindingKind = "repository"
)

// Finding is one thing that would go, and why.
type Finding struct {
	Kind       FindingKind   `json:"kind"`
	Repository string        `json:"repository,omitempty"` // "" of what was a deleted repository's; of a pattern, itself or the policy's
	Digest     digest.Digest `json:"digest,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	ID         string        `json:"id,omitempty"`   // of an upload
	Key        store.Key     `json:"key,omitempty"`  // of an object
	Size       int64         `json:"size,omitempty"` // bytes that would be free, or that an upload has come to; of an object, if they are known
	Reason     string        `json:"reason"`
}

// String tells the finding in one line.
func (f Finding) String() string {
	parts := []string{string(f.Kind)}
	if f.Repository != "" {
		parts = append(parts, f.Repository)
	}
	if f.Tag != "" {
		parts = append(parts, f.Tag)
	}
	if f.Digest != "" {
		parts = append(parts, f.Digest.String())
	}
	if f.ID != "" {
		parts = append(parts, f.ID)
	}
	if f.Key != "" {
		parts = append(parts, string(f.Key))
	}
	if f.Size > 0 {
		parts = append(parts, fmt.Sprintf("(%d bytes)", f.Size))
	}
	return strings.Join(parts, " ") + ": " + f.Reason
}
