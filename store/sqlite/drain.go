package sqlite

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// DeleteRepository implements [store.Collector]. It is one statement.
func (m *Metadata) DeleteRepository(ctx context.Context, repository string) error {
	return change(ctx, m, "delete repository", func(tx *transaction) error {
		// One row by its name.
		renamed, err := tx.exec(`update repositories set name = '/' || id where name = ?1`, repository)
		if err != nil {
			return err
		}
		if renamed == 0 {
			return store.ErrRepositoryUnknown
		}
		return nil
	})
}

// DrainRepositories implements [store.Collector]. It is at most ten statements.
func (m *Metadata) DrainRepositories(ctx context.Context, limit int) (int, error) {
	return write(ctx, m, "drain repositories", func(tx *transaction) (int, error) {
		var repository int64
		// The beginning of the index by name.
		found, err := tx.row(`select id from repositories where name >= '/' and name < '0' order by name limit 1`, nil, &repository)
		if err != nil || !found {
			return 0, err
		}
		return tx.drain(repository, limit)
	})
}

// drains delete rows of a repository, up to a limit, in the order in which they hang on each other. Each finds them at the
// beginning of a range of an index, so that what is gone costs the next call nothing, and returns what they led to: a put may have
// taken the candidate of content that no link leads to, so that only an edge does.
var drains = []string{
	`delete from tags where (repository, name) in (select repository, name from tags where repository = ?1 limit ?2) returning ''`,
	`delete from edges where (parent, child) in (
		select parent, child from edges indexed by edges_by_present
		where repository = ?1 and present is not null limit ?2) returning child`,
	`delete from edges where (parent, child) in (
		select parent, child from edges indexed by edges_by_absent
		where repository = ?1 and present is null limit ?2) returning child`,
	`delete from manifests where id in (select id from manifests where repository = ?1 limit ?2) returning ''`,
	`delete from links where repository = ?1 and digest in (
		select digest from links where repository = ?1 limit ?2) returning digest`,
}

// drain deletes up to limit rows of a repository, the repository's own as the last one.
func (tx *transaction) drain(repository int64, limit int) (drained int, err error) {
	for _, statement := range drains {
		if drained >= limit {
			return drained, nil
		}
		gone, err := values[digest.Digest](tx.connection, statement, repository, limit-drained)
		if err != nil {
			return drained, err
		}
		drained += len(gone)
		led := slices.DeleteFunc(gone, func(d digest.Digest) bool { return d == "" })
		if err := tx.touch("", led...); err != nil {
			return drained, err
		}
	}
	if drained >= limit {
		return drained, nil
	}
	return drained + 1, tx.vanish(repository)
}
