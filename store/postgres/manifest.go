package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Manifest implements [store.Catalog]. It is one statement, and one round trip.
func (m *Metadata) Manifest(ctx context.Context, repository string, ref store.ManifestRef) (store.Manifest, error) {
	// Reads one row of each table, by its key. As a join it would take long to plan, as in selectContent.
	statement, name := `
		select digest, media_type, artifact_type, subject, annotations,
			(select inline from {schema}.contents c where c.digest = m.digest)
		from {schema}.manifests m
		where repository = (select id from {schema}.repositories where name = $1) and digest = $2`, ref.Digest.String()
	if ref.Tag != "" {
		// The same, with the tag's row before.
		statement, name = `
		select digest, media_type, artifact_type, subject, annotations,
			(select inline from {schema}.contents c where c.digest = m.digest)
		from {schema}.manifests m
		where repository = (select id from {schema}.repositories where name = $1) and digest = (
			select digest from {schema}.tags
			where repository = (select id from {schema}.repositories where name = $1) and name = $2)`, ref.Tag
	}
	return row(ctx, m, "manifest", store.ErrManifestUnknown, statement, []any{repository, name},
		func(scan func(...any) error) (manifest store.Manifest, err error) {
			var annotations []byte
			if err := scan(&manifest.Digest, &manifest.MediaType, &manifest.ArtifactType, &manifest.Subject,
				&annotations, &manifest.Bytes); err != nil {
				return store.Manifest{}, err
			}
			manifest.MediaType, manifest.ArtifactType, manifest.Annotations, err = decodeDescription(
				manifest.MediaType, manifest.ArtifactType, annotations)
			return manifest, err
		})
}

// PutManifest implements [store.Catalog]. It is nine statements, however many references there are, two more with tags, one more
// for each tag that moves, and two round trips.
func (m *Metadata) PutManifest(ctx context.Context, put store.ManifestPut) error {
	annotations, err := encodeAnnotations(put.Manifest.Annotations)
	if err != nil {
		return err
	}
	return change(ctx, m, "put manifest", func(ctx context.Context, tx *transaction) error {
		manifest, children := put.Manifest, references(put.References)
		family := append(slices.Clone(children), manifest.Digest)
		tx.untouch(put.Repository, family)
		tx.record(store.Content{Digest: manifest.Digest, Size: int64(len(manifest.Bytes)), Inline: manifest.Bytes})
		tx.holdLinks(put.Repository, family)
		tx.appear(put.Repository)
		tx.link(put.Repository, manifest.Digest)
		tx.describe(put.Repository, manifest, annotations)
		tx.connect(put.Repository, manifest.Digest, children)
		var here *[]presence
		required := requiredBy(put)
		if len(required) > 0 {
			here = tx.presence(put.Repository, manifest.Digest, references(required))
		}
		tags := tx.claimTags(put)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		if len(required) > 0 {
			if err := complete(required, *here); err != nil {
				return err
			}
		}
		return tx.moveTags(put, tags)
	})
}

// references returns the digests, in order.
func references(references []store.Reference) []digest.Digest {
	digests := make([]digest.Digest, len(references))
	for i, reference := range references {
		digests[i] = reference.Digest
	}
	return digests
}

// describe queues the statement that writes the manifest's row: what is told of it now wins.
func (tx *transaction) describe(repository string, manifest store.Manifest, annotations *string) {
	// One row by its key, which is locked if it need not be written: when it was pushed is kept to the minute, but for referrers, of
	// which somebody asks whether their subject was deleted before. The repository's row is locked, and so is its id.
	tx.exec(`
		insert into {schema}.manifests as m (repository, digest, media_type, artifact_type, subject, annotations, size, pushed)
		values ((select id from {schema}.repositories where name = $2), $3, $4, $5, $6, $7, $8, {now})
		on conflict (repository, digest) do update
		set media_type = excluded.media_type, artifact_type = excluded.artifact_type, subject = excluded.subject,
			annotations = excluded.annotations, size = excluded.size, pushed = excluded.pushed
		where m.pushed <= excluded.pushed - interval '1 minute' or excluded.subject <> ''
			or (m.media_type, m.artifact_type, m.subject, m.annotations)
				is distinct from (excluded.media_type, excluded.artifact_type, excluded.subject, excluded.annotations)`,
		tx.m.clock(), repository, manifest.Digest.String(), encodeText(manifest.MediaType), encodeText(manifest.ArtifactType),
		manifest.Subject.String(), annotations, len(manifest.Bytes))
}

