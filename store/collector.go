package store

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Collector is what the collector does to the index. Each method is one short transaction, any number of collectors may
// call any of them at once, and none waits for a client: what somebody holds is left for another time. What a method
// has done is found done by whoever runs it again, so that a collector may die between any two of them.
type Collector interface {
	// Due tells which work is due. It probes one index for each kind of work, and reads at most one row of what is due from
	// it, however much is stored.
	Due(ctx context.Context, after Deadlines) (Work, error)

	// ReviewCandidates takes up to review.Limit candidates that were last touched at least review.Grace ago, the longest ago
	// first, and decides on each:
	//   - What an edge refers to in its repository, or is a manifest there, is needed: it is a candidate no more.
	//   - A link that is not needed is deleted, and its repository with the last one. The candidate goes.
	//   - Content that has lost its last link is deleted, also if this link was gone before, and its key becomes garbage.
	//   - What is locked by somebody else, or held back by review.Hold, stays a candidate.
	// What the candidate, its content and its links are is locked first, and looked at second: no manifest can be accepted
	// meanwhile that refers to what goes.
	ReviewCandidates(ctx context.Context, review Review) (Reviewed, error)

	// PreviewCandidates tells what ReviewCandidates would do to the candidates after one, without doing it, as if each
	// page before it had been done. The pages are in the order of touched, repository and digest.
	PreviewCandidates(ctx context.Context, grace time.Duration, after Candidate, limit int) ([]Preview, error)

	// SettleCandidate says that a candidate whose manifest was deleted, and was held back, need not be held back any more.
	// It does nothing to one that has been touched since, or is gone.
	SettleCandidate(ctx context.Context, candidate Candidate) error

	// TakeGarbage returns up to take.Limit objects that are due to be deleted, the longest condemned first, and puts each off by
	// take.Again: whoever takes them has so long to delete and forget them, and then somebody else gets them. Tries counts
	// this time too.
	TakeGarbage(ctx context.Context, take Take) ([]Garbage, error)

	// PreviewGarbage tells what TakeGarbage would take after one, without taking it: up to take.Limit objects, in the order of
	// condemned and key. Tries are as they are stored, and take.Again means nothing.
	PreviewGarbage(ctx context.Context, take Take, after Garbage) ([]Garbage, error)

	// ForgetGarbage deletes the rows of objects that are gone from the store. Keys that are no garbage are passed over.
	ForgetGarbage(ctx context.Context, keys []Key) error

	// EndSessions ends up to limit sessions that have outlived life, those that began first, which fences their writers off, and
	// condemns every key that they name. It returns those that were under way, so that the caller can abort their multipart
	// uploads at once; tombstones just go, and count. It ends no more of them than [EndTogether] says, since what they consist
	// of goes with them; Ended.More tells whether another call is needed.
	EndSessions(ctx context.Context, life Life, limit int) (Ended, error)

	// PreviewSessions tells which sessions EndSessions would end after one, tombstones too, without ending them: up to limit, in
	// the order of started and id.
	PreviewSessions(ctx context.Context, life Life, after Outlived, limit int) ([]Outlived, error)

	// DeleteRepository takes a repository's name away in one step: nothing of it is to be found any more, and the name is free.
	// What hangs on it is drained. Uploads under way are not touched; one that finishes makes a new repository of the name.
	// ErrRepositoryUnknown.
	DeleteRepository(ctx context.Context, repository string) error

	// DrainRepositories deletes up to limit rows of what hangs on repositories that were deleted: their tags, edges, manifests,
	// and links. What edges and links led to becomes a candidate, touched now, of the repository "". It returns how many rows it
	// deleted; 0 means that no repository is left to be drained by this caller now.
	DrainRepositories(ctx context.Context, limit int) (int, error)
}

// Deadlines say from when on work is due.
type Deadlines struct {
	Grace      time.Duration // of a candidate since it was last touched
	Delay      time.Duration // of garbage since it was condemned
	Unfinished time.Duration // the same for what writes may still reach; at least Delay
	Life       Life          // of sessions
}

// Work is which work is due.
type Work struct {
	Candidates, Garbage, Sessions, Repositories bool
}

// Any reports whether any is.
func (w Work) Any() bool { return w.Candidates || w.Garbage || w.Sessions || w.Repositories }

// Review asks for a batch of candidates to be reviewed.
type Review struct {
	Grace time.Duration // since a candidate was last touched
	Limit int

	// Hold, if not nil, reports whether candidates of the repository whose manifest was deleted are to be held back, and
	// returned. It is called within the transaction, and must be quick and pure.
	Hold func(repository string) bool
}

// Reviewed is what a review did.
type Reviewed struct {
	Candidates int         // that are none any more
	Left       int         // that stay, because somebody has locked what they are
	Links      int         // deleted
	Contents   int         // deleted
	Bytes      int64       // of these contents
	Held       []Candidate // that stay, because they were held back; the next review returns them again
}

// Preview is what a review would do to a candidate.
type Preview struct {
	Candidate
	Link    bool  // its link would go
	Content bool  // its content would go, now or with the last of the links that are due
	Size    int64 // of the content, bytes
}

