package memory

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Tags implements [store.Catalog].
func (m *Metadata) Tags(ctx context.Context, repository, after string, limit int) (tags []string, err error) {
	if err := m.sortTags(ctx, repository); err != nil {
		return nil, err
	}
	err = m.look(ctx, "list tags", func() error {
		r, ok := m.repositories[repository]
		if !ok {
			return store.ErrRepositoryUnknown
		}
		names := r.tagNames
		if names == nil { // changed since it was sorted
			names = sortedKeys(r.tags)
		}
		tags = page(names, after, limit)
		return nil
	})
	return tags, err
}

// sortTags sorts a repository's tags if they have changed, so that pages after pages need not.
func (m *Metadata) sortTags(ctx context.Context, repository string) error {
	sorted := true
	err := m.look(ctx, "list tags", func() error {
		r, ok := m.repositories[repository]
		sorted = !ok || r.tagNames != nil
		return nil
	})
	if err != nil || sorted {
		return err
	}
	return m.change(ctx, "list tags", func(time.Time) error {
		if r, ok := m.repositories[repository]; ok {
			r.tagNames = sortedKeys(r.tags)
		}
		return nil
	})
}

// DeleteTag implements [store.Catalog].
func (m *Metadata) DeleteTag(ctx context.Context, repository, tag string) error {
	return m.change(ctx, "delete tag", func(time.Time) error {
		r, ok := m.repositories[repository]
		if !ok || r.tags[tag] == nil {
			return store.ErrManifestUnknown
		}
		r.untag(tag)
		return nil
	})
}

// tagsAllowed checks a put's condition and the tags that may not move.
func (m *Metadata) tagsAllowed(put store.ManifestPut) error {
	r := m.repositories[put.Repository]
	for _, tag := range put.Tags {
		var current digest.Digest
		if r != nil {
			current = r.tagged(tag)
		}
		if !put.Condition.Met(current) {
			return store.ErrConditionFailed
		}
		if current != "" && current != put.Manifest.Digest && put.Locked != nil && put.Locked(tag) {
			return &store.TagLockedError{Tag: tag}
		}
	}
	return nil
}

// tagged returns what a tag points to, or "".
func (r *repository) tagged(name string) digest.Digest {
	if t, ok := r.tags[name]; ok {
		return t.digest
	}
	return ""
}

func (r *repository) tag(now time.Time, name string, d digest.Digest) {
	t, ok := r.tags[name]
	switch {
	case !ok:
		t = &tag{digest: d}
		r.tags[name] = t
		r.tagNames = nil
	case t.digest != d:
		delete(r.manifests[t.digest].tags, name)
		*t = tag{digest: d}
	}
	t.pushed = now
	r.manifests[d].tags[name] = struct{}{}
}

func (r *repository) untag(name string) {
	delete(r.manifests[r.tags[name].digest].tags, name)
	delete(r.tags, name)
	r.tagNames = nil
}