// DeleteManifest implements [store.Catalog]. It is 11 statements, 12 if the repository goes with it, and two round trips.
func (m *Metadata) DeleteManifest(ctx context.Context, repository string, d digest.Digest, locked func(tag string) bool) error {
	return m.deleteManifest(ctx, "delete manifest", repository, d, deletion{may: func(f family) error {
		if locked != nil {
			if i := slices.IndexFunc(f.tags, locked); i >= 0 {
				return &store.TagLockedError{Tag: f.tags[i]}
			}
		}
		return nil
	}})
}

// deletion is what those who delete a manifest have of their own.
type deletion struct {
	may    func(family) error                                         // whether it may go
	erased func(tx *transaction, repository int64, children []string) // queues a look at what it leaves, before its link goes; or nil
}

// deleteManifest deletes a manifest if it may go.
func (m *Metadata) deleteManifest(ctx context.Context, what, repository string, d digest.Digest, deletion deletion) error {
	return change(ctx, m, what, func(ctx context.Context, tx *transaction) error {
		touched := tx.touchFamily(repository, d)
		lock := tx.lockLink(repository, d)
		parent := tx.parent(repository, d)
		family := tx.family(repository, d)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		link, err := lock.link()
		if err != nil {
			return err
		}
		manifest, found := first(family)
		if link == nil || !found {
			return store.ErrManifestUnknown
		}
		if by := (*parent)[0]; by != "" {
			return &store.ReferencedError{By: by}
		}
		if err := deletion.may(manifest); err != nil {
			return err
		}
		if slices.ContainsFunc(manifest.children, func(child string) bool { return !slices.Contains(*touched, child) }) {
			return errAgain // it was put, or put again, since they were touched
		}
		tx.erase(link.repository, d)
		if deletion.erased != nil {
			deletion.erased(tx, link.repository, manifest.children)
		}
		tx.unlink(*link, d)
		return nil
	})
}

// touchFamily queues the statement that makes candidates of a manifest and of all that it refers to, whoever else refers to it:
// that is for the collector to find out. It answers with their digests.
func (tx *transaction) touchFamily(repository string, d digest.Digest) *[]string {
	// A range of the key of edges, and rows of candidates by their keys, in order; each is locked from here on.
	return values[string](tx, `
		insert into {schema}.candidates as c (repository, digest, touched, deleted, deletion)
		select $2, family.digest, {now}, family.digest = $3, case when family.digest = $3 then {now} end
		from (
			select $3 as digest
			union
			select child from {schema}.edges
			where repository = (select id from {schema}.repositories where name = $2) and parent = $3
			order by digest
		) family
		on conflict (repository, digest) do update
		set touched = excluded.touched, deleted = c.deleted or excluded.deleted, deletion = coalesce(excluded.deletion, c.deletion)
		returning digest`,
		tx.m.clock(), repository, d.String())
}

// family is what hangs on a manifest.
type family struct {
	children  []string
	tags      []string
	pushed    time.Time // last
	last, now time.Time // when it was last pushed or pulled, and when that was looked at
	subject   bool      // its subject is here
}

// family queues a look at a manifest whose link is locked: so nobody gives it a tag, nor edges.
func (tx *transaction) family(repository string, d digest.Digest) *[]family {
	// One row by its key and one by its subject's, a range of the key of edges, and one of the index of tags by digest.
	return rows(tx, `
		select
			array(select child from {schema}.edges where repository = m.repository and parent = m.digest),
			array(select name from {schema}.tags where repository = m.repository and digest = m.digest order by name),
			pushed, greatest(pushed, pulled), {now},
			coalesce((select true from {schema}.manifests s where s.repository = m.repository and s.digest = m.subject), false)
		from {schema}.manifests m
		where m.repository = (select id from {schema}.repositories where name = $2) and m.digest = $3`,
		[]any{tx.m.clock(), repository, d.String()}, func(scan func(...any) error) (f family, err error) {
			err = scan(&f.children, &f.tags, &f.pushed, &f.last, &f.now, &f.subject)
			return f, err
		})
}

// erase queues the statements that delete a manifest with its tags and its edges.
func (tx *transaction) erase(repository int64, d digest.Digest) {
	// A range of the index by digest, in the order of names. A tag that is being moved away is waited for, and then left alone.
	tx.exec(`delete from {schema}.tags where repository = $1 and digest = $2`, repository, d.String())
	// A range of the key.
	tx.exec(`delete from {schema}.edges where repository = $1 and parent = $2`, repository, d.String())
	// One row by its key.
	tx.exec(`delete from {schema}.manifests where repository = $1 and digest = $2`, repository, d.String())
}
