package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// DefaultSafeAge is how old an object that no row knows has to be by default, before [Audit] condemns it.
const DefaultSafeAge = 24 * time.Hour

// AuditOptions configures [Audit]. The zero value works, and nil too: every object and every row is compared, by sizes, and
// nothing is changed.
type AuditOptions struct {
	After store.Key // go on after this key: AuditReport.Next of an audit that ended early
	Batch int       // how many objects and rows are looked at at once; default 1000. What is held in memory grows with it.

	// Deep reads all content that is an object, and compares it with its digest. Otherwise, only sizes are compared. What is inline
	// in the index is not read: the database keeps it whole. What has a digest of an algorithm that this program does not know, since a
	// newer one has taken it in, is a finding that is never repaired.
	Deep bool
	Rate int64 // bytes a second that are read at most; default as many as come

	// Multiparts asks the store for unfinished multipart uploads of every content's key as well, which is a request for each.
	// Those of an object that no row knows, and with Deep of all content, are looked for in any case.
	Multiparts bool

	// Repair condemns objects that no row knows, so that the collector deletes them after its delay; marks content as missing
	// whose object is missing or is not what it should be, so that it reads as absent, and the next push of it heals it;
	// unmarks content whose object is there, and right; and aborts unfinished multipart uploads of content's keys. Content that
	// cannot be read is left alone: nobody knows that it is lost, and a store that recovers has it again.
	Repair bool

	// RepairUnreadable has Repair mark content as missing that cannot be read. It is for damage on the store's own disks, which no
	// answer tells from a store that is ill: while content is not marked, pulls of it fail and no push replaces it, since clients are
	// told that it is there. Nothing is lost by it: the object stays until the next push, and an audit that can read it by then,
	// and finds it right, unmarks the content. Alone, it is refused.
	RepairUnreadable bool

	Force   bool          // repair also what seems to be of two registries, which is refused with ErrUnrelated otherwise
	SafeAge time.Duration // younger objects that no row knows are left alone; default DefaultSafeAge

	// Found is told of every finding as it is made, on the caller's goroutine; an error of it ends the audit. nil: they are
	// only counted.
	Found func(AuditFinding) error

	// Progress is told how far the audit has come after every batch, and with Deep after every MiB or so that was read. It must be
	// quick. nil: nobody is.
	Progress func(AuditReport)
}

// AuditKind is a kind of finding of an audit.
type AuditKind string

// What an audit finds.
const (
	AuditOrphan     AuditKind = "orphan"     // an object that no row knows
	AuditStaged     AuditKind = "staged"     // the same, of an upload that is no more
	AuditForeign    AuditKind = "foreign"    // an object under a prefix that is not the store's: never touched
	AuditMissing    AuditKind = "missing"    // content whose object is not there
	AuditWrongSize  AuditKind = "size"       // content whose object has another size
	AuditWrongData  AuditKind = "data"       // content whose object has other bytes
	AuditUnreadable AuditKind = "unreadable" // content whose object cannot be read, again and again, while the store answers otherwise
	AuditUnverified AuditKind = "unverified" // content that was to be read, whose digest is of an algorithm that this program does not know: it is never marked nor unmarked
	AuditFound      AuditKind = "found"      // content that is marked as missing, whose object is there, and right
	AuditMultipart  AuditKind = "multipart"  // an unfinished multipart upload of a key that nobody writes to
	AuditBroken     AuditKind = "broken"     // a manifest that cannot be pulled whole, because of content that is missing, wrong or unreadable, its own or a manifest's below it
)

// AuditFinding is something that does not fit.
type AuditFinding struct {
	Kind       AuditKind     `json:"kind"`
	Key        store.Key     `json:"key,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`     // of the content
	Size       int64         `json:"size,omitempty"`       // of the object, bytes
	Want       int64         `json:"want,omitempty"`       // its size by the index, bytes
	Modified   *time.Time    `json:"modified,omitempty"`   // of an object that no row knows
	Multipart  string        `json:"multipart,omitempty"`  // the store's name of the upload
	Repository string        `json:"repository,omitempty"` // of the broken manifest
	Manifest   digest.Digest `json:"manifest,omitempty"`   // the broken manifest
	Reason     string        `json:"reason,omitempty"`     // why content cannot be read
	Marked     bool          `json:"marked,omitempty"`     // the content has been marked as missing before
	Repaired   bool          `json:"repaired,omitempty"`   // by this audit
}

// AuditReport is how far an audit has come.
type AuditReport struct {
	Objects  int64             `json:"objects"`        // that were looked at
	Bytes    int64             `json:"bytes"`          // of these objects
	Read     int64             `json:"read"`           // bytes that were read and hashed
	Contents int64             `json:"contents"`       // rows that were compared
	Findings map[AuditKind]int `json:"findings"`       // by kind
	Repaired int               `json:"repaired"`       // findings
	Next     store.Key         `json:"next,omitempty"` // the last key up to which everything has been looked at
	Done     bool              `json:"done"`           // there is nothing after it
}

// ErrUnrelated is told by [Audit] instead of condemning all that is stored, or marking all content as missing: the index names none
// of the first objects, or none of the first contents that are not marked has its object. An audit that goes on after a key looks
// at the beginning, too. A small registry that has lost all its objects looks the same, and is repaired by force.
var ErrUnrelated = errors.New("the index and the objects seem to be of two registries")

