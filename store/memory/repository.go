package memory

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Repositories implements [store.Catalog].
func (m *Metadata) Repositories(ctx context.Context, after string, limit int) (names []string, err error) {
	err = m.look(ctx, "list repositories", func() error {
		names = page(sortedKeys(m.repositories), after, limit)
		return nil
	})
	return names, err
}

// Holders implements [store.Catalog].
func (m *Metadata) Holders(ctx context.Context, d digest.Digest, after string, limit int) (names []string, err error) {
	err = m.look(ctx, "list holders", func() error {
		names = page(sortedKeys(m.holders[d]), after, limit)
		return nil
	})
	return names, err
}

// Mount implements [store.Catalog].
func (m *Metadata) Mount(ctx context.Context, d digest.Digest, from, to string) (content store.Content, err error) {
	err = m.change(ctx, "mount content", func(now time.Time) (err error) {
		content, err = m.linked(from, d)
		if err != nil {
			return err
		}
		m.touch(now, to, d)
		m.link(to, d)
		return nil
	})
	return content, err
}
