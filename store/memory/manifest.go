package memory

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// PutManifest implements [store.Catalog].
func (m *Metadata) PutManifest(ctx context.Context, put store.ManifestPut) error {
	return m.change(ctx, "put manifest", func(now time.Time) error {
		if err := m.missing(put); err != nil {
			return err
		}
		if err := m.tagsAllowed(put); err != nil {
			return err
		}
		d := put.Manifest.Digest
		for _, ref := range put.References {
			delete(m.candidates, candidate{put.Repository, ref.Digest})
		}
		delete(m.candidates, candidate{put.Repository, d})
		entry, known := m.manifest(put.Repository, d)
		if !known {
			entry = m.link(put.Repository, d).add(put)
		}
		entry.MediaType, entry.pushed = put.Manifest.MediaType, now
		m.record(now, store.Content{Digest: d, Size: int64(len(entry.Bytes)), Inline: entry.Bytes})
		r := m.repositories[put.Repository]
		for _, tag := range put.Tags {
			r.tag(now, tag, d)
		}
		return nil
	})
}

// manifest returns a manifest that the repository has.
func (m *Metadata) manifest(name string, d digest.Digest) (*manifest, bool) {
	r, ok := m.repositories[name]
	if !ok {
		return nil, false
	}
	entry, ok := r.manifests[d]
	return entry, ok
}

// missing checks that what the manifest refers to is here: manifests as such, anything else by its link.
func (m *Metadata) missing(put store.ManifestPut) error {
	if put.AllowMissing {
		return nil
	}
	var missing []digest.Digest
	r := m.repositories[put.Repository]
	for _, ref := range put.References {
		if !ref.Optional && !m.has(r, ref) && !slices.Contains(missing, ref.Digest) {
			missing = append(missing, ref.Digest)
		}
	}
	if len(missing) > 0 {
		return &store.MissingError{Digests: missing}
	}
	return nil
}

// has reports whether what is referred to is here, and not missing.
func (m *Metadata) has(r *repository, ref store.Reference) bool {
	if r == nil || m.contents[ref.Digest].missing {
		return false
	}
	if ref.Manifest {
		_, ok := r.manifests[ref.Digest]
		return ok
	}
	_, ok := r.links[ref.Digest]
	return ok
}

// add keeps a manifest that the repository did not have, with its edges.
func (r *repository) add(put store.ManifestPut) *manifest {
	d := put.Manifest.Digest
	entry := &manifest{Manifest: put.Manifest, references: slices.Clone(put.References), tags: map[string]struct{}{}}
	entry.Bytes = bytes.Clone(put.Manifest.Bytes)
	entry.Annotations = maps.Clone(put.Manifest.Annotations)
	r.manifests[d] = entry
	for _, ref := range put.References {
		if r.parents[ref.Digest] == nil {
			r.parents[ref.Digest] = map[digest.Digest]struct{}{}
		}
		r.parents[ref.Digest][d] = struct{}{}
	}
	if subject := put.Manifest.Subject; subject != "" {
		at, _ := slices.BinarySearch(r.referrers[subject], d)
		r.referrers[subject] = slices.Insert(r.referrers[subject], at, d)
	}
	return entry
}

// Manifest implements [store.Catalog].
func (m *Metadata) Manifest(ctx context.Context, repository string, ref store.ManifestRef) (found store.Manifest, err error) {
	err = m.look(ctx, "find manifest", func() error {
		r, ok := m.repositories[repository]
		if !ok {
			return store.ErrManifestUnknown
		}
		d := ref.Digest
		if ref.Tag != "" {
			d = r.tagged(ref.Tag)
		}
		entry, ok := r.manifests[d]
		if !ok {
			return store.ErrManifestUnknown
		}
		found = entry.Manifest
		return nil
	})
	return found, err
}

// DeleteManifest implements [store.Catalog].
func (m *Metadata) DeleteManifest(ctx context.Context, name string, d digest.Digest, locked func(tag string) bool) error {
	return m.change(ctx, "delete manifest", func(now time.Time) error {
		return m.deleteManifest(now, name, d, func(_ *repository, entry *manifest) error {
			for tag := range entry.tags {
				if locked != nil && locked(tag) {
					return &store.TagLockedError{Tag: tag}
				}
			}
			return nil
		})
	})
}

// deleteManifest deletes a manifest if it may go.
func (m *Metadata) deleteManifest(now time.Time, name string, d digest.Digest, may func(*repository, *manifest) error) error {
	entry, ok := m.manifest(name, d)
	if !ok {
		return store.ErrManifestUnknown
	}
	r := m.repositories[name]
	if parents := r.parents[d]; len(parents) > 0 {
		return &store.ReferencedError{By: slices.Min(slices.Collect(maps.Keys(parents)))}
	}
	if err := may(r, entry); err != nil {
		return err
	}
	for tag := range entry.tags {
		r.untag(tag)
	}
	r.remove(entry)
	for _, ref := range entry.references {
		m.touch(now, name, ref.Digest)
	}
	m.unlink(now, name, d)
	m.candidates[candidate{name, d}] = touch{now, now}
	return nil
}

// remove undoes add.
func (r *repository) remove(entry *manifest) {
	delete(r.manifests, entry.Digest)
	for _, ref := range entry.references {
		delete(r.parents[ref.Digest], entry.Digest)
		if len(r.parents[ref.Digest]) == 0 {
			delete(r.parents, ref.Digest)
		}
	}
	if subject := entry.Subject; subject != "" {
		at, _ := slices.BinarySearch(r.referrers[subject], entry.Digest)
		r.referrers[subject] = slices.Delete(r.referrers[subject], at, at+1)
		if len(r.referrers[subject]) == 0 {
			delete(r.referrers, subject)
		}
	}
}

// DeleteContent implements [store.Catalog].
func (m *Metadata) DeleteContent(ctx context.Context, repository string, d digest.Digest) error {
	return m.change(ctx, "delete content", func(now time.Time) error {
		if _, err := m.linked(repository, d); err != nil {
			return err
		}
		r := m.repositories[repository]
		if _, ok := r.manifests[d]; ok {
			return &store.ReferencedError{By: d}
		}
		if parents := r.parents[d]; len(parents) > 0 {
			return &store.ReferencedError{By: slices.Min(slices.Collect(maps.Keys(parents)))}
		}
		m.unlink(now, repository, d)
		return nil
	})
}
