package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/store"
)

// window compares the objects and the rows of one range of keys. Next follows each content, except over objects that are no
// content, which are looked at together: before a content that takes a while, so that a day's reading is not one step.
func (a *audit) window(ctx context.Context, objects []store.Object, rows []store.StoredContent) error {
	var strangers []store.Object
	for len(objects) > 0 || len(rows) > 0 {
		if len(rows) == 0 || len(objects) > 0 && objects[0].Key < rows[0].Key {
			strangers, objects = append(strangers, objects[0]), objects[1:]
			continue
		}
		row, listed := rows[0], (*store.Object)(nil)
		if rows = rows[1:]; len(objects) > 0 && objects[0].Key == row.Key {
			listed, objects = &objects[0], objects[1:]
		}
		if a.quick(row, listed) {
			a.fitted = row.Key
		} else {
			if err := a.strangers(ctx, strangers); err != nil {
				return err
			}
			if n := len(strangers); n > 0 {
				a.report.Next = max(a.report.Next, strangers[n-1].Key)
			}
			strangers = nil
			if err := a.content(ctx, row, listed); err != nil {
				return err
			}
		}
		a.report.Contents++
		if listed != nil {
			a.count(*listed)
		}
		if len(strangers) == 0 {
			a.report.Next = row.Key
		}
		if err := a.lost(ctx); err != nil {
			return err
		}
	}
	return a.strangers(ctx, strangers)
}

func (a *audit) count(o store.Object) {
	a.report.Objects++
	a.report.Bytes += o.Size
}

// strangers looks at objects that are no content. What a session or the garbage names is as it should be.
func (a *audit) strangers(ctx context.Context, objects []store.Object) error {
	keys := make([]store.Key, len(objects))
	for i, o := range objects {
		keys[i] = o.Key
	}
	if len(keys) == 0 {
		return nil
	}
	unknown, err := a.meta.UnknownKeys(ctx, keys)
	if err != nil {
		return fmt.Errorf("look for keys: %w", err)
	}
	named := make(map[store.Key]bool, len(unknown))
	for _, key := range unknown {
		named[key] = true
	}
	var condemn []store.Key
	var found []AuditFinding
	for _, o := range objects {
		if !named[o.Key] || probes(o) {
			continue
		}
		// A key that was known becomes unknown after its object is deleted. So one that is unknown, and then still there, is an orphan.
		there, err := a.exists(ctx, o.Key)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		finding := AuditFinding{Kind: AuditForeign, Key: o.Key, Size: o.Size, Modified: &o.Modified}
		switch {
		case strings.HasPrefix(string(o.Key), store.BlobPrefix):
			finding.Kind = AuditOrphan
		case strings.HasPrefix(string(o.Key), store.UploadPrefix):
			finding.Kind = AuditStaged
		}
		if a.options.Repair && finding.Kind != AuditForeign && time.Since(o.Modified) >= a.options.SafeAge {
			condemn = append(condemn, o.Key)
		}
		found = append(found, finding)
	}
	if err := a.orphans(ctx, found, condemn); err != nil {
		return err
	}
	for _, o := range objects {
		a.count(o)
	}
	return nil
}

// probed is the age from which what a starting driver has tried is left over: it is deleted within seconds, and clocks differ.
const probed = time.Hour

// probes reports whether an object may be what a driver tries right now, of which no row knows.
func probes(o store.Object) bool {
	return strings.HasPrefix(string(o.Key), store.ProbePrefix) && time.Since(o.Modified) < probed
}

// orphans condemns and reports objects that no row knows, and the multipart uploads of their keys, which go with them.
func (a *audit) orphans(ctx context.Context, found []AuditFinding, condemn []store.Key) error {
	condemned := map[store.Key]bool{}
	if len(condemn) > 0 {
		keys, err := a.meta.CondemnKeys(ctx, condemn)
		if err != nil {
			return fmt.Errorf("condemn keys: %w", err)
		}
		for _, key := range keys {
			condemned[key] = true
		}
	}
	for _, finding := range found {
		finding.Repaired = condemned[finding.Key]
		if err := a.find(finding); err != nil {
			return err
		}
		if finding.Kind != AuditOrphan {
			continue
		}
		begun, err := a.objects.Begun(ctx, finding.Key)
		if err != nil {
			return fmt.Errorf("look for multipart uploads of %s: %w", finding.Key, err)
		}
		for _, m := range begun {
			if err := a.find(AuditFinding{Kind: AuditMultipart, Key: m.Key, Multipart: m.ID, Repaired: finding.Repaired}); err != nil {
				return err
			}
		}
	}
	return nil
}

// quick reports whether the listing tells all that is asked about the object of a row.
func (a *audit) quick(row store.StoredContent, listed *store.Object) bool {
	return !a.options.Deep && !a.options.Multiparts && fits(row, listed)
}

func fits(row store.StoredContent, listed *store.Object) bool {
	return listed != nil && listed.Size == row.Size && !row.Missing
}

// content looks at the object of a row, which the listing has, or has not.
func (a *audit) content(ctx context.Context, row store.StoredContent, listed *store.Object) error {
	if a.options.Deep || !fits(row, listed) {
		if err := a.examine(ctx, row, listed); err != nil {
			return err
		}
	}
	if a.options.Deep || a.options.Multiparts {
		return a.multiparts(ctx, row)
	}
	return nil
}

