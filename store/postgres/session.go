package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// CreateSession implements [store.Sessions]. It is one statement, and one round trip; by itself it is a transaction.
func (m *Metadata) CreateSession(ctx context.Context, id, repository string, algorithm digest.Algorithm) error {
	// One row. Ids are random: one that is there is this very event's, sent again.
	_, err := single(ctx, m, "create session", `
		with now as (select {now} as now)
		insert into {schema}.sessions (id, repository, state, version, algorithm, digest, started, touched,
			reserved_blob, reserved_tail, durable, parts_end, multipart_key, multipart_id, part_size, last_part)
		select $2, $3, 0, 0, $4, '', now, now, '', '', 0, 0, '', '', 0, 0 from now
		on conflict do nothing
		returning id`,
		[]any{m.clock(), id, repository, algorithm.String()}, scanOne[string])
	return err
}

// selectSession reads one row by its key, the range of its tails, and the time, all in one state.
var selectSession = `select ` + sessionColumns("$2", "hash", "parts_hash", "inline") + ` from {schema}.sessions where id = $2`

// sessionColumns are what scanSession scans, of the row of an id.
func sessionColumns(id, hash, partsHash, inline string) string {
	return fmt.Sprintf(`repository, state, version, algorithm, digest, started, touched, reserved_blob, reserved_tail,
		durable, parts_end, %[2]s, %[3]s, multipart_key, multipart_id, part_size, last_part, %[4]s,
		(select json_agg(json_build_object('Key', key, 'Size', size) order by ordinal) from {schema}.tails where session = %[1]s),
		{now}`, id, hash, partsHash, inline)
}

// timedSession is a session together with the time at which it was looked at.
type timedSession struct {
	store.Session
	now time.Time
}

func scanSession(id string) func(scan func(...any) error) (timedSession, error) {
	return func(scan func(...any) error) (timedSession, error) {
		s := timedSession{Session: store.Session{ID: id}}
		var tails []byte
		err := scan(&s.Repository, &s.State, &s.Version, &s.Algorithm, &s.Digest, &s.Started, &s.Touched,
			&s.Reserved.Blob, &s.Reserved.Tail, &s.Offset, &s.PartsEnd, &s.Hash, &s.PartsHash,
			&s.Multipart.Key, &s.Multipart.ID, &s.PartSize, &s.LastPart, &s.Inline, &tails, &s.now)
		if err != nil {
			return timedSession{}, err
		}
		if tails != nil {
			if err := json.Unmarshal(tails, &s.Tails); err != nil {
				return timedSession{}, fmt.Errorf("decode tails: %w", err)
			}
		}
		s.Started, s.Touched, s.now = s.Started.UTC(), s.Touched.UTC(), s.now.UTC()
		return s, nil
	}
}

// Session implements [store.Sessions]. It is one statement, and one round trip.
func (m *Metadata) Session(ctx context.Context, ref store.SessionRef) (store.Session, error) {
	session, err := row(ctx, m, "session", store.ErrSessionUnknown, selectSession, []any{m.clock(), ref.ID}, scanSession(ref.ID))
	if err != nil {
		return store.Session{}, err
	}
	if session.Repository != ref.Repository || !session.Alive(ref.Life, session.now) {
		return store.Session{}, fmt.Errorf("postgres: session: %w", store.ErrSessionUnknown)
	}
	return session.Session, nil
}

// session queues the statements that lock a session and look at it, without its parts.
func (tx *transaction) session(id string) *[]timedSession {
	// Locks the row. Who has it is waited for, and the look comes after that: so it sees the tails that they have left, too.
	tx.exec(`select from {schema}.sessions where id = $1 for no key update`, id)
	return rows(tx, selectSession, []any{tx.m.clock(), id}, scanSession(id))
}

