package postgres

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// appear queues the statement that makes a repository which is not there. The transaction's next step is a link to it.
func (tx *transaction) appear(repository string) {
	// One row by its name. Who inserts it at the same time is waited for.
	tx.exec(`
		insert into {schema}.repositories (name, created)
		select $2, {now} where not exists (select from {schema}.repositories where name = $2)
		on conflict (name) do nothing`,
		tx.m.clock(), repository)
	if store.IsMirror(repository) {
		tx.exec(fmt.Sprintf(turnMirror, "$1"), repository)
	}
}

// turnMirror turns round the id of a mirrored repository. It is one row by its name, if that was made just now, and nothing hangs on it.
const turnMirror = `
	update {schema}.repositories r set id = -id
	where name = %s and id > 0 and not exists (select from {schema}.links where repository = r.id)`

// link queues the statement that makes recorded content visible in a repository.
func (tx *transaction) link(repository string, d digest.Digest) {
	// Locks the repository's row, for key share: it cannot go, nor lose its name, before the link is there. If it has gone
	// since it appeared, its id is NULL, which a link may not have: then the transaction runs again (see [isConflict]).
	tx.exec(`
		insert into {schema}.links (repository, digest)
		values ((select id from {schema}.repositories where name = $1 for key share), $2)
		on conflict do nothing`,
		repository, d.String())
}

// linkLock is what [transaction.lockLink] will know.
type linkLock struct {
	locked     *[]int64 // the link's repository
	repository *[]int64 // the same, if it may have to go
	found      *[]lockedLink
}

// lockedLink is a link that may be deleted.
type lockedLink struct {
	repository int64
	last       bool // of its repository
}

// lockLink queues the statements that lock a link for its deletion, and its repository if that goes with it.
func (tx *transaction) lockLink(repository string, d digest.Digest) linkLock {
	var lock linkLock
	// Locks the link's row: a manifest that is being put and refers to it is waited for, and from now on none gets its edge.
	lock.locked = values[int64](tx, `
		select repository from {schema}.links
		where repository = (select id from {schema}.repositories where name = $1) and digest = $2 for update`,
		repository, d.String())
	// Locks the repository's row against others who delete links of it: of two that delete the last two, one must see the
	// other's gone. Who makes links holds the row for key share, and is not in the way.
	tx.exec(`select from {schema}.repositories where name = $1 for no key update`, repository)
	// If no other link is to be seen, locks it against those too, and waits for them, since it may have to go.
	lock.repository = values[int64](tx, `
		select r.id from {schema}.repositories r
		where r.name = $1 and not exists (select from {schema}.links l where l.repository = r.id and l.digest <> $2)
		for update`,
		repository, d.String())
	// Looks, now that nothing of this can change.
	lock.found = rows(tx, `
		select l.repository, not exists (select from {schema}.links o where o.repository = l.repository and o.digest <> $2)
		from {schema}.links l
		where l.repository = (select id from {schema}.repositories where name = $1) and l.digest = $2`,
		[]any{repository, d.String()}, func(scan func(...any) error) (link lockedLink, err error) {
			err = scan(&link.repository, &link.last)
			return link, err
		})
	return lock
}

// link returns the link, or nil if there is none. It fails with [errAgain] when one has come since the lock.
func (l linkLock) link() (*lockedLink, error) {
	link, found := first(l.found)
	if !found {
		return nil, nil
	}
	if locked, ok := first(l.locked); !ok || locked != link.repository {
		return nil, errAgain
	}
	if last, ok := first(l.repository); link.last && (!ok || last != link.repository) {
		return nil, errAgain
	}
	return &link, nil
}

// parent queues a look for a manifest that refers to content whose link is locked, whether it was here when that was put or
// not. It answers with its digest, the smallest one, or "".
func (tx *transaction) parent(repository string, d digest.Digest) *[]digest.Digest {
	// The beginning of a range of each index by child.
	return values[digest.Digest](tx, `
		select coalesce(least(
			(select min(parent) from {schema}.edges where repository = r.id and present = $2 and parent <> $2),
			(select min(parent) from {schema}.edges where repository = r.id and child = $2 and present is null and parent <> $2)), '')
		from (select (select id from {schema}.repositories where name = $1)) r (id)`,
		repository, d.String())
}

// unlink queues the statements that take content out of the repository, which goes with its last link. It stays a content
// until the collector has reviewed it.
func (tx *transaction) unlink(link lockedLink, d digest.Digest) {
	// One row by its key, which is locked; foreign keys see to it that no edge and no manifest still needs it.
	tx.exec(`delete from {schema}.links where repository = $1 and digest = $2`, link.repository, d.String())
	if link.last {
		// One row by its key. It is locked since it was seen to be without other links, so that none has come.
		tx.exec(`delete from {schema}.repositories where id = $1`, link.repository)
	}
}
