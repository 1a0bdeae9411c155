package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ocikit/ocikit/store"
)

// Candidates implements [store.Ledger].
func (m *Metadata) Candidates(ctx context.Context, idle time.Duration, limit int) (due []store.Candidate, err error) {
	err = m.look(ctx, "list candidates", func() error {
		for c, touched := range m.candidates {
			if m.now().Sub(touched.at) >= idle {
				due = append(due, store.Candidate{Repository: c.repository, Digest: c.digest, Touched: touched.at, Deleted: touched.deleted})
			}
		}
		slices.SortFunc(due, compareCandidates)
		due = due[:min(len(due), max(limit, 0))]
		return nil
	})
	return due, err
}

// Garbage implements [store.Ledger].
func (m *Metadata) Garbage(ctx context.Context, age time.Duration, limit int) (due []store.Garbage, err error) {
	err = m.look(ctx, "list garbage", func() error {
		due = m.dueGarbage(age, age, store.Garbage{}, limit)
		return nil
	})
	return due, err
}

// dueGarbage returns the first of what was condemned so long ago, after one.
func (m *Metadata) dueGarbage(delay, unfinished time.Duration, after store.Garbage, limit int) (due []store.Garbage) {
	for _, g := range m.garbage {
		wait := delay
		if g.Unfinished {
			wait = unfinished
		}
		if m.now().Sub(g.Condemned) >= wait && compareGarbage(g, after) > 0 {
			due = append(due, g)
		}
	}
	slices.SortFunc(due, compareGarbage)
	return due[:min(len(due), max(limit, 0))]
}

func compareGarbage(a, b store.Garbage) int {
	return cmp.Or(a.Condemned.Compare(b.Condemned), cmp.Compare(a.Key, b.Key))
}

func compareCandidates(a, b store.Candidate) int {
	return cmp.Or(a.Touched.Compare(b.Touched), strings.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest))
}
