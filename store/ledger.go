package store

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Ledger keeps what the collector works on. Candidates are a superset of what nothing refers to; garbage is every key that
// the index has stopped naming.
type Ledger interface {
	// Candidates returns up to limit candidates that were last touched at least idle ago, the longest ago first.
	Candidates(ctx context.Context, idle time.Duration, limit int) ([]Candidate, error)

	// Garbage returns up to limit keys that were condemned at least age ago, the longest ago first.
	Garbage(ctx context.Context, age time.Duration, limit int) ([]Garbage, error)
}

// Candidate is content of a repository that has to be reviewed, since nothing may refer to it.
type Candidate struct {
	Repository string
	Digest     digest.Digest
	Touched    time.Time
	Deleted    time.Time // when a manifest of that digest was deleted; zero: none was, or it has been put again, or that is settled
}

// Garbage is an object that no row names, to be deleted.
type Garbage struct {
	Key       Key
	Condemned time.Time // as if: taking it puts it off
	Tries     int       // how often it was taken

	// Unfinished says that it was not condemned by a review, as finished content that nobody needs: writes may still be on their
	// way to it, and a multipart upload of the key may be unfinished.
	Unfinished bool

	// Size is how many bytes the content or the tail had that was under the key; 0 where nobody knows: of keys that were reserved,
	// of multipart uploads, and of what an audit has condemned.
	Size int64
}
