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
			if m.now().Sub(touched) >= idle {
				due = append(due, store.Candidate{Repository: c.repository, Digest: c.digest, Touched: touched})
			}
		}
		slices.SortFunc(due, func(a, b store.Candidate) int {
			return cmp.Or(a.Touched.Compare(b.Touched), strings.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest))
		})
		due = due[:min(len(due), limit)]
		return nil
	})
	return due, err
}

// Garbage implements [store.Ledger].
func (m *Metadata) Garbage(ctx context.Context, age time.Duration, limit int) (due []store.Garbage, err error) {
	err = m.look(ctx, "list garbage", func() error {
		for key, condemned := range m.garbage {
			if m.now().Sub(condemned) >= age {
				due = append(due, store.Garbage{Key: key, Condemned: condemned})
			}
		}
		slices.SortFunc(due, func(a, b store.Garbage) int {
			return cmp.Or(a.Condemned.Compare(b.Condemned), cmp.Compare(a.Key, b.Key))
		})
		due = due[:min(len(due), limit)]
		return nil
	})
	return due, err
}
