package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// DeleteRepository implements [store.Collector]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) DeleteRepository(ctx context.Context, repository string) error {
	// One row by its name. Who makes a link in it holds it for key share, and is waited for; who comes later does not find it.
	deleted, err := single(ctx, m, "delete repository", `
		update {schema}.repositories set name = null where name = $1 returning id`, []any{repository}, scanOne[int64])
	if err == nil && len(deleted) == 0 {
		err = fmt.Errorf("postgres: delete repository: %w", store.ErrRepositoryUnknown)
	}
	return err
}

// drains are the statements that delete rows of a repository, in the order in which they hang on each other. Each deletes a
// range of a key that begins with the repository, in the key's order: without one, PostgreSQL may read the whole range each time, if it
// supposes that to be a small one. Nobody else can reach these rows, and the repository is locked. They answer with what nothing but
// an edge may have led to: a put may have taken the candidate of content that no link leads to.
var drains = []string{
	`delete from {schema}.tags where ctid = any(array(select ctid from {schema}.tags where repository = $1 order by name limit $2)) returning ''`,
	`delete from {schema}.edges where ctid = any(array(select ctid from {schema}.edges where repository = $1 order by parent, child limit $2)) returning child`,
	`delete from {schema}.manifests where ctid = any(array(select ctid from {schema}.manifests where repository = $1 order by digest limit $2)) returning ''`,
}

// DrainRepositories implements [store.Collector]. It is one statement if there is nothing to drain, else at most nine, and six
// round trips.
func (m *Metadata) DrainRepositories(ctx context.Context, limit int) (drained int, err error) {
	err = change(ctx, m, "drain repositories", func(ctx context.Context, tx *transaction) error {
		drained = 0
		// Any row of those without a name, which an index finds. Locks it, unless another collector has it.
		found := values[int64](tx, `
			select id from {schema}.repositories where name is null limit 1 for update skip locked`)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		repository, ok := first(found)
		if !ok {
			return errNothing
		}
		for _, statement := range drains {
			gone := values[digest.Digest](tx, statement, repository, max(limit-drained, 0))
			if err := tx.roundTrip(ctx); err != nil {
				return err
			}
			if children := slices.DeleteFunc(slices.Clone(*gone), func(d digest.Digest) bool { return d == "" }); len(children) > 0 {
				tx.touch("", children...)
			}
			if drained += len(*gone); drained >= limit {
				return nil
			}
		}
		return tx.drainLinks(ctx, repository, limit, &drained)
	})
	return drained, err
}

// drainLinks deletes links of a repository that has nothing else, and the repository with the last. Their contents are
// candidates of no repository from now on.
func (tx *transaction) drainLinks(ctx context.Context, repository int64, limit int, drained *int) error {
	// A range of the key.
	found := values[digest.Digest](tx, `select digest from {schema}.links where repository = $1 order by digest limit $2`,
		repository, limit-*drained)
	if err := tx.roundTrip(ctx); err != nil {
		return err
	}
	links := *found
	if len(links) > 0 {
		tx.touch("", links...)
		// Rows by their keys.
		tx.exec(`delete from {schema}.links where repository = $1 and digest = any($2)`, repository, texts(links))
	}
	if *drained += len(links); *drained < limit {
		// One row by its key.
		tx.exec(`delete from {schema}.repositories where id = $1`, repository)
		*drained++
	}
	return nil
}
