package storetest

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// The collector's part of the wrapper.

func (m *hookedMetadata) Due(ctx context.Context, after store.Deadlines) (store.Work, error) {
	return hooked(ctx, m.hook, "Due", func() (store.Work, error) { return m.store.Due(ctx, after) })
}

func (m *hookedMetadata) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	return hooked(ctx, m.hook, "ReviewCandidates", func() (store.Reviewed, error) { return m.store.ReviewCandidates(ctx, review) })
}

func (m *hookedMetadata) PreviewCandidates(ctx context.Context, grace time.Duration, after store.Candidate, limit int) ([]store.Preview, error) {
	return hooked(ctx, m.hook, "PreviewCandidates", func() ([]store.Preview, error) { return m.store.PreviewCandidates(ctx, grace, after, limit) })
}

func (m *hookedMetadata) SettleCandidate(ctx context.Context, candidate store.Candidate) error {
	return m.hook.do(ctx, "SettleCandidate", func() error { return m.store.SettleCandidate(ctx, candidate) })
}

func (m *hookedMetadata) TakeGarbage(ctx context.Context, take store.Take) ([]store.Garbage, error) {
	return hooked(ctx, m.hook, "TakeGarbage", func() ([]store.Garbage, error) { return m.store.TakeGarbage(ctx, take) })
}

func (m *hookedMetadata) PreviewGarbage(ctx context.Context, take store.Take, after store.Garbage) ([]store.Garbage, error) {
	return hooked(ctx, m.hook, "PreviewGarbage", func() ([]store.Garbage, error) { return m.store.PreviewGarbage(ctx, take, after) })
}

func (m *hookedMetadata) ForgetGarbage(ctx context.Context, keys []store.Key) error {
	return m.hook.do(ctx, "ForgetGarbage", func() error { return m.store.ForgetGarbage(ctx, keys) })
}

func (m *hookedMetadata) EndSessions(ctx context.Context, life store.Life, limit int) (store.Ended, error) {
	return hooked(ctx, m.hook, "EndSessions", func() (store.Ended, error) { return m.store.EndSessions(ctx, life, limit) })
}

func (m *hookedMetadata) PreviewSessions(ctx context.Context, life store.Life, after store.Outlived, limit int) ([]store.Outlived, error) {
	return hooked(ctx, m.hook, "PreviewSessions", func() ([]store.Outlived, error) { return m.store.PreviewSessions(ctx, life, after, limit) })
}

func (m *hookedMetadata) DeleteRepository(ctx context.Context, repository string) error {
	return m.hook.do(ctx, "DeleteRepository", func() error { return m.store.DeleteRepository(ctx, repository) })
}

func (m *hookedMetadata) DrainRepositories(ctx context.Context, limit int) (int, error) {
	return hooked(ctx, m.hook, "DrainRepositories", func() (int, error) { return m.store.DrainRepositories(ctx, limit) })
}

func (m *hookedMetadata) UnknownKeys(ctx context.Context, keys []store.Key) ([]store.Key, error) {
	return hooked(ctx, m.hook, "UnknownKeys", func() ([]store.Key, error) { return m.store.UnknownKeys(ctx, keys) })
}

func (m *hookedMetadata) CondemnKeys(ctx context.Context, keys []store.Key) ([]store.Key, error) {
	return hooked(ctx, m.hook, "CondemnKeys", func() ([]store.Key, error) { return m.store.CondemnKeys(ctx, keys) })
}

func (m *hookedMetadata) StoredContents(ctx context.Context, after store.Key, limit int) ([]store.StoredContent, error) {
	return hooked(ctx, m.hook, "StoredContents", func() ([]store.StoredContent, error) { return m.store.StoredContents(ctx, after, limit) })
}

func (m *hookedMetadata) MarkContent(ctx context.Context, d digest.Digest, key store.Key, missing bool) (bool, error) {
	return hooked(ctx, m.hook, "MarkContent", func() (bool, error) { return m.store.MarkContent(ctx, d, key, missing) })
}

func (m *hookedMetadata) Dependents(ctx context.Context, d digest.Digest, after store.ManifestAt, limit int) ([]store.ManifestAt, error) {
	return hooked(ctx, m.hook, "Dependents", func() ([]store.ManifestAt, error) { return m.store.Dependents(ctx, d, after, limit) })
}

func (m *hookedMetadata) RecordPulls(ctx context.Context, pulls []store.Pull) error {
	return m.hook.do(ctx, "RecordPulls", func() error { return m.store.RecordPulls(ctx, pulls) })
}

func (m *hookedMetadata) ManifestRecords(ctx context.Context, repository string, after digest.Digest, limit int) ([]store.ManifestRecord, error) {
	return hooked(ctx, m.hook, "ManifestRecords", func() ([]store.ManifestRecord, error) { return m.store.ManifestRecords(ctx, repository, after, limit) })
}

func (m *hookedMetadata) TagRecords(ctx context.Context, repository, after string, limit int) ([]store.TagRecord, error) {
	return hooked(ctx, m.hook, "TagRecords", func() ([]store.TagRecord, error) { return m.store.TagRecords(ctx, repository, after, limit) })
}

func (m *hookedMetadata) ExpireManifest(ctx context.Context, expiry store.ManifestExpiry) error {
	return m.hook.do(ctx, "ExpireManifest", func() error { return m.store.ExpireManifest(ctx, expiry) })
}

func (m *hookedMetadata) ExpireTag(ctx context.Context, expiry store.TagExpiry) error {
	return m.hook.do(ctx, "ExpireTag", func() error { return m.store.ExpireTag(ctx, expiry) })
}