// Take asks for garbage to delete.
type Take struct {
	Delay      time.Duration // since it was condemned
	Unfinished time.Duration // the same for what writes may still reach; at least Delay
	Again      time.Duration // until somebody else gets it
	Limit      int
}

// Ended is what EndSessions ended.
type Ended struct {
	Sessions   []Session // as they were, without their parts, hashes and inline bytes
	Tombstones int
	More       bool // it stopped at a limit: more may have outlived their lives
}

// Outlived is a session that has outlived its life.
type Outlived struct {
	ID         string
	Repository string
	State      SessionState
	Started    time.Time
	Touched    time.Time
	Size       int64 // durable bytes; 0 of a tombstone
}

// ManifestAt is a manifest of a repository.
type ManifestAt struct {
	Repository string
	Digest     digest.Digest
}

// Auditor compares what is stored with the index, page by page.
type Auditor interface {
	// UnknownKeys returns those of the keys that no row names: no content, no session, no garbage. It looks everywhere in one
	// statement, so that a key which moves from one to the other is not missed. No key that was minted and is unknown can
	// become known later.
	UnknownKeys(ctx context.Context, keys []Key) ([]Key, error)

	// CondemnKeys makes garbage of those of the keys that no row names, in the statement that looks, and returns them. What
	// was begun under them may be unfinished.
	CondemnKeys(ctx context.Context, keys []Key) ([]Key, error)

	// StoredContents returns a page of the contents that are objects, by key.
	StoredContents(ctx context.Context, after Key, limit int) ([]StoredContent, error)

	// MarkContent says that an object is missing, or is there after all: content that is missing reads as absent, in every
	// repository, until it is pushed again. It does nothing, and returns false, if the content has another key by now, or is
	// marked so already.
	MarkContent(ctx context.Context, d digest.Digest, key Key, missing bool) (changed bool, err error)

	// Dependents returns a page of the manifests that refer to the content, or are it, in the order of repository and digest.
	Dependents(ctx context.Context, d digest.Digest, after ManifestAt, limit int) ([]ManifestAt, error)
}

// StoredContent is content that is an object.
type StoredContent struct {
	Key     Key
	Digest  digest.Digest
	Size    int64
	Missing bool // reads as absent
}

// Retention is what policies need to know of repositories, and do to them.
type Retention interface {
	// RecordPulls sets when manifests and tags were last pulled to now, where that is known to be at least an hour ago or is
	// not known. What is not there is passed over.
	RecordPulls(ctx context.Context, pulls []Pull) error

	// ManifestRecords returns a page of the repository's manifests, by digest. An unknown repository has none.
	ManifestRecords(ctx context.Context, repository string, after digest.Digest, limit int) ([]ManifestRecord, error)

	// TagRecords returns a page of the repository's tags, by name. An unknown repository has none.
	TagRecords(ctx context.Context, repository, after string, limit int) ([]TagRecord, error)

	// ExpireManifest is DeleteManifest of one that has no tag, for a policy. Everything that the policy decided by is looked at
	// again, in the transaction: it fails with ErrConditionFailed if the manifest has a tag, was pushed or pulled within
	// expiry.Quiet, was pushed after expiry.PushedBy, or has a subject that is here while expiry.Orphan is set; with
	// ErrManifestUnknown or *ReferencedError.
	ExpireManifest(ctx context.Context, expiry ManifestExpiry) error

	// ExpireTag is DeleteTag for a policy: it fails with ErrConditionFailed if the tag points to another manifest by now, or
	// was pushed or pulled within expiry.Quiet, and with ErrManifestUnknown if there is no such tag.
	ExpireTag(ctx context.Context, expiry TagExpiry) error
}

// Pull is a manifest that somebody has pulled, by digest or by tag.
type Pull struct {
	Repository string
	Digest     digest.Digest
	Tag        string // or ""
}

// ManifestRecord is what a policy needs to know of a manifest.
type ManifestRecord struct {
	Digest    digest.Digest
	MediaType string
	Size      int64         // of the manifest's own bytes
	Subject   digest.Digest // or ""
	Pushed    time.Time     // last, within the minute; exactly of one that has a subject
	Pulled    time.Time     // as RecordPulls has set it: the last one may have been up to an hour later; zero: not that anybody knows
	Tagged    bool          // it has some tag
	Parent    bool          // some manifest refers to it
}

// TagRecord is what a policy needs to know of a tag.
type TagRecord struct {
	Name   string
	Digest digest.Digest
	Pushed time.Time // last, as this tag, within the minute
	Pulled time.Time // as this tag, as RecordPulls has set it: the last one may have been up to an hour later; zero: not that anybody knows
}

// ManifestExpiry asks for a manifest without tags to be deleted.
type ManifestExpiry struct {
	Repository string
	Digest     digest.Digest
	Quiet      time.Duration // not pushed or pulled for so long
	Orphan     bool          // only if its subject is not here
	PushedBy   time.Time     // only if it was last pushed no later, by the index's clock; zero: whenever that was
}

// TagExpiry asks for a tag to be deleted.
type TagExpiry struct {
	Repository string
	Tag        string
	Digest     digest.Digest // that it still points to
	Quiet      time.Duration // not pushed or pulled for so long
}
