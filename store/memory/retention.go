package memory

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Retention = (*Metadata)(nil)

// RecordPulls implements [store.Retention].
func (m *Metadata) RecordPulls(ctx context.Context, pulls []store.Pull) error {
	return m.change(ctx, "record pulls", func(now time.Time) error {
		record := func(pulled *time.Time) {
			if now.Sub(*pulled) >= time.Hour {
				*pulled = now
			}
		}
		for _, pull := range pulls {
			entry, ok := m.manifest(pull.Repository, pull.Digest)
			if !ok {
				continue
			}
			record(&entry.pulled)
			if t, ok := m.repositories[pull.Repository].tags[pull.Tag]; ok && t.digest == pull.Digest {
				record(&t.pulled)
			}
		}
		return nil
	})
}

// ManifestRecords implements [store.Retention].
func (m *Metadata) ManifestRecords(ctx context.Context, repository string, after digest.Digest, limit int) (records []store.ManifestRecord, err error) {
	err = m.look(ctx, "list manifest records", func() error {
		r, ok := m.repositories[repository]
		if !ok {
			return nil
		}
		for _, d := range page(sortedKeys(r.manifests), after, limit) {
			entry := r.manifests[d]
			records = append(records, store.ManifestRecord{
				Digest: d, MediaType: entry.MediaType, Size: int64(len(entry.Bytes)), Subject: entry.Subject,
				Pushed: entry.pushed, Pulled: entry.pulled, Tagged: len(entry.tags) > 0, Parent: len(r.parents[d]) > 0,
			})
		}
		return nil
	})
	return records, err
}

// TagRecords implements [store.Retention].
func (m *Metadata) TagRecords(ctx context.Context, repository, after string, limit int) (records []store.TagRecord, err error) {
	err = m.look(ctx, "list tag records", func() error {
		r, ok := m.repositories[repository]
		if !ok {
			return nil
		}
		for _, name := range page(sortedKeys(r.tags), after, limit) {
			t := r.tags[name]
			records = append(records, store.TagRecord{Name: name, Digest: t.digest, Pushed: t.pushed, Pulled: t.pulled})
		}
		return nil
	})
	return records, err
}

// ExpireManifest implements [store.Retention].
func (m *Metadata) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	return m.change(ctx, "expire manifest", func(now time.Time) error {
		return m.deleteManifest(now, expiry.Repository, expiry.Digest, func(r *repository, entry *manifest) error {
			_, subject := r.manifests[entry.Subject]
			late := !expiry.PushedBy.IsZero() && entry.pushed.After(expiry.PushedBy)
			if len(entry.tags) > 0 || !quiet(now, expiry.Quiet, entry.pushed, entry.pulled) || expiry.Orphan && subject || late {
				return store.ErrConditionFailed
			}
			return nil
		})
	})
}

// ExpireTag implements [store.Retention].
func (m *Metadata) ExpireTag(ctx context.Context, expiry store.TagExpiry) error {
	return m.change(ctx, "expire tag", func(now time.Time) error {
		r, ok := m.repositories[expiry.Repository]
		if !ok || r.tags[expiry.Tag] == nil {
			return store.ErrManifestUnknown
		}
		t := r.tags[expiry.Tag]
		if t.digest != expiry.Digest || !quiet(now, expiry.Quiet, t.pushed, t.pulled) {
			return store.ErrConditionFailed
		}
		r.untag(expiry.Tag)
		return nil
	})
}

// quiet reports whether nothing has happened for so long.
func quiet(now time.Time, long time.Duration, happened ...time.Time) bool {
	for _, at := range happened {
		if now.Sub(at) < long {
			return false
		}
	}
	return true
}
