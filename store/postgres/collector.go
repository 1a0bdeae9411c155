package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ocikit/ocikit/store"
)

var _ store.Collector = (*Metadata)(nil)

// Due implements [store.Collector]. It is one statement, and one round trip.
func (m *Metadata) Due(ctx context.Context, after store.Deadlines) (store.Work, error) {
	idle, total, tombstone := lifeOf(after.Life)
	// The beginning of an index for each time after which something is due.
	return row(ctx, m, "look for work", store.ErrUnavailable, `
		select
			coalesce((select true from {schema}.candidates where touched <= (select {now} - $2::interval) order by touched limit 1), false),
			coalesce(
				(select true from {schema}.garbage where not unfinished and condemned <= (select {now} - $3::interval) order by condemned limit 1),
				(select true from {schema}.garbage where unfinished and condemned <= (select {now} - $4::interval) order by condemned limit 1), false),
			coalesce(
				(select true from {schema}.sessions where `+abandoned("$5", "$6")+` order by started limit 1),
				(select true from {schema}.sessions where `+forgotten("$7")+` order by started limit 1), false),
			coalesce((select true from {schema}.repositories where name is null limit 1), false)`,
		[]any{m.clock(), after.Grace, after.Delay, after.Unfinished, idle, total, tombstone},
		func(scan func(...any) error) (work store.Work, err error) {
			err = scan(&work.Candidates, &work.Garbage, &work.Sessions, &work.Repositories)
			return work, err
		})
}

// lifeOf returns a life as the arguments of abandoned and forgotten; nil is without end.
func lifeOf(life store.Life) (idle, total, tombstone any) {
	argument := func(long time.Duration) any {
		if long == 0 {
			return nil
		}
		return long
	}
	return argument(life.Idle), argument(life.Total), argument(life.Tombstone)
}

// abandoned is the condition that an upload under way has outlived its life. It is a range of the index by start: few are passed
// over, those that are old and were touched since. Two things keep PostgreSQL from reading the whole table instead. The times are
// computed first, each in a sub-query, since the index is no use for a comparison with a clock that goes on. And the range has a
// beginning: of a range with an end only, PostgreSQL supposes that it is a third of all rows.
func abandoned(idle, total string) string {
	return fmt.Sprintf(`state <> 2 and started >= '-infinity' and started <= (select {now} - least(%[1]s::interval, %[2]s::interval))
		and (touched <= (select {now} - %[1]s::interval) or started <= (select {now} - %[2]s::interval))`, idle, total)
}

// forgotten is the condition that a tombstone has outlived its life, by the index of their starts.
func forgotten(tombstone string) string {
	return fmt.Sprintf(`state = 2 and started >= '-infinity' and started <= (select {now} - %[1]s::interval)
		and touched <= (select {now} - %[1]s::interval)`, tombstone)
}

// ReviewCandidates implements [store.Collector]. It is one statement if nothing is due, else at most 11, and three round trips.
// It never waits for a lock.
func (m *Metadata) ReviewCandidates(ctx context.Context, review store.Review) (store.Reviewed, error) {
	var done store.Reviewed
	links, contents := new([]int), new([]reviewedContents)
	err := change(ctx, m, "review candidates", func(ctx context.Context, tx *transaction) error {
		done = store.Reviewed{}
		// A range of the index by time. Locks rows: nobody touches them, or refers to what they are, before this is committed.
		due := rows(tx, `
			select repository, digest, touched, `+whenDeleted("")+` from {schema}.candidates
			where touched <= {began} - $2::interval
			order by touched, repository, digest limit $3 for update skip locked`,
			[]any{m.clock(), review.Grace, max(review.Limit, 0)}, scanCandidate)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		if len(*due) == 0 {
			return errNothing
		}
		looks := tx.lookAt(*due)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		links, contents = tx.carryOut(looks.decide(*due, review.Hold, &done))
		return nil
	})
	if err != nil {
		return store.Reviewed{}, err
	}
	done.Links, _ = first(links)
	went, _ := first(contents)
	done.Contents, done.Bytes = went.number, went.bytes
	return done, nil
}

