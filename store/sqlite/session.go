package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// CreateSession implements [store.Sessions]. It is one statement.
func (m *Metadata) CreateSession(ctx context.Context, id, repository string, algorithm digest.Algorithm) error {
	return change(ctx, m, "create session", func(tx *transaction) error {
		now := tx.now.UnixNano()
		// One row. Ids are random: one that is there is this very event's, sent again.
		_, err := tx.exec(`
			insert into sessions (id, repository, state, version, algorithm, digest, started, touched,
				reserved_blob, reserved_tail, durable, parts_end, multipart_key, multipart_id, part_size, last_part)
			values (?1, ?2, 0, 0, ?3, '', ?4, ?4, '', '', 0, 0, '', '', 0, 0)
			on conflict do nothing`,
			id, repository, algorithm, now)
		return err
	})
}

// Session implements [store.Sessions]. It is one statement.
func (m *Metadata) Session(ctx context.Context, ref store.SessionRef) (store.Session, error) {
	return read(ctx, m, "session", func(c *connection) (store.Session, error) {
		session, found, err := c.session(ref.ID)
		if err != nil {
			return store.Session{}, err
		}
		if !found || session.Repository != ref.Repository || !session.Alive(ref.Life, m.now()) {
			return store.Session{}, store.ErrSessionUnknown
		}
		return session, nil
	})
}

// ClaimSession implements [store.Sessions]. It is two statements, one more for keys that are condemned, and one more for
// parts that are asked for.
func (m *Metadata) ClaimSession(ctx context.Context, claim store.Claim) (store.Session, error) {
	return write(ctx, m, "claim session", func(tx *transaction) (store.Session, error) {
		session, found, err := tx.session(claim.ID)
		if err != nil {
			return store.Session{}, err
		}
		if !found {
			return store.Session{}, store.ErrSessionUnknown
		}
		condemned, err := session.Claim(claim, tx.now)
		if err != nil || session.State == store.SessionFinished {
			return session, err
		}
		if err := tx.keep(session, store.GarbageOf(condemned, nil)); err != nil {
			return store.Session{}, err
		}
		if claim.Parts {
			session.Parts, err = tx.parts(session.ID)
		}
		return session, err
	})
}

// SaveSession implements [store.Sessions]. It is two statements, one more for each part and tail, and one more for keys that
// are condemned.
func (m *Metadata) SaveSession(ctx context.Context, save store.Save) error {
	return change(ctx, m, "save session", func(tx *transaction) error {
		session, found, err := tx.session(save.ID)
		if err != nil {
			return err
		}
		if !found {
			return store.ErrFenced
		}
		before := session.Tails
		condemned, err := session.Save(save, tx.now)
		if err != nil {
			return err
		}
		if err := tx.keep(session, store.GarbageOf(condemned, before)); err != nil {
			return err
		}
		if err := tx.keepParts(session.ID, save.Parts); err != nil {
			return err
		}
		return tx.keepTails(session.ID, before, session.Tails)
	})
}

// FinishSession implements [store.Sessions]. It is eight statements, and one more each when the repository is new, an object is
// replaced, keys are condemned or there are tails.
func (m *Metadata) FinishSession(ctx context.Context, finish store.Finish) error {
	return change(ctx, m, "finish session", func(tx *transaction) error {
		session, found, err := tx.session(finish.ID)
		if err != nil {
			return err
		}
		if !found {
			return store.ErrFenced
		}
		before := session.Tails
		condemned, done, err := session.Finish(finish, tx.now)
		if err != nil || done {
			return err
		}
		if err := tx.putContent(session.Repository, finish.Content); err != nil {
			return err
		}
		if err := tx.keep(session, store.GarbageOf(condemned, before)); err != nil {
			return err
		}
		if err := tx.keepTails(session.ID, before, nil); err != nil {
			return err
		}
		// A range of the key.
		_, err = tx.exec(`delete from parts where session = ?1`, session.ID)
		return err
	})
}

// DropSession implements [store.Sessions]. It is two statements, and one more for keys that are condemned.
func (m *Metadata) DropSession(ctx context.Context, ref store.SessionRef) (store.Session, error) {
	return write(ctx, m, "drop session", func(tx *transaction) (store.Session, error) {
		session, found, err := tx.session(ref.ID)
		if err != nil {
			return store.Session{}, err
		}
		if !found || session.Repository != ref.Repository || session.State == store.SessionFinished ||
			!session.Alive(ref.Life, tx.now) {
			return store.Session{}, store.ErrSessionUnknown
		}
		// One row by its key; its parts and tails go with it.
		if _, err := tx.exec(`delete from sessions where id = ?1`, session.ID); err != nil {
			return store.Session{}, err
		}
		return session, tx.condemn(store.GarbageOf(session.Keys(), session.Tails)...)
	})
}