// ClaimSession implements [store.Sessions]. It is three statements, one more for keys that are condemned, and one more for
// parts that are asked for, and two round trips.
func (m *Metadata) ClaimSession(ctx context.Context, claim store.Claim) (session store.Session, err error) {
	err = change(ctx, m, "claim session", func(ctx context.Context, tx *transaction) error {
		found := tx.session(claim.ID)
		parts := new([]store.Part)
		if claim.Parts {
			parts = tx.parts(claim.ID)
		}
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		s, known := first(found)
		if !known {
			return store.ErrSessionUnknown
		}
		condemned, err := s.Claim(claim, s.now)
		if err != nil {
			return err
		}
		if session = s.Session; session.State == store.SessionFinished {
			return errNothing
		}
		session.Parts = *parts
		slices.SortFunc(session.Parts, func(a, b store.Part) int { return cmp.Compare(a.Number, b.Number) })
		tx.keep(s.Session, store.GarbageOf(condemned, nil))
		return nil
	})
	if err != nil {
		return store.Session{}, err
	}
	return session, nil
}

// SaveSession implements [store.Sessions]. It is three statements, one more each for parts, tails and keys that are condemned,
// and two round trips.
func (m *Metadata) SaveSession(ctx context.Context, save store.Save) error {
	return change(ctx, m, "save session", func(ctx context.Context, tx *transaction) error {
		found := tx.session(save.ID)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		s, known := first(found)
		if !known {
			return store.ErrFenced
		}
		before := s.Tails
		condemned, err := s.Save(save, s.now)
		if err != nil {
			return err
		}
		tx.keep(s.Session, store.GarbageOf(condemned, before))
		tx.keepParts(s.ID, save.Parts)
		tx.keepTails(s.ID, before, s.Tails)
		return nil
	})
}

// FinishSession implements [store.Sessions]. It is nine statements, one more each for tails and keys that are condemned,
// and two round trips.
func (m *Metadata) FinishSession(ctx context.Context, finish store.Finish) error {
	return change(ctx, m, "finish session", func(ctx context.Context, tx *transaction) error {
		// The content is recorded before the session is looked at, since sessions come last in the order of locks. If there
		// is no such session, none of this finds its repository; if it may not be finished, it is rolled back.
		tx.touchFor(finish.ID, finish.Content.Digest)
		tx.record(finish.Content)
		tx.appearFor(finish.ID)
		tx.linkFor(finish.ID, finish.Content.Digest)
		found := tx.session(finish.ID)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		s, known := first(found)
		if !known {
			return store.ErrFenced
		}
		before := s.Tails
		condemned, done, err := s.Finish(finish, s.now)
		if err != nil {
			return err
		}
		if done {
			return errNothing
		}
		tx.keep(s.Session, store.GarbageOf(condemned, before))
		tx.keepTails(s.ID, before, nil)
		// A range of the key.
		tx.exec(`delete from {schema}.parts where session = $1`, s.ID)
		return nil
	})
}

// touchFor, appearFor and linkFor are touch, appear and link for a session's repository, which never changes.
func (tx *transaction) touchFor(session string, d digest.Digest) {
	// As [transaction.touch].
	tx.exec(`
		insert into {schema}.candidates (repository, digest, touched)
		select repository, $3, {now} from {schema}.sessions where id = $2
		on conflict (repository, digest) do update set touched = excluded.touched`,
		tx.m.clock(), session, d.String())
}

func (tx *transaction) appearFor(session string) {
	// As [transaction.appear].
	tx.exec(`
		insert into {schema}.repositories (name, created)
		select s.repository, {now} from {schema}.sessions s
		where s.id = $2 and not exists (select from {schema}.repositories r where r.name = s.repository)
		on conflict (name) do nothing`,
		tx.m.clock(), session)
	tx.exec(fmt.Sprintf(turnMirror, `(select repository from {schema}.sessions where id = $1 and starts_with(repository, $2))`),
		session, store.MirrorPrefix)
}

func (tx *transaction) linkFor(session string, d digest.Digest) {
	// As [transaction.link].
	tx.exec(`
		insert into {schema}.links (repository, digest)
		select (select id from {schema}.repositories r where r.name = s.repository for key share), $2
		from {schema}.sessions s where s.id = $1
		on conflict do nothing`,
		session, d.String())
}