// whenDeleted is when a candidate's manifest was deleted, or NULL. Of what a server of an earlier version has deleted it is not kept.
func whenDeleted(row string) string {
	return fmt.Sprintf(`case when %[1]sdeleted then coalesce(%[1]sdeletion, %[1]stouched) end`, row)
}

func scanCandidate(scan func(...any) error) (candidate store.Candidate, err error) {
	var deleted *time.Time
	err = scan(&candidate.Repository, &candidate.Digest, &candidate.Touched, &deleted)
	candidate.Touched, candidate.Deleted = candidate.Touched.UTC(), timeOrNone(deleted)
	return candidate, err
}

// looks is what a review knows of its candidates.
type looks struct {
	contents     *[]string // whose rows are locked
	links        *[]int    // ordinals of candidates whose links are locked
	repositories *[]int64  // that are locked against others who delete links
	ending       *[]int64  // that may have no other links than these
	ended        *[]int64  // of these, the ones that are locked so that they can go
	found        *[]look   // one for each candidate
}

// look is what is there of a candidate.
type look struct {
	ordinal    int
	repository *int64
	link       bool
	needed     bool
	manifest   bool
	content    bool
}

// lookAt queues the statements that lock what the candidates are, and then look at it: whoever has some of it is passed over, and
// from here on none of the rest can get an edge or a link.
func (tx *transaction) lookAt(candidates []store.Candidate) (l looks) {
	names, digests := split(candidates)
	// Locks rows by their keys.
	l.contents = values[string](tx, `
		select locked.digest from (select distinct d from unnest($1::text[]) d) k
		cross join lateral (select digest from {schema}.contents where digest = d for update skip locked) locked`,
		digests)
	// Locks rows by their keys: no edge can be made to one.
	l.links = values[int](tx, `
		select k.ordinal from unnest($1::text[], $2::text[]) with ordinality k (name, digest, ordinal)
		cross join lateral (
			select from {schema}.links
			where repository = (select id from {schema}.repositories where name = k.name) and digest = k.digest for update skip locked
		) locked`,
		names, digests)
	// Locks rows by their names, against others who delete links: of two that delete the last two, one must see the other's gone.
	// Who makes links is not in the way.
	l.repositories = values[int64](tx, `
		select locked.id from (select distinct n from unnest($1::text[]) n) k
		cross join lateral (select id from {schema}.repositories where name = n for no key update skip locked) locked`,
		names)
	// The order is that of the index: without one, PostgreSQL may read the whole range first, if it supposes that to be a small one.
	ending := `
		select r.id from (select name, count(*) as most from unnest($1::text[]) name group by name) k
		cross join lateral (
			select id from {schema}.repositories r
			where name = k.name and (select count(*) from (
				select from {schema}.links l where l.repository = r.id order by l.digest limit k.most + 1) l) <= k.most
			limit 1 %s
		) r`
	// Rows by their names, and of each the beginning of the range of its links, to see whether it has more than there are candidates.
	l.ending = values[int64](tx, fmt.Sprintf(ending, ""), names)
	// Locks them, against those who make links, too.
	l.ended = values[int64](tx, fmt.Sprintf(ending, "for update of r skip locked"), names)
	// Looks, now that nothing of this can change: rows by their keys, and the beginning of a range of each index by child.
	l.found = rows(tx, `
		select k.ordinal, r.id,
			coalesce((select true from {schema}.links l where l.repository = r.id and l.digest = k.digest), false),
			coalesce(
				(select true from {schema}.edges e where e.repository = r.id and e.present = k.digest limit 1),
				(select true from {schema}.edges e where e.repository = r.id and e.child = k.digest and e.present is null limit 1), false),
			coalesce((select true from {schema}.manifests m where m.repository = r.id and m.digest = k.digest), false),
			coalesce((select true from {schema}.contents c where c.digest = k.digest), false)
		from unnest($1::text[], $2::text[]) with ordinality k (name, digest, ordinal)
		cross join lateral (select (select id from {schema}.repositories where name = k.name)) r (id)`,
		[]any{names, digests}, func(scan func(...any) error) (l look, err error) {
			err = scan(&l.ordinal, &l.repository, &l.link, &l.needed, &l.manifest, &l.content)
			return l, err
		})
	return l
}