// session returns a session as its rows are, without its parts.
func (c *connection) session(id string) (session store.Session, found bool, err error) {
	return c.selectSession(id, "hash, parts_hash", "inline")
}

// bareSession is session without hashes and inline bytes.
func (c *connection) bareSession(id string) (session store.Session, found bool, err error) {
	return c.selectSession(id, "null, null", "null")
}

// selectSession reads a session, with some expressions for its hashes and its inline bytes.
func (c *connection) selectSession(id, hashes, inline string) (session store.Session, found bool, err error) {
	session.ID = id
	var started, touched int64
	var tails []byte
	// One row by its key, and the range of its tails, all in one state.
	found, err = c.row(`
		select repository, state, version, algorithm, digest, started, touched, reserved_blob, reserved_tail,
			durable, parts_end, `+hashes+`, multipart_key, multipart_id, part_size, last_part, `+inline+`,
			(select json_group_array(json_object('Key', key, 'Size', size) order by ordinal)
				from tails where session = ?1)
		from sessions where id = ?1`,
		[]any{id}, &session.Repository, &session.State, &session.Version, &session.Algorithm, &session.Digest,
		&started, &touched, &session.Reserved.Blob, &session.Reserved.Tail,
		&session.Offset, &session.PartsEnd, &session.Hash, &session.PartsHash,
		&session.Multipart.Key, &session.Multipart.ID, &session.PartSize, &session.LastPart, &session.Inline, &tails)
	if err != nil || !found {
		return store.Session{}, false, err
	}
	session.Started, session.Touched = instant(started), instant(touched)
	if string(tails) != "[]" {
		if err := json.Unmarshal(tails, &session.Tails); err != nil {
			return store.Session{}, false, fmt.Errorf("decode tails: %w", err)
		}
	}
	return session, true, nil
}

// parts returns the session's parts, by number.
func (tx *transaction) parts(session string) ([]store.Part, error) {
	// A range of the key.
	return rows(tx.connection, `select number, start, size, tag from parts where session = ?1 order by number`,
		[]any{session}, func(scan func(...any) error) (part store.Part, err error) {
			err = scan(&part.Number, &part.Offset, &part.Size, &part.Tag)
			return part, err
		})
}

// keep writes a session's row back, and condemns what it has stopped naming.
func (tx *transaction) keep(session store.Session, condemned []store.Garbage) error {
	// One row by its key. It is as it was read: the write lock has been held since.
	_, err := tx.exec(`
		update sessions set state = ?2, version = ?3, algorithm = ?4, digest = ?5, touched = ?6,
			reserved_blob = ?7, reserved_tail = ?8, durable = ?9, parts_end = ?10, hash = ?11, parts_hash = ?12,
			multipart_key = ?13, multipart_id = ?14, part_size = ?15, last_part = ?16, inline = ?17
		where id = ?1`,
		session.ID, session.State, session.Version, session.Algorithm, session.Digest, session.Touched.UnixNano(),
		session.Reserved.Blob, session.Reserved.Tail, session.Offset, session.PartsEnd, session.Hash, session.PartsHash,
		session.Multipart.Key, session.Multipart.ID, session.PartSize, session.LastPart, session.Inline)
	if err != nil {
		return err
	}
	return tx.condemn(condemned...)
}

// keepParts writes parts that became durable. A number that is written again is replaced.
func (tx *transaction) keepParts(session string, parts []store.Part) error {
	for _, part := range parts {
		// One row by its key.
		if _, err := tx.exec(`
			insert into parts (session, number, start, size, tag) values (?1, ?2, ?3, ?4, ?5)
			on conflict (session, number) do update
			set start = excluded.start, size = excluded.size, tag = excluded.tag`,
			session, part.Number, part.Offset, part.Size, part.Tag); err != nil {
			return err
		}
	}
	return nil
}

// keepTails makes the rows of before those of after. Tails only ever grow at their end, or all go.
func (tx *transaction) keepTails(session string, before, after []store.Tail) error {
	kept := len(before)
	if len(after) < kept || !slices.Equal(after[:kept], before) {
		kept = 0
		// A range of the key.
		if _, err := tx.exec(`delete from tails where session = ?1`, session); err != nil {
			return err
		}
	}
	for i, tail := range after[kept:] {
		// One row.
		if _, err := tx.exec(`insert into tails (session, ordinal, key, size) values (?1, ?2, ?3, ?4)`,
			session, kept+i, tail.Key, tail.Size); err != nil {
			return err
		}
	}
	return nil
}
