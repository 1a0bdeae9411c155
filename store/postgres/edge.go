package postgres

import (
	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// untouch queues the statements that take contents of the repository off the candidates, since they are needed from here on.
func (tx *transaction) untouch(repository string, digests []digest.Digest) {
	family := sorted(digests)
	// Locks rows by their keys, in order: a collector that has one is waited for, and gets none of them any more.
	tx.exec(`
		select from unnest($2::text[]) d
		cross join lateral (
			select from {schema}.candidates where repository = $1 and digest = d for update
		) locked`,
		repository, family)
	// The same rows by their keys. They are found one by one: given a list PostgreSQL may read all that the repository has.
	tx.exec(`
		delete from {schema}.candidates where ctid = any(array(
			select found.ctid from unnest($2::text[]) d
			cross join lateral (
				select ctid from {schema}.candidates where repository = $1 and digest = d limit 1
			) found))`,
		repository, family)
}

// holdLinks queues the statement that locks the links to contents, where there are any.
func (tx *transaction) holdLinks(repository string, digests []digest.Digest) {
	// Locks rows by their keys, in order, as the foreign key of an edge does: a deletion or a collector that has one is waited
	// for, and what is here after that stays until this transaction has its edges.
	tx.exec(`
		select from unnest($2::text[]) d
		cross join lateral (
			select from {schema}.links
			where repository = (select id from {schema}.repositories where name = $1) and digest = d for key share
		) locked`,
		repository, sorted(digests))
}

// connect queues the statement that makes the manifest's edges. One that is there is kept; what has come since is held from
// now on.
func (tx *transaction) connect(repository string, parent digest.Digest, children []digest.Digest) {
	if len(children) == 0 {
		return
	}
	// One link by its key and one row by its key for each child, in order; the foreign key locks the link.
	tx.exec(`
		insert into {schema}.edges as e (repository, parent, child, present)
		select r.id, $2, d, (select l.digest from {schema}.links l where l.repository = r.id and l.digest = d)
		from (select (select id from {schema}.repositories where name = $1)) r (id), unnest($3::text[]) d
		on conflict (repository, parent, child) do update set present = excluded.present
		where e.present is null and excluded.present is not null`,
		repository, parent.String(), sorted(children))
}

// presence tells whether a reference is here.
type presence struct {
	digest   digest.Digest
	link     bool // that an edge holds
	manifest bool
}

// presence queues a look for what is here of a manifest's references, which have their edges. What has come since those were made
// counts as absent: no edge holds it, so that it may be gone again before this transaction ends.
func (tx *transaction) presence(repository string, parent digest.Digest, digests []digest.Digest) *[]presence {
	// One row of each table by its key, for each reference. With exists instead, PostgreSQL may read all manifests of the
	// repository into memory first.
	return rows(tx, `
		select d,
			coalesce((
				select c.missing is null from {schema}.contents c
				where c.digest = (select e.present from {schema}.edges e where e.repository = r.id and e.parent = $2 and e.child = d)), false),
			coalesce((select true from {schema}.manifests m where m.repository = r.id and m.digest = d), false)
		from (select (select id from {schema}.repositories where name = $1)) r (id), unnest($3::text[]) d`,
		[]any{repository, parent.String(), sorted(digests)}, func(scan func(...any) error) (p presence, err error) {
			err = scan(&p.digest, &p.link, &p.manifest)
			return p, err
		})
}

// requiredBy returns the references that must be here.
func requiredBy(put store.ManifestPut) []store.Reference {
	if put.AllowMissing {
		return nil
	}
	var required []store.Reference
	for _, reference := range put.References {
		if !reference.Optional {
			required = append(required, reference)
		}
	}
	return required
}

// complete fails with a [*store.MissingError] unless what is required is here: a link to each reference, and for a manifest its
// row.
func complete(required []store.Reference, here []presence) error {
	present := make(map[digest.Digest]presence, len(here))
	for _, p := range here {
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
