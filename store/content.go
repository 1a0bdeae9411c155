package store

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Contents finds content by digest, for a repository. A link is what makes content visible in a repository: knowing a digest
// is not access to it.
type Contents interface {
	// Content returns the content that the repository links to, else ErrContentUnknown. It is one query.
	Content(ctx context.Context, repository string, d digest.Digest) (Content, error)

	// RenewContent is Content for somebody who is about to be told "you need not upload this": if the content is a candidate
	// with less than half of grace left, the candidate is touched, and only after that the content is looked up. So the
	// collector cannot take it before grace/2 has passed.
	RenewContent(ctx context.Context, repository string, d digest.Digest, grace time.Duration) (Content, error)

	// PutContent records inline content that the caller has verified, links it to the repository, which appears with its
	// first link, and makes it a candidate, touched now. If the content was there already, it is replaced: the newest
	// verified one wins, and an object's key that is not named any more becomes garbage. Putting it again changes nothing.
	PutContent(ctx context.Context, repository string, content Content) error
}

// Content is where the bytes of a digest are: in an object, or inline in the index.
type Content struct {
	Digest digest.Digest
	Size   int64
	Key    Key    // "" means inline
	Inline []byte // of Size bytes, shared: not to be changed
}

// IsInline reports whether the bytes are in the index itself.
func (c Content) IsInline() bool { return c.Key == "" }
