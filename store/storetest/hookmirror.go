package storetest

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// The mirror's part of the wrapper.

func (m *hookedMetadata) MirroredTag(ctx context.Context, repository, tag string) (store.MirroredTag, error) {
	return hooked(ctx, m.hook, "MirroredTag", func() (store.MirroredTag, error) { return m.store.MirroredTag(ctx, repository, tag) })
}

func (m *hookedMetadata) ConfirmTag(ctx context.Context, repository, tag string, d digest.Digest) error {
	return m.hook.do(ctx, "ConfirmTag", func() error { return m.store.ConfirmTag(ctx, repository, tag, d) })
}

func (m *hookedMetadata) ClaimFetch(ctx context.Context, d digest.Digest, holder string, life time.Duration) (bool, error) {
	return hooked(ctx, m.hook, "ClaimFetch", func() (bool, error) { return m.store.ClaimFetch(ctx, d, holder, life) })
}

func (m *hookedMetadata) ReleaseFetch(ctx context.Context, d digest.Digest, holder string) error {
	return m.hook.do(ctx, "ReleaseFetch", func() error { return m.store.ReleaseFetch(ctx, d, holder) })
}

func (m *hookedMetadata) MirroredSize(ctx context.Context, after store.ManifestAt, limit int) (store.MirroredPage, error) {
	return hooked(ctx, m.hook, "MirroredSize", func() (store.MirroredPage, error) { return m.store.MirroredSize(ctx, after, limit) })
}

func (m *hookedMetadata) EvictManifest(ctx context.Context, eviction store.ManifestEviction) (int64, error) {
	return hooked(ctx, m.hook, "EvictManifest", func() (int64, error) { return m.store.EvictManifest(ctx, eviction) })
}