// looks is how often an object that is not right is looked at, before that is believed.
const looks = 2

// examine looks closely at the object of a row, and then whether the row still says the same: the index goes first, so that an
// object which was right to go is one that no row names by then.
func (a *audit) examine(ctx context.Context, row store.StoredContent, listed *store.Object) error {
	finding := AuditFinding{Key: row.Key, Digest: row.Digest, Want: row.Size}
	for range looks {
		kind, failed := a.patiently(ctx, row)
		if failed == nil {
			a.unread = 0
		}
		if failed == nil && kind == "" && !row.Missing {
			return nil
		}
		var err error
		if row, err = a.row(ctx, row); err != nil || row.Key == "" {
			return err
		}
		finding.Kind, finding.Marked = kind, row.Missing
		if failed != nil { // not because the object went meanwhile
			if err := a.unreadable(ctx, row, failed); err != nil {
				return err
			}
			finding.Kind, finding.Reason = AuditUnreadable, strings.Join(strings.Fields(failed.Error()), " ")
			break
		}
		if kind == "" {
			break
		}
	}
	switch {
	case finding.Kind == "" && !row.Missing:
		return nil
	case finding.Kind == "":
		finding.Kind = AuditFound
	}
	if listed != nil && finding.Kind != AuditMissing {
		finding.Size = listed.Size
	}
	if a.repairs(finding.Kind) {
		changed, err := a.meta.MarkContent(ctx, row.Digest, row.Key, finding.Kind != AuditFound)
		if err != nil {
			return fmt.Errorf("mark content %s: %w", row.Digest, err)
		}
		finding.Repaired = changed
	}
	if err := a.find(finding); err != nil || finding.Kind == AuditFound || finding.Kind == AuditUnverified && !row.Missing {
		return err
	}
	return a.dependents(ctx, row)
}

// repairs reports whether content is marked, or unmarked, that is found to be so.
func (a *audit) repairs(kind AuditKind) bool {
	switch kind {
	case AuditUnverified: // nobody knows whether it is right
		return false
	case AuditUnreadable:
		return a.options.Repair && a.options.RepairUnreadable
	}
	return a.options.Repair
}

// state tells what is wrong with the object of a row, or "". What is marked as missing has to be right to its last byte.
func (a *audit) state(ctx context.Context, row store.StoredContent) (AuditKind, error) {
	size, err := a.size(ctx, row.Key, row.Size)
	right := true
	if err == nil && size == row.Size && (a.options.Deep || row.Missing) {
		if !cas.Supported(row.Digest.Algorithm()) {
			return AuditUnverified, nil
		}
		right, err = a.verify(ctx, row)
	}
	switch {
	case errors.Is(err, store.ErrObjectUnknown):
		return AuditMissing, nil
	case err != nil:
		return "", err
	case size != row.Size:
		return AuditWrongSize, nil
	case !right:
		return AuditWrongData, nil
	}
	return "", nil
}

// size returns want if the object has that size, and otherwise another one, -1 for more: it reads a byte at the end and one after
// it.
func (a *audit) size(ctx context.Context, key store.Key, want int64) (int64, error) {
	has := func(offset int64) (bool, error) {
		r, err := a.objects.Open(ctx, key, offset, 1)
		if errors.Is(err, store.ErrOutOfRange) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("open object: %w", err)
		}
		defer r.Close()
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			return false, fmt.Errorf("read object %s: %w", key, err)
		}
		return n > 0, nil
	}
	if more, err := has(want); err != nil || more {
		return -1, err
	}
	if want > 0 {
		if all, err := has(want - 1); err != nil || !all {
			return 0, err
		}
	}
	return want, nil
}

// row reads a row again; its Key is "" if the content has another key by now, or is gone.
func (a *audit) row(ctx context.Context, row store.StoredContent) (store.StoredContent, error) {
	page, err := a.meta.StoredContents(ctx, row.Key[:len(row.Key)-1], 1) // nothing is between
	if err != nil {
		return store.StoredContent{}, fmt.Errorf("look at content %s again: %w", row.Digest, err)
	}
	if len(page) == 0 || page[0].Key != row.Key || page[0].Digest != row.Digest {
		return store.StoredContent{}, nil
	}
	return page[0], nil
}

// multiparts looks for unfinished multipart uploads of content's key: a Begin was sent twice, by a driver that repeats what it got no
// answer to, or on the way. Content is finished, so nobody needs them.
func (a *audit) multiparts(ctx context.Context, row store.StoredContent) error {
	begun, err := a.objects.Begun(ctx, row.Key)
	if err != nil {
		return fmt.Errorf("look for multipart uploads of %s: %w", row.Key, err)
	}
	for _, m := range begun {
		if a.options.Repair {
			if err := a.objects.Abort(ctx, m); err != nil {
				return fmt.Errorf("abort multipart upload of %s: %w", row.Key, err)
			}
		}
		finding := AuditFinding{Kind: AuditMultipart, Key: m.Key, Digest: row.Digest, Multipart: m.ID, Repaired: a.options.Repair}
		if err := a.find(finding); err != nil {
			return err
		}
	}
	return nil
}

// find counts and tells a finding.
func (a *audit) find(finding AuditFinding) error {
	a.report.Findings[finding.Kind]++
	if finding.Repaired {
		a.report.Repaired++
	}
	if a.options.Found == nil {
		return nil
	}
	return a.options.Found(finding)
}