// split returns the candidates as two arguments.
func split(candidates []store.Candidate) (names, digests []string) {
	for _, candidate := range candidates {
		names, digests = append(names, candidate.Repository), append(digests, candidate.Digest.String())
	}
	return names, digests
}

// verdicts is what a review has decided.
type verdicts struct {
	settled  []store.Candidate // candidates that are none any more
	links    []linkKey         // that go
	contents []string          // that go if no link is left; their rows are locked
	ended    []int64           // repositories that go if no link is left
}

// linkKey is a link by its key.
type linkKey struct {
	repository int64
	digest     string
}

// decide tells what becomes of each candidate. What is not locked stays as it is.
func (l looks) decide(candidates []store.Candidate, hold func(string) bool, done *store.Reviewed) (v verdicts) {
	v.ended = *l.ended
	contents, links := setOf(*l.contents), setOf(*l.links)
	repositories, ending, ended := setOf(*l.repositories), setOf(*l.ending), setOf(*l.ended)
	// mayLose reports whether links of the repository can go.
	mayLose := func(repository int64) bool {
		return repositories[repository] && (!ending[repository] || ended[repository])
	}
	for _, look := range *l.found {
		candidate := candidates[look.ordinal-1]
		name := candidate.Digest.String()
		locked := !look.content || contents[name]
		switch {
		case !candidate.Deleted.IsZero() && !look.manifest && hold != nil && hold(candidate.Repository):
			done.Held = append(done.Held, candidate)
			continue
		case look.link && (look.needed || look.manifest):
		case look.link && (!locked || !links[look.ordinal] || !mayLose(*look.repository)), !locked:
			done.Left++
			continue
		default:
			if look.link {
				v.links = append(v.links, linkKey{*look.repository, name})
			}
			if look.content { // what comes later has a candidate of its own
				v.contents = append(v.contents, name)
			}
		}
		v.settled = append(v.settled, candidate)
	}
	done.Candidates = len(v.settled)
	slices.SortFunc(done.Held, func(a, b store.Candidate) int {
		return cmp.Or(a.Touched.Compare(b.Touched), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest))
	})
	return v
}

func setOf[T comparable](values []T) map[T]bool {
	set := make(map[T]bool, len(values))
	for _, value := range values {
		set[value] = true
	}
	return set
}

// reviewedContents is how much went.
type reviewedContents struct {
	number int
	bytes  int64
}

// carryOut queues the statements that delete what goes; all of it is locked.
func (tx *transaction) carryOut(v verdicts) (links *[]int, contents *[]reviewedContents) {
	links, contents = new([]int), new([]reviewedContents)
	if len(v.settled) > 0 {
		names, digests := split(v.settled)
		// Rows by their keys.
		tx.exec(`
			delete from {schema}.candidates where ctid = any(array(
				select found.ctid from unnest($1::text[], $2::text[]) k (name, digest)
				cross join lateral (
					select ctid from {schema}.candidates where repository = k.name and digest = k.digest limit 1
				) found))`,
			names, digests)
	}
	if len(v.links) > 0 {
		var repositories []int64
		var digests []string
		for _, link := range v.links {
			repositories, digests = append(repositories, link.repository), append(digests, link.digest)
		}
		// Rows by their keys; foreign keys see to it that no edge and no manifest still needs one.
		links = values[int](tx, `
			with gone as (
				delete from {schema}.links where ctid = any(array(
					select found.ctid from unnest($1::bigint[], $2::text[]) k (repository, digest)
					cross join lateral (
						select ctid from {schema}.links where repository = k.repository and digest = k.digest limit 1
					) found))
				returning 1
			) select count(*)::integer from gone`,
			repositories, digests)
	}
	if len(v.contents) > 0 {
		// Rows by their keys, and for each the beginning of a range of the index of links by digest. It sees those that the statement
		// before has left, and no other can come. Nobody writes to the object of finished content.
		contents = rows(tx, `
			with gone as (
				delete from {schema}.contents where ctid = any(array(
					select found.ctid from (select distinct d from unnest($2::text[]) d) k
					cross join lateral (
						select ctid from {schema}.contents c
						where digest = d and not exists (select from {schema}.links l where l.digest = c.digest) limit 1
					) found))
				returning key, size
			), condemned as (
				insert into {schema}.garbage (key, condemned, unfinished, size) select key, {now}, false, size from gone where key is not null
				on conflict (key) do update set condemned = excluded.condemned, size = excluded.size
			) select count(*)::integer, coalesce(sum(size), 0)::bigint from gone`,
			[]any{tx.m.clock(), v.contents}, func(scan func(...any) error) (r reviewedContents, err error) {
				err = scan(&r.number, &r.bytes)
				return r, err
			})
	}
	if len(v.ended) > 0 {
		// Rows by their keys, each with a look at one link.
		tx.exec(`
			delete from {schema}.repositories r
			where id = any($1) and not exists (select from {schema}.links l where l.repository = r.id)`, v.ended)
	}
	return links, contents
}

