package registry

import (
	"context"

	"github.com/ocikit/ocikit/store"
)

// Tags implements [Lister].
func (l *Local) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	tags, err := l.meta.Tags(ctx, repository, after, limit)
	return tags, translate(err)
}

// DeleteTag implements [Deleter].
func (l *Local) DeleteTag(ctx context.Context, repository, tag string) error {
	if l.options.NoDelete {
		return errNoDelete
	}
	if l.options.Immutable != nil && l.options.Immutable(repository, tag) {
		if _, err := l.meta.Manifest(ctx, repository, store.ManifestRef{Tag: tag}); err != nil {
			return translate(err)
		}
		return ErrDenied.With("tag %s is immutable", tag)
	}
	return translate(l.meta.DeleteTag(ctx, repository, tag))
}
