package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// largePush streams a new large blob with one client, and times its closing PUT apart.
type largePush struct{ repository string }

func (m *largePush) prepare(_ context.Context, s *session) error {
	m.repository = s.source.repository("large-push")
	return nil
}

func (m *largePush) run(ctx context.Context, s *session) (result, error) {
	large := s.source.largeBlob(s.settings.Large)
	calm()
	whole, finish, err := m.push(ctx, s, &large)
	if err != nil {
		return result{}, err
	}
	return result{
		values:     []float64{float64(large.size) / 1e6 / whole.Seconds(), milliseconds(finish)},
		operations: 1, elapsed: whole,
	}, nil
}

func (m *largePush) push(ctx context.Context, s *session, large *largeBlob) (whole, finish time.Duration, err error) {
	if s.peer.bare != nil {
		whole, finish, _, err = s.peer.bare.push(ctx, large)
		return whole, finish, err
	}
	return s.clients[0].pushLarge(m.repository, large)
}

// largePull reads one large blob with one client, again and again. It is in the page cache: the registry is measured, not the disk.
type largePull struct {
	repository string
	key        string // without a registry
	large      largeBlob
}

func (m *largePull) prepare(ctx context.Context, s *session) error {
	m.repository = s.source.repository("large-pull")
	m.large = s.source.largeBlob(s.settings.Large)
	if s.peer.bare != nil {
		var err error
		_, _, m.key, err = s.peer.bare.push(ctx, &m.large)
		return err
	}
	c := s.clients[0]
	if _, _, err := c.pushLarge(m.repository, &m.large); err != nil {
		return err
	}
	pulled, err := c.fetch(m.large.size, m.repository, "/blobs/", m.large.digest)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(pulled); digestOf(sum[:]) != m.large.digest {
		return fmt.Errorf("pulled blob: expected digest %s, got %s", m.large.digest, digestOf(sum[:]))
	}
	return nil
}

func (m *largePull) run(ctx context.Context, s *session) (result, error) {
	calm()
	start := time.Now()
	pulls := 0
	for pulls == 0 || time.Since(start) < s.settings.Duration {
		if err := m.pull(ctx, s); err != nil {
			return result{}, err
		}
		pulls++
	}
	elapsed := time.Since(start)
	pulled := float64(m.large.size) * float64(pulls)
	return result{values: []float64{pulled / 1e6 / elapsed.Seconds()}, operations: pulls, elapsed: elapsed}, nil
}

func (m *largePull) pull(ctx context.Context, s *session) error {
	if s.peer.bare != nil {
		return s.peer.bare.pull(ctx, m.key, m.large.size)
	}
	return s.clients[0].get(m.large.size, m.repository, "/blobs/", m.large.digest)
}
