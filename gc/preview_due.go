package gc

import (
	"context"
	"fmt"
	"time"

	"github.com/ocikit/ocikit/store"
)

// sessions tells which uploads would be ended.
func (p *preview) sessions(ctx context.Context) error {
	var after store.Outlived
	for {
		page, err := p.meta.PreviewSessions(ctx, p.options.Life, after, p.options.Batch)
		if err != nil {
			return fmt.Errorf("preview sessions: %w", err)
		}
		for _, after = range page {
			if after.State == store.SessionFinished {
				p.stats.Tombstones++
				continue
			}
			p.stats.Sessions++
			if err := p.tell(Finding{
				Kind: FindUpload, Repository: after.Repository, ID: after.ID, Size: after.Size, Reason: outlived(after, p.options.Life),
			}); err != nil {
				return err
			}
		}
		if len(page) < p.options.Batch {
			return nil
		}
	}
}

// outlived tells why an upload would be ended: by that end of its life which came first.
func outlived(s store.Outlived, life store.Life) string {
	if s.Started.Add(life.Total).Before(s.Touched.Add(life.Idle)) {
		return "it has been under way since " + stamp(s.Started)
	}
	return "nobody has written to it since " + stamp(s.Touched)
}

// deleted tells that repositories which were deleted would be drained. How much of them is left nobody has counted.
func (p *preview) deleted(ctx context.Context) error {
	work, err := p.workDue(ctx)
	if err != nil || !work.Repositories {
		return err
	}
	return p.tell(Finding{
		Kind: FindRepository, Reason: "what is left of deleted ones would be taken apart; what only they had goes when its grace is over",
	})
}

// garbage tells which objects would be deleted from the store.
func (p *preview) garbage(ctx context.Context) error {
	take := store.Take{Delay: p.options.Delay, Unfinished: p.options.unfinished(), Limit: p.options.Batch}
	var after store.Garbage
	for {
		page, err := p.meta.PreviewGarbage(ctx, take, after)
		if err != nil {
			return fmt.Errorf("preview garbage: %w", err)
		}
		for _, after = range page {
			p.stats.Objects++
			p.stats.ObjectBytes += after.Size
			reason := "no row has named it since " + stamp(after.Condemned)
			if after.Tries > 0 { // and nobody knows any more since when
				reason = fmt.Sprintf("no row names it; tries to delete it so far: %d", after.Tries)
			}
			if err := p.tell(Finding{Kind: FindObject, Key: after.Key, Size: after.Size, Reason: reason}); err != nil {
				return err
			}
		}
		if len(page) < p.options.Batch {
			return nil
		}
	}
}

// stamp is a time as reasons tell it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