// Audit compares all objects with the index, in the order of their keys, a batch of each at a time, while everything else goes
// on. What does not fit is looked at again before it is reported, in the order in which events make it: an object is deleted
// before its row is forgotten, and is written after its row was made. So uploads and collections under way are neither
// reported nor harmed, and neither is what a replica tries at its start, under [store.ProbePrefix]: only what is left of that after
// an hour is. Nothing is deleted here: what nobody knows is condemned, and the collector deletes it.
//
// A manifest is reported once for each content that breaks it; where content breaks more than a hundred batches of manifests in one
// repository, one that is above several of them may be reported again, since no more are remembered.
//
// Unfinished multipart uploads are found by exact keys only, since some stores (MinIO) list them in no other way: of keys that
// the index or the listing tells. One that was begun under a key that neither knows, which takes an index that was lost
// or restored, is for the bucket's own rule on incomplete uploads. On a store that is a folder, only finished objects are listed.
//
// An object that cannot be read is tried again after a second, and after two more; then it is a finding, and the audit goes on. It
// ends with an error if the store cannot be listed either, or if 20 contents in a row could not be read that are not marked, nor can any that
// the listing says is right: then it is the store that is ill, and to go on would only tell of everything that it has.
//
// It returns how far it came also with an error, which is the context's, the stores' or Found's: an audit with After set to
// Next goes on from there. Next follows every content that is read, so that only the last one is read twice.
func Audit(ctx context.Context, meta Index, objects store.Objects, opts *AuditOptions) (AuditReport, error) {
	a := &audit{meta: meta, objects: objects, report: AuditReport{Findings: map[AuditKind]int{}}}
	if opts != nil {
		a.options = *opts
	}
	switch o := &a.options; {
	case o.Batch < 0:
		return a.report, fmt.Errorf("audit options: Batch: %d is negative", o.Batch)
	case o.Rate < 0:
		return a.report, fmt.Errorf("audit options: Rate: %d is negative", o.Rate)
	case o.SafeAge < 0:
		return a.report, fmt.Errorf("audit options: SafeAge: %v is negative", o.SafeAge)
	case o.RepairUnreadable && !o.Repair:
		return a.report, errors.New("audit options: RepairUnreadable: it goes with Repair")
	}
	setDefault(&a.options.Batch, 1000)
	setDefault(&a.options.SafeAge, DefaultSafeAge)
	a.limiter = limiter{rate: a.options.Rate}
	a.report.Next = a.options.After
	if err := a.related(ctx); err != nil {
		return a.report, fmt.Errorf("audit: %w", err)
	}
	if err := a.run(ctx); err != nil {
		return a.report, fmt.Errorf("audit after key %q: %w", a.report.Next, err)
	}
	return a.report, nil
}

// audit is one that is running.
type audit struct {
	meta    Index
	objects store.Objects
	options AuditOptions
	limiter limiter
	report  AuditReport

	unread int       // contents in a row that could not be read
	reason error     // of the last of them
	fitted store.Key // of the last content that fitted the listing, and was not read since the store was last known to read something
}

// run merges the two listings, which both come in the order of keys.
func (a *audit) run(ctx context.Context) error {
	objects := &cursor[store.Object]{
		last: a.options.After,
		key:  func(o store.Object) store.Key { return o.Key },
		page: func(after store.Key) ([]store.Object, error) {
			return a.objects.List(ctx, "", after, a.options.Batch)
		},
	}
	rows := &cursor[store.StoredContent]{
		last: a.options.After,
		key:  func(c store.StoredContent) store.Key { return c.Key },
		page: func(after store.Key) ([]store.StoredContent, error) {
			return a.meta.StoredContents(ctx, after, a.options.Batch)
		},
	}
	for {
		if err := objects.fill(a.options.Batch); err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
		if err := rows.fill(a.options.Batch); err != nil {
			return fmt.Errorf("list contents: %w", err)
		}
		end, bounded := objects.end()
		if last, more := rows.end(); more && (!bounded || last < end) {
			end, bounded = last, true
		}
		some, known := objects.take(end, bounded), rows.take(end, bounded)
		if err := a.window(ctx, some, known); err != nil {
			return err
		}
		if !bounded {
			a.report.Done = true
			a.report.Next = max(a.report.Next, objects.last, rows.last)
		} else {
			a.report.Next = end
		}
		a.tell()
		if a.report.Done {
			return nil
		}
	}
}

// tell tells how far the audit has come.
func (a *audit) tell() {
	if a.options.Progress != nil {
		a.options.Progress(a.report)
	}
}

// cursor reads a listing page by page.
type cursor[T any] struct {
	page  func(after store.Key) ([]T, error)
	key   func(T) store.Key
	items []T       // that were read, and not taken
	last  store.Key // that was read
	done  bool      // nothing is after last
}

// fill reads a page if none is left.
func (c *cursor[T]) fill(limit int) error {
	if len(c.items) > 0 || c.done {
		return nil
	}
	page, err := c.page(c.last)
	if err != nil {
		return err
	}
	c.items, c.done = page, len(page) < limit
	if len(page) > 0 {
		c.last = c.key(page[len(page)-1])
	}
	return nil
}

// end returns the key up to which the listing is known, if it goes on after it.
func (c *cursor[T]) end() (last store.Key, more bool) { return c.last, !c.done }

// take takes what comes up to the end.
func (c *cursor[T]) take(end store.Key, bounded bool) []T {
	n := 0
	for n < len(c.items) && (!bounded || c.key(c.items[n]) <= end) {
		n++
	}
	taken := c.items[:n]
	c.items = c.items[n:]
	return taken
}
