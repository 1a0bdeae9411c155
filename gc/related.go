package gc

import (
	"context"
	"fmt"
	"slices"

	"github.com/ocikit/ocikit/store"
)

// How many objects and contents at most tell whether they belong together. An audit's batches may be too small to tell.
const (
	relatedObjects  = 1000
	relatedContents = 100
)

// related fails if a repair would take the objects of one registry and the index of another for damage. It looks at the beginning,
// also if the audit goes on after a key: it is about the stores, not about a range of them.
func (a *audit) related(ctx context.Context) error {
	if !a.options.Repair || a.options.Force {
		return nil
	}
	if err := a.relatedObjects(ctx); err != nil {
		return err
	}
	return a.relatedContents(ctx)
}

// relatedObjects fails if the index names none of the first objects. What is staged tells only where no content is, and what is not
// the store's tells nothing.
func (a *audit) relatedObjects(ctx context.Context) error {
	for _, prefix := range []string{store.BlobPrefix, store.UploadPrefix} {
		keys, err := a.first(ctx, prefix)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			continue
		}
		unknown, err := a.meta.UnknownKeys(ctx, keys)
		if err != nil {
			return fmt.Errorf("look for keys: %w", err)
		}
		if len(unknown) < len(keys) {
			return nil
		}
		// A key becomes unknown after its object is deleted. So one that is unknown, and then still there, is a stranger.
		again, err := a.first(ctx, prefix)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(again, func(key store.Key) bool { return slices.Contains(keys, key) }) {
			return fmt.Errorf("%w: the index names none of the first objects under %s, of which %d were looked at", ErrUnrelated, prefix, len(keys))
		}
		return nil
	}
	return nil
}

// first returns the keys of the first objects under a prefix.
func (a *audit) first(ctx context.Context, prefix string) ([]store.Key, error) {
	objects, err := a.objects.List(ctx, prefix, "", relatedObjects)
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	keys := make([]store.Key, 0, len(objects))
	for _, o := range objects {
		if !probes(o) {
			keys = append(keys, o.Key)
		}
	}
	return keys, nil
}

// relatedContents fails if none of the first contents has its object. What is marked as missing is not expected to have one.
func (a *audit) relatedContents(ctx context.Context) error {
	lost, after := 0, store.Key("")
	for more := true; more && lost < relatedContents; {
		limit := relatedContents - lost
		page, err := a.meta.StoredContents(ctx, after, limit)
		if err != nil {
			return fmt.Errorf("list contents: %w", err)
		}
		more = len(page) == limit
		for _, row := range page {
			after = row.Key
			if row.Missing {
				continue
			}
			there, err := a.exists(ctx, row.Key)
			if err != nil || there {
				return err
			}
			if row, err = a.row(ctx, row); err != nil {
				return err
			}
			if row.Key != "" && !row.Missing { // and has not been collected meanwhile
				lost++
			}
		}
	}
	if lost == 0 {
		return nil
	}
	return fmt.Errorf("%w: none of the first contents has its object, of which %d were looked at", ErrUnrelated, lost)
}
