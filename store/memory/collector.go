package memory

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

var _ store.Collector = (*Metadata)(nil)

// Due implements [store.Collector].
func (m *Metadata) Due(ctx context.Context, after store.Deadlines) (work store.Work, err error) {
	err = m.look(ctx, "look for work", func() error {
		now := m.now()
		for _, touched := range m.candidates {
			work.Candidates = work.Candidates || now.Sub(touched.at) >= after.Grace
		}
		work.Garbage = len(m.dueGarbage(after.Delay, after.Unfinished, store.Garbage{}, 1)) > 0
		for _, s := range m.sessions {
			work.Sessions = work.Sessions || !s.Alive(after.Life, now)
		}
		work.Repositories = len(m.unnamed) > 0
		return nil
	})
	return work, err
}

// ReviewCandidates implements [store.Collector].
func (m *Metadata) ReviewCandidates(ctx context.Context, review store.Review) (done store.Reviewed, err error) {
	due, err := m.Candidates(ctx, review.Grace, review.Limit)
	if err != nil {
		return done, err
	}
	err = m.change(ctx, "review candidates", func(now time.Time) error {
		for _, c := range due {
			touched, ok := m.candidates[candidate{c.Repository, c.Digest}]
			if !ok || !touched.at.Equal(c.Touched) {
				continue // it was touched since it was listed
			}
			if _, here := m.manifest(c.Repository, c.Digest); !touched.deleted.IsZero() && !here && review.Hold != nil && review.Hold(c.Repository) {
				done.Held = append(done.Held, c)
				continue
			}
			m.review(now, c, &done)
		}
		return nil
	})
	return done, err
}

// review decides on one candidate.
func (m *Metadata) review(now time.Time, c store.Candidate, done *store.Reviewed) {
	delete(m.candidates, candidate{c.Repository, c.Digest})
	done.Candidates++
	if r, ok := m.repositories[c.Repository]; ok {
		if _, linked := r.links[c.Digest]; linked {
			if r.needs(c.Digest) {
				return
			}
			delete(r.links, c.Digest)
			if len(r.links) == 0 {
				delete(m.repositories, c.Repository)
			}
			m.release(c.Repository, c.Digest)
			done.Links++
		}
	}
	content, ok := m.contents[c.Digest]
	if !ok || m.linkedAnywhere(c.Digest) {
		return
	}
	delete(m.contents, c.Digest)
	done.Contents++
	done.Bytes += content.Size
	if content.Key != "" {
		m.condemn(now, store.Garbage{Key: content.Key, Size: content.Size})
	}
}

// needs reports whether a manifest refers to content, or is it.
func (r *repository) needs(d digest.Digest) bool {
	_, manifest := r.manifests[d]
	return manifest || len(r.parents[d]) > 0
}

// linkedAnywhere reports whether a repository links to content, one that is being drained too.
func (m *Metadata) linkedAnywhere(d digest.Digest) bool {
	return len(m.holders[d]) > 0 || slices.ContainsFunc(m.unnamed, func(r *repository) bool {
		_, linked := r.links[d]
		return linked
	})
}

// PreviewCandidates implements [store.Collector].
func (m *Metadata) PreviewCandidates(ctx context.Context, grace time.Duration, after store.Candidate, limit int) (previews []store.Preview, err error) {
	all, err := m.Candidates(ctx, grace, math.MaxInt)
	if err != nil {
		return nil, err
	}
	err = m.look(ctx, "preview candidates", func() error {
		for _, c := range all {
			if compareCandidates(c, after) > 0 && len(previews) < limit {
				previews = append(previews, m.preview(c, grace))
			}
		}
		return nil
	})
	return previews, err
}

func (m *Metadata) preview(c store.Candidate, grace time.Duration) store.Preview {
	p := store.Preview{Candidate: c}
	if r, ok := m.repositories[c.Repository]; ok {
		_, linked := r.links[c.Digest]
		p.Link = linked && !r.needs(c.Digest)
		if linked && !p.Link {
			return p
		}
	}
	content, ok := m.contents[c.Digest]
	if !ok || slices.ContainsFunc(m.unnamed, func(r *repository) bool { _, linked := r.links[c.Digest]; return linked }) {
		return p
	}
	for name := range m.holders[c.Digest] {
		touched, due := m.candidates[candidate{name, c.Digest}]
		if !due || m.now().Sub(touched.at) < grace || m.repositories[name].needs(c.Digest) {
			return p
		}
	}
	p.Content, p.Size = true, content.Size
	return p
}

// SettleCandidate implements [store.Collector].
func (m *Metadata) SettleCandidate(ctx context.Context, settled store.Candidate) error {
	return m.change(ctx, "settle candidate", func(time.Time) error {
		c := candidate{settled.Repository, settled.Digest}
		if touched, ok := m.candidates[c]; ok && touched.at.Equal(settled.Touched) {
			m.candidates[c] = touch{touched.at, time.Time{}}
		}
		return nil
	})
}

