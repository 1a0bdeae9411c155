package store

import (
	"slices"
	"time"
)

// The transitions of a session, as pure functions that implementations of [Sessions] share: each changes the value that a
// transaction has read and will write back, and returns the keys that the session has stopped naming, which that
// transaction puts into the garbage.

// Alive reports whether at the time now the session has not outlived life.
func (s *Session) Alive(life Life, now time.Time) bool {
	within := func(since time.Time, most time.Duration) bool { return most == 0 || now.Sub(since) < most }
	if s.State == SessionFinished {
		return within(s.Touched, life.Tombstone)
	}
	return within(s.Touched, life.Idle) && within(s.Started, life.Total)
}

// Keys returns every key that the session names. A key is listed once for each place that names it, so it may be there more than once.
func (s *Session) Keys() []Key {
	keys := make([]Key, 0, 3+len(s.Tails))
	for _, key := range []Key{s.Multipart.Key, s.Reserved.Blob, s.Reserved.Tail} {
		if key != "" {
			keys = append(keys, key)
		}
	}
	for _, tail := range s.Tails {
		keys = append(keys, tail.Key)
	}
	return keys
}

// mostEnded is how many rows of parts and tails may go at once: those of one upload of the largest size.
const mostEnded = 10_000

// EndTogether returns the first of the sessions, at least one, that end in one transaction: the next one is left out when what those
// before it consist of is 10,000 parts and tails. Parts are counted by their numbers, of which some may be unused.
func EndTogether(sessions []Session) []Session {
	rows := 0
	for i := range sessions {
		if rows >= mostEnded {
			return sessions[:i]
		}
		rows += int(sessions[i].LastPart) + len(sessions[i].Tails)
	}
	return sessions
}

// GarbageOf returns what becomes of keys that a session has stopped naming. tails are those that it had, which know their sizes.
func GarbageOf(keys []Key, tails []Tail) []Garbage {
	garbage := make([]Garbage, len(keys))
	for i, key := range keys {
		garbage[i] = Garbage{Key: key, Unfinished: true}
		for _, tail := range tails {
			if tail.Key == key {
				garbage[i].Size = tail.Size
			}
		}
	}
	return garbage
}

// Released reports whether no claim is writing to the session: a claim reserves some key for as long as it lasts.
func (s *Session) Released() bool { return s.Reserved == Reservation{} }

// Claim makes c the session's last claim, as of now. The part numbers of a claim that has not released the session stay
// reserved for it, since it may still be writing: the new ones come after them.
func (s *Session) Claim(c Claim, now time.Time) (condemned []Key, err error) {
	if !s.Alive(c.Life, now) || s.Repository != c.Repository {
		return nil, ErrSessionUnknown
	}
	if s.State == SessionFinished {
		return nil, nil
	}
	if s.State == SessionCompleting && !c.Finish || s.State == SessionOpen && c.Offset >= 0 && c.Offset != s.Offset {
		e := &OffsetError{Session: *s}
		e.Session.Parts = nil
		return nil, e
	}
	before := s.Keys()
	s.Version++
	s.Touched = now
	s.Reserved = c.Reserve
	s.LastPart += c.PartCount
	return stale(before, s.Keys()), nil
}

// Save applies a claim's save, as of now. Parts are not part of the value: the transaction inserts save.Parts.
func (s *Session) Save(save Save, now time.Time) (condemned []Key, err error) {
	if s.Version != save.Version || s.State == SessionFinished {
		return nil, ErrFenced
	}
	if save.Claim {
		if s.State != SessionOpen || !s.Released() {
			return nil, ErrFenced
		}
		s.Version++
	}
	if save.Tail != nil && slices.Contains(s.Tails, *save.Tail) {
		return nil, nil // the same save again
	}
	before := s.Keys()
	s.Touched = now
	s.Progress = save.Progress
	s.Reserved = save.Reserved
	if save.Joined {
		s.Tails = nil
	}
	if save.Tail != nil {
		s.Tails = append(slices.Clip(s.Tails), *save.Tail)
	}
	if save.Complete {
		s.State = SessionCompleting
		s.Digest = save.Digest
	}
	return stale(before, append(s.Keys(), save.Unused...)), nil
}

// Finish leaves a tombstone, as of now. done means that it had been left already, by this very event.
func (s *Session) Finish(f Finish, now time.Time) (condemned []Key, done bool, err error) {
	if s.Version != f.Version {
		return nil, false, ErrFenced
	}
	if s.State == SessionFinished {
		if s.Digest != f.Content.Digest {
			return nil, false, ErrFenced
		}
		return nil, true, nil
	}
	before := s.Keys()
	*s = Session{
		ID: s.ID, Repository: s.Repository, State: SessionFinished, Version: s.Version,
		Digest: f.Content.Digest, Started: s.Started, Touched: now,
	}
	return stale(before, append([]Key{f.Content.Key}, f.Unused...)), false, nil
}

// stale returns the keys that were named before, and are not among those that are named now or need no collecting.
func stale(before, except []Key) []Key {
	return slices.DeleteFunc(before, func(key Key) bool { return slices.Contains(except, key) })
}
