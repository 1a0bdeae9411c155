package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

// auditCommand compares what is stored with the index.
type auditCommand struct {
	storeFlags
	Repair     bool          `help:"Condemn objects that nobody knows, mark content whose object is missing or wrong so that the next push heals it, and abort what is unfinished."`
	Force      bool          `help:"Repair even if the index names none of the first objects, or none of the first contents has its object: they may be two registries'."`
	Unreadable bool          `name:"repair-unreadable" help:"With --repair, mark also content that cannot be read, again and again, so that the next push heals it. First see that the store is well: what it can read by then is unmarked by the next repair."`
	SafeAge    time.Duration `default:"24h" placeholder:"DURATION" help:"Leave younger objects alone that nobody knows (${default})."`
	Deep       bool          `help:"Read all content that is an object, and compare it with its digest. Small content is inside the index, and not read. What has a digest of an algorithm that this version does not know is told to be unverified, and left alone."`
	Rate       size          `placeholder:"SIZE" help:"Read at most so much a second (as much as comes)."`
	Multiparts bool          `help:"Look for unfinished multipart uploads of every content's key, one request each: some stores, such as MinIO, list them in no other way. Out of reach are those of keys that neither the index nor the listing has: a rule of the bucket ends them."`
	After      string        `placeholder:"KEY" help:"Go on after this key, where an audit ended early."`
	JSON       bool          `name:"json" help:"Tell it as JSON, a line for each finding and one for all."`
}

// Run audits, while everything else goes on. An audit that finds something which it did not repair fails.
func (c *auditCommand) Run(ctx context.Context, out output) error {
	if c.SafeAge < 0 {
		return errors.New("--safe-age: must not be negative")
	}
	if c.Rate < 0 {
		return errors.New("--rate: must not be negative")
	}
	if c.Unreadable && !c.Repair {
		return errors.New("--repair-unreadable: it goes with --repair")
	}
	access := looking
	if c.Repair {
		access = changing
	}
	s, err := c.openLasting(ctx, out, access)
	if err != nil {
		return err
	}
	defer s.close(nil)
	encoder, progress := json.NewEncoder(out.stdout), newProgress(out)
	report, err := gc.Audit(ctx, s.meta, s.objects, &gc.AuditOptions{
		After: store.Key(c.After), Deep: c.Deep, Rate: int64(c.Rate), Multiparts: c.Multiparts, Repair: c.Repair, Force: c.Force,
		RepairUnreadable: c.Unreadable,
		SafeAge:          max(c.SafeAge, time.Nanosecond), // 0 is no age at all, not the default
		Progress:         progress.tell,
		Found: func(finding gc.AuditFinding) error {
			progress.end()
			if c.JSON {
				return encoder.Encode(finding)
			}
			_, err := fmt.Fprintln(out.stdout, describe(finding))
			return err
		},
	})
	progress.end()
	found := 0
	for _, n := range report.Findings {
		found += n
	}
	var printed error
	switch {
	case c.JSON:
		printed = encoder.Encode(report)
	case err == nil:
		_, printed = fmt.Fprintf(out.stdout, "%d objects of %s and %d contents compared, %d findings, %d repaired\n",
			report.Objects, units.BytesSize(float64(report.Bytes)), report.Contents, found, report.Repaired)
	}
	if err == nil {
		return errors.Join(c.unrepaired(report, found), printed)
	}
	return errors.Join(advise(err, report), printed)
}

// advise says what to do after an audit that ended early.
func advise(err error, report gc.AuditReport) error {
	switch {
	case errors.Is(err, gc.ErrUnrelated):
		return fmt.Errorf("%w: name the --database that goes with --objects; if they do go together, repair with --force", err)
	case report.Next != "":
		return fmt.Errorf("%w; go on with --after %s", err, report.Next)
	}
	return fmt.Errorf("%w; no object has been looked at to its end: begin again, without --after", err)
}

// unrepaired fails if an audit has left something.
func (c *auditCommand) unrepaired(report gc.AuditReport, found int) error {
	left := found - report.Repaired
	if left == 0 {
		return nil
	}
	advice := ""
	switch {
	case !c.Repair:
		advice = ": --repair does what can be done"
	case report.Findings[gc.AuditUnreadable] > 0 && !c.Unreadable:
		advice = ": what cannot be read may be read when the store is well; if it is lost, mark it with --repair-unreadable, and push it again"
	case report.Findings[gc.AuditUnverified] > 0:
		advice = ": what is unverified has a digest of an algorithm that this version does not know: audit it with the version that took it in"
	case report.Findings[gc.AuditBroken] > 0:
		advice = ": what is broken has to be pushed again"
	}
	return fmt.Errorf("%d of %d findings are not repaired%s", left, found, advice)
}

// describe tells a finding in one line.
func describe(f gc.AuditFinding) string {
	line := string(f.Kind)
	for _, part := range []string{string(f.Key), f.Digest.String(), f.Repository, f.Manifest.String()} {
		if part != "" {
			line += " " + part
		}
	}
	if f.Multipart != "" {
		line += " upload " + f.Multipart
	}
	switch {
	case f.Kind == gc.AuditWrongSize:
		line += fmt.Sprintf(" (%d bytes, should be %d)", f.Size, f.Want)
	case f.Size > 0 || f.Want > 0:
		line += fmt.Sprintf(" (%d bytes)", max(f.Size, f.Want))
	}
	if f.Reason != "" {
		line += ": " + f.Reason
	}
	if f.Repaired {
		line += ", repaired"
	}
	return line
}