// TakeGarbage implements [store.Collector].
func (m *Metadata) TakeGarbage(ctx context.Context, take store.Take) (taken []store.Garbage, err error) {
	err = m.change(ctx, "take garbage", func(now time.Time) error {
		taken = m.dueGarbage(take.Delay, take.Unfinished, store.Garbage{}, take.Limit)
		for i, g := range taken {
			taken[i].Tries++
			wait := take.Delay
			if g.Unfinished {
				wait = take.Unfinished
			}
			g.Tries++
			g.Condemned = now.Add(take.Again - wait)
			m.garbage[g.Key] = g
		}
		return nil
	})
	return taken, err
}

// PreviewGarbage implements [store.Collector].
func (m *Metadata) PreviewGarbage(ctx context.Context, take store.Take, after store.Garbage) (due []store.Garbage, err error) {
	err = m.look(ctx, "preview garbage", func() error {
		due = m.dueGarbage(take.Delay, take.Unfinished, after, take.Limit)
		return nil
	})
	return due, err
}

// ForgetGarbage implements [store.Collector].
func (m *Metadata) ForgetGarbage(ctx context.Context, keys []store.Key) error {
	return m.change(ctx, "forget garbage", func(time.Time) error {
		for _, key := range keys {
			delete(m.garbage, key)
		}
		return nil
	})
}

// EndSessions implements [store.Collector].
func (m *Metadata) EndSessions(ctx context.Context, life store.Life, limit int) (ended store.Ended, err error) {
	err = m.change(ctx, "end sessions", func(now time.Time) error {
		dead := m.outlived(life, store.Outlived{}, limit)
		sessions := make([]store.Session, len(dead))
		for i := range dead {
			sessions[i] = snapshot(m.sessions[dead[i].ID], false)
			sessions[i].Hash, sessions[i].PartsHash, sessions[i].Inline = nil, nil, nil
		}
		together := store.EndTogether(sessions)
		for _, s := range together {
			delete(m.sessions, s.ID)
			if s.State == store.SessionFinished {
				ended.Tombstones++
				continue
			}
			m.condemn(now, store.GarbageOf(s.Keys(), s.Tails)...)
			ended.Sessions = append(ended.Sessions, s)
		}
		ended.More = len(together) < len(dead) || len(dead) > 0 && len(dead) == limit
		return nil
	})
	return ended, err
}

// PreviewSessions implements [store.Collector].
func (m *Metadata) PreviewSessions(ctx context.Context, life store.Life, after store.Outlived, limit int) (dead []store.Outlived, err error) {
	err = m.look(ctx, "preview sessions", func() error {
		dead = m.outlived(life, after, limit)
		return nil
	})
	return dead, err
}

// outlived returns the first sessions that have outlived life, after one.
func (m *Metadata) outlived(life store.Life, after store.Outlived, limit int) (dead []store.Outlived) {
	for _, s := range m.sessions {
		found := store.Outlived{
			ID: s.ID, Repository: s.Repository, State: s.State, Started: s.Started, Touched: s.Touched, Size: s.Offset,
		}
		if !s.Alive(life, m.now()) && compareOutlived(found, after) > 0 {
			dead = append(dead, found)
		}
	}
	slices.SortFunc(dead, compareOutlived)
	return dead[:min(len(dead), max(limit, 0))]
}

func compareOutlived(a, b store.Outlived) int {
	return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.ID, b.ID))
}

// DeleteRepository implements [store.Collector].
func (m *Metadata) DeleteRepository(ctx context.Context, name string) error {
	return m.change(ctx, "delete repository", func(time.Time) error {
		r, ok := m.repositories[name]
		if !ok {
			return store.ErrRepositoryUnknown
		}
		delete(m.repositories, name)
		for d := range r.links {
			m.release(name, d)
		}
		m.unnamed = append(m.unnamed, r)
		return nil
	})
}

// DrainRepositories implements [store.Collector]. Its rows are links: what hangs on one goes with it.
func (m *Metadata) DrainRepositories(ctx context.Context, limit int) (drained int, err error) {
	err = m.change(ctx, "drain repositories", func(now time.Time) error {
		for len(m.unnamed) > 0 {
			r := m.unnamed[0]
			for d := range r.links {
				if drained >= limit {
					return nil
				}
				delete(r.links, d)
				m.touch(now, "", d)
				for _, ref := range r.references(d) { // a put may have taken the candidate of content that no link leads to
					m.touch(now, "", ref.Digest)
				}
				drained++
			}
			m.unnamed = slices.Delete(m.unnamed, 0, 1)
		}
		return nil
	})
	return drained, err
}

// references returns what a manifest refers to, if content is one.
func (r *repository) references(d digest.Digest) []store.Reference {
	if entry, ok := r.manifests[d]; ok {
		return entry.references
	}
	return nil
}
