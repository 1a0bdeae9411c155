package store

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Sessions keeps uploads under way, so that any replica can continue any of them.
//
// A session's Version counts its claims. The last claim owns the session at once; whoever claimed it earlier finds its saves
// refused with ErrFenced. So there are no leases, no heartbeats and no waiting.
//
// The keys that a session names are its reservation's, its multipart upload's and its tails'. A key that a transaction
// stops naming goes into the garbage in that transaction, unless its only writer says that it never used it; [Session.Claim],
// [Session.Save] and [Session.Finish] tell which.
type Sessions interface {
	// CreateSession begins an upload at offset 0, unclaimed. The repository need not exist. Creating it again changes nothing.
	CreateSession(ctx context.Context, id, repository string, algorithm digest.Algorithm) error

	// Session returns a session that is alive, without its parts, or the tombstone of one that is finished.
	// Otherwise ErrSessionUnknown.
	Session(ctx context.Context, ref SessionRef) (Session, error)

	// ClaimSession makes the caller the session's only writer, in one step that tests the offset and bumps the version,
	// and returns the session as it then is. It touches the session. It fails with ErrSessionUnknown, or with an
	// *OffsetError when the claim's offset is not the durable one, or when bytes are to be appended to a session that is
	// completing; then nothing has changed, and the earlier claim still holds. The tombstone of a finished session is
	// returned as it is, unclaimed.
	ClaimSession(ctx context.Context, claim Claim) (Session, error)

	// SaveSession records how far a claim has come: what it counts must be durable in the objects. ErrFenced when the
	// version is not the session's, or the session is gone. Saving the same again changes nothing, unless it claims.
	SaveSession(ctx context.Context, save Save) error

	// FinishSession turns an upload into content: it records the content, links it to the session's repository, makes it
	// a candidate, touched now, and leaves of the session a tombstone (id, repository, digest), all in one transaction.
	// Content that was there already is replaced: the newest verified key wins, and the other becomes garbage. What is
	// a manifest may stay inline instead, so that reading it stays one query; then the new key becomes garbage.
	// ErrFenced when the version is not the session's, or the session is gone. Finishing again with the same version and
	// digest succeeds (an answer may have been lost).
	FinishSession(ctx context.Context, finish Finish) error

	// DropSession ends an unfinished session, as a cancel does: the row goes, and every key it named becomes garbage.
	// It returns the session as it was, so that the caller can abort its multipart upload. ErrSessionUnknown otherwise.
	DropSession(ctx context.Context, ref SessionRef) (Session, error)
}

// SessionRef names a session together with the life that it may have.
type SessionRef struct {
	ID         string
	Repository string // a session is known in its own repository only
	Life       Life
}

// Life is how long a session lasts. A zero duration means without end.
type Life struct {
	Idle      time.Duration // since the last claim or save
	Total     time.Duration // since its creation
	Tombstone time.Duration // since it was finished
}

// SessionState is where a session is in its life.
type SessionState int

// The states of a session, in their only order.
const (
	SessionOpen       SessionState = iota // takes bytes
	SessionCompleting                     // has all its bytes, in parts; only its completion is left
	SessionFinished                       // a tombstone: ID, Repository, Version and Digest, nothing else
)

// Session is an upload under way.
type Session struct {
	ID         string
	Repository string
	State      SessionState
	Version    int64            // of the last claim
	Algorithm  digest.Algorithm // that the client announced, or ""
	Digest     digest.Digest    // completing: what the bytes were compared with, or ""; finished: the content's
	Started    time.Time
	Touched    time.Time
	Reserved   Reservation // of the last claim; zero once that claim has released the session
	Progress
	Tails []Tail // after the parts, in order; their bytes and then Inline follow PartsEnd
	Parts []Part // only where asked for
}

// Progress is how far an upload has come; all of it is written by each save. The store reads no meaning into it but for
// the keys.
type Progress struct {
	Offset    int64     // durable bytes: parts, tails and inline together
	PartsEnd  int64     // durable bytes that are in parts
	Hash      []byte    // the hashes' marshalled states at Offset
	PartsHash []byte    // the same at PartsEnd, for a join that re-hashes the tails
	Multipart Multipart // zero until begun
	PartSize  int64     // of this upload's parts, bytes: replicas must agree; 0 until begun
	LastPart  int32     // the highest part number that is used or reserved
	Inline    []byte    // the last few bytes, kept in the row; nil or empty is none
}

// Tail is an object that holds Size bytes which are not in a part yet.
type Tail struct {
	Key  Key
	Size int64
}

// Reservation names the keys that a claim may write under until its next save. Each is in the index before it is used.
type Reservation struct {
	Blob Key // for a Put or a Begin of what may become the content; "" is none
	Tail Key // for staged bytes; "" is none
}

// Claim asks to become a session's writer.
type Claim struct {
	SessionRef
	Offset    int64       // must be the durable one, unless the session is completing; -1 means whatever it is
	Finish    bool        // the claim ends the upload, and may complete one that is completing
	Reserve   Reservation // minted by the claimer
	PartCount int32       // how many part numbers to reserve, after LastPart
	Parts     bool        // return Session.Parts
}

// Save records how far a claim has come.
//
// With Claim it is the claim as well, for bytes that need no object: one transaction instead of two. Version is then what
// the session had when it was read, open and released; if anybody has claimed it since, the save is fenced.
type Save struct {
	ID      string
	Version int64 // of the claim
	Claim   bool  // claim, save and release at once
	Progress
	Parts    []Part        // that became durable since the last save
	Joined   bool          // the tails of earlier saves are in parts now, or in Tail
	Tail     *Tail         // one more tail, or nil
	Reserved Reservation   // from now on; zero releases the session
	Unused   []Key         // of the claim's reservations: nothing was ever sent to be written under them, so they need not be collected
	Complete bool          // the session is completing from now on
	Digest   digest.Digest // with Complete: what the bytes were compared with, or ""
}

// Finish turns an upload into content.
type Finish struct {
	ID      string
	Version int64 // of the claim; or what the session had when it was read, released: nobody has claimed it since then
	Unused  []Key // as in Save
	Content Content
}