// DropSession implements [store.Sessions]. It is three statements, one more for keys that are condemned, and two round trips.
func (m *Metadata) DropSession(ctx context.Context, ref store.SessionRef) (session store.Session, err error) {
	err = change(ctx, m, "drop session", func(ctx context.Context, tx *transaction) error {
		found := tx.session(ref.ID)
		if err := tx.roundTrip(ctx); err != nil {
			return err
		}
		s, known := first(found)
		if !known || s.Repository != ref.Repository || s.State == store.SessionFinished || !s.Alive(ref.Life, s.now) {
			return store.ErrSessionUnknown
		}
		session = s.Session
		// One row by its key; its parts and tails go with it.
		tx.exec(`delete from {schema}.sessions where id = $1`, s.ID)
		tx.condemn(store.GarbageOf(s.Keys(), s.Tails))
		return nil
	})
	if err != nil {
		return store.Session{}, err
	}
	return session, nil
}

// parts queues a look at the parts of a session that is locked, in no order.
func (tx *transaction) parts(session string) *[]store.Part {
	// A range of the key.
	return rows(tx, `select number, start, size, tag from {schema}.parts where session = $1`,
		[]any{session}, func(scan func(...any) error) (part store.Part, err error) {
			err = scan(&part.Number, &part.Offset, &part.Size, &part.Tag)
			return part, err
		})
}

// keep queues the statements that write a session's row back, and condemn what it has stopped naming.
func (tx *transaction) keep(session store.Session, condemned []store.Garbage) {
	// One row by its key. It is as it was read: it has been locked since.
	tx.exec(`
		update {schema}.sessions set state = $2, version = $3, algorithm = $4, digest = $5, touched = $6,
			reserved_blob = $7, reserved_tail = $8, durable = $9, parts_end = $10, hash = $11, parts_hash = $12,
			multipart_key = $13, multipart_id = $14, part_size = $15, last_part = $16, inline = $17
		where id = $1`,
		session.ID, int16(session.State), session.Version, session.Algorithm.String(), session.Digest.String(), session.Touched,
		string(session.Reserved.Blob), string(session.Reserved.Tail), session.Offset, session.PartsEnd, session.Hash, session.PartsHash,
		string(session.Multipart.Key), session.Multipart.ID, session.PartSize, session.LastPart, session.Inline)
	tx.condemn(condemned)
}

// keepParts queues the statement that writes parts that became durable. A number that is written again is replaced.
func (tx *transaction) keepParts(session string, parts []store.Part) {
	if len(parts) == 0 {
		return
	}
	var numbers []int32
	var starts, sizes []int64
	var tags []string
	for i, part := range parts {
		if slices.ContainsFunc(parts[i+1:], func(later store.Part) bool { return later.Number == part.Number }) {
			continue // replaced in the same breath
		}
		numbers, tags = append(numbers, part.Number), append(tags, part.Tag)
		starts, sizes = append(starts, part.Offset), append(sizes, part.Size)
	}
	// Rows by their keys, whose session is locked.
	tx.exec(`
		insert into {schema}.parts (session, number, start, size, tag)
		select $1, * from unnest($2::integer[], $3::bigint[], $4::bigint[], $5::text[])
		on conflict (session, number) do update
		set start = excluded.start, size = excluded.size, tag = excluded.tag`,
		session, numbers, starts, sizes, tags)
}

// keepTails queues the statements that make the rows of before those of after. Tails only ever grow at their end, or all go.
func (tx *transaction) keepTails(session string, before, after []store.Tail) {
	kept := len(before)
	if len(after) < kept || !slices.Equal(after[:kept], before) {
		kept = 0
		// A range of the key, whose session is locked.
		tx.exec(`delete from {schema}.tails where session = $1`, session)
	}
	for i, tail := range after[kept:] {
		// One row.
		tx.exec(`insert into {schema}.tails (session, ordinal, key, size) values ($1, $2, $3, $4)`,
			session, kept+i, string(tail.Key), tail.Size)
	}
}
