package memory

import (
	"bytes"
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Content implements [store.Contents].
func (m *Metadata) Content(ctx context.Context, repository string, d digest.Digest) (content store.Content, err error) {
	err = m.look(ctx, "find content", func() (err error) {
		content, err = m.linked(repository, d)
		return err
	})
	return content, err
}

// RenewContent implements [store.Contents].
func (m *Metadata) RenewContent(ctx context.Context, repository string, d digest.Digest, grace time.Duration) (content store.Content, err error) {
	due := false
	err = m.look(ctx, "find content", func() (err error) {
		touched, ok := m.candidates[candidate{repository, d}]
		due = ok && m.now().Sub(touched.at) > grace/2
		content, err = m.linked(repository, d)
		return err
	})
	if !due || err != nil {
		return content, err
	}
	err = m.change(ctx, "renew content", func(now time.Time) (err error) {
		if _, ok := m.candidates[candidate{repository, d}]; ok {
			m.touch(now, repository, d)
		}
		content, err = m.linked(repository, d)
		return err
	})
	return content, err
}

// PutContent implements [store.Contents].
func (m *Metadata) PutContent(ctx context.Context, repository string, content store.Content) error {
	return m.change(ctx, "put content", func(now time.Time) error {
		m.touch(now, repository, content.Digest)
		m.record(now, own(content))
		m.link(repository, content.Digest)
		return nil
	})
}

// own returns content whose inline bytes are nobody else's.
func own(c store.Content) store.Content {
	c.Inline = bytes.Clone(c.Inline)
	return c
}
