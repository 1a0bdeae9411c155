package sqlite

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Manifest implements [store.Catalog]. It is one statement.
func (m *Metadata) Manifest(ctx context.Context, repository string, ref store.ManifestRef) (store.Manifest, error) {
	return read(ctx, m, "manifest", func(c *connection) (store.Manifest, error) {
		// Reads one row of each table, by its key.
		query, name := `
			select m.digest, m.media_type, m.artifact_type, m.subject, m.annotations, c.inline
			from repositories r
			cross join manifests m on m.repository = r.id and m.digest = ?2
			cross join contents c on c.digest = m.digest
			where r.name = ?1`, ref.Digest.String()
		if ref.Tag != "" {
			// The same, with the tag's row before.
			query, name = `
			select m.digest, m.media_type, m.artifact_type, m.subject, m.annotations, c.inline
			from repositories r
			cross join tags t on t.repository = r.id and t.name = ?2
			cross join manifests m on m.id = t.manifest
			cross join contents c on c.digest = m.digest
			where r.name = ?1`, ref.Tag
		}
		var manifest store.Manifest
		var annotations []byte
		found, err := c.row(query, []any{repository, name}, &manifest.Digest, &manifest.MediaType,
			&manifest.ArtifactType, &manifest.Subject, &annotations, &manifest.Bytes)
		if err != nil {
			return store.Manifest{}, err
		}
		if !found {
			return store.Manifest{}, store.ErrManifestUnknown
		}
		manifest.Annotations, err = decodeAnnotations(annotations)
		return manifest, err
	})
}

// PutManifest implements [store.Catalog]. It is nine statements, however many references there are; with tags one for each
// and one for all; and one more each when the repository is new or an object is replaced.
func (m *Metadata) PutManifest(ctx context.Context, put store.ManifestPut) error {
	return change(ctx, m, "put manifest", func(tx *transaction) error { return tx.putManifest(put) })
}

func (tx *transaction) putManifest(put store.ManifestPut) error {
	manifest, children := put.Manifest, references(put.References)
	// Rows by their keys. From here on the children are needed, and so is the manifest itself.
	if _, err := tx.exec(`
		delete from candidates where repository = ?1 and digest in (select value from json_each(?2))`,
		put.Repository, list(append(children, manifest.Digest))); err != nil {
		return err
	}
	if err := tx.record(store.Content{
		Digest: manifest.Digest, Size: int64(len(manifest.Bytes)), Inline: manifest.Bytes,
	}); err != nil {
		return err
	}
	repository, err := tx.repository(put.Repository)
	if err != nil {
		return err
	}
	if err := tx.link(repository, manifest.Digest); err != nil {
		return err
	}
	id, err := tx.describe(repository, manifest)
	if err != nil {
		return err
	}
	if !put.AllowMissing {
		if err := tx.complete(repository, put.References); err != nil {
			return err
		}
	}
	if err := tx.connect(repository, id, children); err != nil {
		return err
	}
	return tx.moveTags(repository, id, put)
}

// references returns the digests, in order.
func references(references []store.Reference) []digest.Digest {
	digests := make([]digest.Digest, len(references))
	for i, reference := range references {
		digests[i] = reference.Digest
	}
	return digests
}

// describe writes the manifest's row, and returns its id: what is told of it now wins.
func (tx *transaction) describe(repository int64, manifest store.Manifest) (id int64, err error) {
	annotations, err := encodeAnnotations(manifest.Annotations)
	if err != nil {
		return 0, err
	}
	// One row by its key.
	_, err = tx.row(`
		insert into manifests (repository, digest, media_type, artifact_type, subject, annotations, size, pushed)
		values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
		on conflict (repository, digest) do update
		set media_type = excluded.media_type, artifact_type = excluded.artifact_type, subject = excluded.subject,
			annotations = excluded.annotations, size = excluded.size, pushed = excluded.pushed
		returning id`,
		[]any{repository, manifest.Digest, manifest.MediaType, manifest.ArtifactType, manifest.Subject, annotations,
			len(manifest.Bytes), tx.now.UnixNano()}, &id)
	return id, err
}

