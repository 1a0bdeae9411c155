package gc

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// FindingKind is a kind of thing that would go.
type FindingKind string

// What [Preview] finds.
const (
	FindLink     FindingKind = "link"     // a repository's link to content that another one keeps
	FindContent  FindingKind = "content"  // with its last link
	FindManifest FindingKind = "manifest" // that a policy lets go, or that would be evicted
	FindTag      FindingKind = "tag"      // that a policy lets go
	FindPattern  FindingKind = "pattern"  // of a policy, that matches nothing: nothing goes, or stays, by it
)

// Finding is one thing that would go, and why.
type Finding struct {
	Kind       FindingKind   `json:"kind"`
	Repository string        `json:"repository,omitempty"` // "" of what was a deleted repository's; of a pattern, itself or the policy's
	Digest     digest.Digest `json:"digest,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Size       int64         `json:"size,omitempty"` // bytes that would be free
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
	if f.Size > 0 {
		parts = append(parts, fmt.Sprintf("(%d bytes)", f.Size))
	}
	return strings.Join(parts, " ") + ": " + f.Reason
}