// PreviewCandidates implements [store.Collector]. It is one statement, and one round trip; its cost grows with the candidates of
// the page, and with the links to their contents.
func (m *Metadata) PreviewCandidates(ctx context.Context, grace time.Duration, after store.Candidate, limit int) ([]store.Preview, error) {
	// A range of the index by time, and for each candidate rows by their keys, and the links to its content.
	return query(ctx, m, "preview candidates", `
		select k.repository, k.digest, k.touched, `+whenDeleted("k.")+`, l.digest is not null and not `+neededBy("l.repository", "k.digest")+`,
			c.size is not null and (
				select true from {schema}.links o
				where o.digest = k.digest and (`+neededBy("o.repository", "k.digest")+` or (
					select true from {schema}.candidates d
					where d.repository = (select name from {schema}.repositories where id = o.repository)
						and d.digest = k.digest and d.touched <= (select {now} - $2::interval) limit 1) is null)
				limit 1) is null,
			coalesce(c.size, 0)
		from {schema}.candidates k
		left join {schema}.links l on l.repository = (select id from {schema}.repositories where name = k.repository) and l.digest = k.digest
		left join {schema}.contents c on c.digest = k.digest
		where k.touched <= (select {now} - $2::interval) and (k.touched, k.repository, k.digest) > ($3, $4, $5)
		order by k.touched, k.repository, k.digest limit $6`,
		[]any{m.clock(), grace, after.Touched, after.Repository, after.Digest.String(), max(limit, 0)},
		func(scan func(...any) error) (p store.Preview, err error) {
			var deleted *time.Time
			err = scan(&p.Repository, &p.Digest, &p.Touched, &deleted, &p.Link, &p.Content, &p.Size)
			p.Touched, p.Deleted = p.Touched.UTC(), timeOrNone(deleted)
			if !p.Content {
				p.Size = 0
			}
			return p, err
		})
}

// neededBy is the condition that a manifest of the repository refers to a digest, or is it. With exists instead, PostgreSQL may
// read all manifests of the repository first.
func neededBy(repository, d string) string {
	return fmt.Sprintf(`coalesce(
		(select true from {schema}.edges e where e.repository = %[1]s and e.present = %[2]s limit 1),
		(select true from {schema}.edges e where e.repository = %[1]s and e.child = %[2]s and e.present is null limit 1),
		(select true from {schema}.manifests e where e.repository = %[1]s and e.digest = %[2]s limit 1), false)`, repository, d)
}

// SettleCandidate implements [store.Collector]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) SettleCandidate(ctx context.Context, candidate store.Candidate) error {
	// One row by its key. Who touches it at the same time is waited for, and then it is left alone.
	_, err := single(ctx, m, "settle candidate", `
		update {schema}.candidates set deleted = false where repository = $1 and digest = $2 and touched = $3 returning digest`,
		[]any{candidate.Repository, candidate.Digest.String(), candidate.Touched}, scanOne[string])
	return err
}