// complete fails with a [*store.MissingError] unless the repository has what must be there: a link to each reference, and for
// a manifest its row.
func (tx *transaction) complete(repository int64, needed []store.Reference) error {
	var required []store.Reference
	for _, reference := range needed {
		if !reference.Optional {
			required = append(required, reference)
		}
	}
	if len(required) == 0 {
		return nil
	}
	type presence struct {
		digest         digest.Digest
		link, manifest bool
	}
	// One row of each table by its key, for each reference. With the write lock held, what is here stays.
	found, err := rows(tx.connection, `
		select j.value, l.digest is not null and c.missing is null, m.digest is not null
		from json_each(?2) j
		left join links l on l.repository = ?1 and l.digest = j.value
		left join contents c on c.digest = l.digest
		left join manifests m on m.repository = ?1 and m.digest = j.value`,
		[]any{repository, list(references(required))},
		func(scan func(...any) error) (p presence, err error) {
			err = scan(&p.digest, &p.link, &p.manifest)
			return p, err
		})
	if err != nil {
		return err
	}
	present := make(map[digest.Digest]presence, len(found))
	for _, p := range found {
		present[p.digest] = p
	}
	var missing []digest.Digest
	told := map[digest.Digest]bool{}
	for _, reference := range required {
		p := present[reference.Digest]
		if here := p.link && (p.manifest || !reference.Manifest); !here && !told[reference.Digest] {
			missing = append(missing, reference.Digest)
			told[reference.Digest] = true
		}
	}
	if len(missing) > 0 {
		return &store.MissingError{Digests: missing}
	}
	return nil
}

// connect makes the manifest's edges anew: what has come since an earlier put is held from now on.
func (tx *transaction) connect(repository, parent int64, children []digest.Digest) error {
	if err := tx.disconnect(parent); err != nil {
		return err
	}
	// One link by its key and one new row for each child; one that is named twice is one edge.
	_, err := tx.exec(`
		insert into edges (repository, parent, child, present)
		select ?1, ?2, j.value, (select l.digest from links l where l.repository = ?1 and l.digest = j.value)
		from json_each(?3) j where true
		on conflict do nothing`,
		repository, parent, list(children))
	return err
}

// disconnect deletes the manifest's edges.
func (tx *transaction) disconnect(parent int64) error {
	// A range of the key.
	_, err := tx.exec(`delete from edges where parent = ?1`, parent)
	return err
}

// DeleteManifest implements [store.Catalog]. It is ten statements, and one more with locked.
func (m *Metadata) DeleteManifest(ctx context.Context, repository string, d digest.Digest, locked func(tag string) bool) error {
	return change(ctx, m, "delete manifest", func(tx *transaction) error {
		return tx.deleteManifest(repository, d, deletion{may: func(_, id int64) error { return tx.unlocked(id, locked) }})
	})
}

// deletion is what those who delete a manifest have of their own.
type deletion struct {
	may    func(inside, id int64) error                       // asks, by the ids of its repository and of itself, if it may go
	erased func(inside int64, children []digest.Digest) error // looks at what it leaves, before its link goes; or nil
}

// deleteManifest deletes a manifest if it may go.
func (tx *transaction) deleteManifest(repository string, d digest.Digest, deletion deletion) error {
	var inside, id int64
	// One row of each table, by its key.
	found, err := tx.row(`
		select r.id, m.id from repositories r cross join manifests m on m.repository = r.id and m.digest = ?2
		where r.name = ?1`, []any{repository, d}, &inside, &id)
	if err != nil {
		return err
	}
	if !found {
		return store.ErrManifestUnknown
	}
	if err := tx.unreferenced(inside, d); err != nil {
		return err
	}
	if err := deletion.may(inside, id); err != nil {
		return err
	}
	// All that it referred to is a candidate from now on, whoever else refers to it: that is for the collector to
	// find out.
	// A range of the key.
	children, err := values[digest.Digest](tx.connection, `select child from edges where parent = ?1`, id)
	if err != nil {
		return err
	}
	if err := tx.touch(repository, children...); err != nil {
		return err
	}
	// One row by its key.
	if _, err := tx.exec(`
		insert into candidates (repository, digest, touched, deleted, deletion) values (?1, ?2, ?3, 1, ?3)
		on conflict (repository, digest) do update set touched = excluded.touched, deleted = 1, deletion = excluded.deletion`,
		repository, d, tx.now.UnixNano()); err != nil {
		return err
	}
	if err := tx.erase(id); err != nil {
		return err
	}
	if deletion.erased != nil {
		if err := deletion.erased(inside, children); err != nil {
			return err
		}
	}
	return tx.unlink(inside, d)
}

// unlocked fails with a [*store.TagLockedError] when the manifest has a tag that is locked.
func (tx *transaction) unlocked(manifest int64, locked func(tag string) bool) error {
	if locked == nil {
		return nil
	}
	// A range of the index by manifest.
	tags, err := values[string](tx.connection, `select name from tags where manifest = ?1`, manifest)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(tags, locked); i >= 0 {
		return &store.TagLockedError{Tag: tags[i]}
	}
	return nil
}

// erase deletes a manifest with its tags and its edges.
func (tx *transaction) erase(manifest int64) error {
	// A range of the index by manifest.
	if _, err := tx.exec(`delete from tags where manifest = ?1`, manifest); err != nil {
		return err
	}
	if err := tx.disconnect(manifest); err != nil {
		return err
	}
	// One row by its key.
	_, err := tx.exec(`delete from manifests where id = ?1`, manifest)
	return err
}
