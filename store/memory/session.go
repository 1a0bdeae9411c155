package memory

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// CreateSession implements [store.Sessions].
func (m *Metadata) CreateSession(ctx context.Context, id, repository string, algorithm digest.Algorithm) error {
	return m.change(ctx, "create session", func(now time.Time) error {
		if _, ok := m.sessions[id]; ok {
			return nil // the same creation again: ids are minted once
		}
		m.sessions[id] = &store.Session{ID: id, Repository: repository, Algorithm: algorithm, Started: now, Touched: now}
		return nil
	})
}

// Session implements [store.Sessions].
func (m *Metadata) Session(ctx context.Context, ref store.SessionRef) (session store.Session, err error) {
	err = m.look(ctx, "find session", func() error {
		s, err := m.alive(ref)
		if err != nil {
			return err
		}
		session = snapshot(s, false)
		return nil
	})
	return session, err
}

// ClaimSession implements [store.Sessions].
func (m *Metadata) ClaimSession(ctx context.Context, claim store.Claim) (session store.Session, err error) {
	err = m.change(ctx, "claim session", func(now time.Time) error {
		s, err := m.alive(claim.SessionRef)
		if err != nil {
			return err
		}
		condemned, err := s.Claim(claim, now)
		if err != nil {
			return err
		}
		m.condemn(now, store.GarbageOf(condemned, nil)...)
		session = snapshot(s, claim.Parts)
		return nil
	})
	return session, err
}

// SaveSession implements [store.Sessions].
func (m *Metadata) SaveSession(ctx context.Context, save store.Save) error {
	return m.change(ctx, "save session", func(now time.Time) error {
		s, ok := m.sessions[save.ID]
		if !ok {
			return store.ErrFenced
		}
		before := s.Tails
		condemned, err := s.Save(save, now)
		if err != nil {
			return err
		}
		s.Hash, s.PartsHash, s.Inline = bytes.Clone(s.Hash), bytes.Clone(s.PartsHash), bytes.Clone(s.Inline)
		for _, part := range save.Parts {
			i, found := slices.BinarySearchFunc(s.Parts, part, func(a, b store.Part) int { return cmp.Compare(a.Number, b.Number) })
			if found {
				s.Parts[i] = part
			} else {
				s.Parts = slices.Insert(s.Parts, i, part)
			}
		}
		m.condemn(now, store.GarbageOf(condemned, before)...)
		return nil
	})
}

// FinishSession implements [store.Sessions].
func (m *Metadata) FinishSession(ctx context.Context, finish store.Finish) error {
	return m.change(ctx, "finish session", func(now time.Time) error {
		s, ok := m.sessions[finish.ID]
		if !ok {
			return store.ErrFenced
		}
		before := s.Tails
		condemned, done, err := s.Finish(finish, now)
		if err != nil || done {
			return err
		}
		m.condemn(now, store.GarbageOf(condemned, before)...)
		m.touch(now, s.Repository, finish.Content.Digest)
		m.record(now, own(finish.Content))
		m.link(s.Repository, finish.Content.Digest)
		return nil
	})
}

// DropSession implements [store.Sessions].
func (m *Metadata) DropSession(ctx context.Context, ref store.SessionRef) (session store.Session, err error) {
	err = m.change(ctx, "drop session", func(now time.Time) error {
		s, err := m.alive(ref)
		if err != nil {
			return err
		}
		if s.State == store.SessionFinished {
			return store.ErrSessionUnknown
		}
		session = snapshot(s, false)
		m.condemn(now, store.GarbageOf(s.Keys(), s.Tails)...)
		delete(m.sessions, s.ID)
		return nil
	})
	return session, err
}

func (m *Metadata) alive(ref store.SessionRef) (*store.Session, error) {
	s, ok := m.sessions[ref.ID]
	if !ok || s.Repository != ref.Repository || !s.Alive(ref.Life, m.now()) {
		return nil, store.ErrSessionUnknown
	}
	return s, nil
}

// snapshot returns a copy that later events do not change.
func snapshot(s *store.Session, parts bool) store.Session {
	c := *s
	c.Tails = slices.Clone(s.Tails)
	c.Parts = nil
	if parts {
		c.Parts = slices.Clone(s.Parts)
	}
	return c
}
