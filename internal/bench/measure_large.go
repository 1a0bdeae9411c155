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

func (m *largePush) run(_ context.Context, s *session) (result, error) {
	large := s.source.largeBlob(s.settings.Large)
	calm()
	whole, finish, err := s.clients[0].pushLarge(m.repository, &large)
	if err != nil {
		return result{}, err
	}
	return result{
		values:     []float64{float64(large.size) / 1e6 / whole.Seconds(), milliseconds(finish)},
		operations: 1, elapsed: whole,
	}, nil
}

// largePull reads one large blob with one client, again and again. It is in the page cache: the registry is measured, not the disk.
type largePull struct {
	repository string
	large      largeBlob
}

func (m *largePull) prepare(_ context.Context, s *session) error {
	m.repository = s.source.repository("large-pull")
	m.large = s.source.largeBlob(s.settings.Large)
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

func (m *largePull) run(_ context.Context, s *session) (result, error) {
	calm()
	start := time.Now()
	pulls := 0
	for pulls == 0 || time.Since(start) < s.settings.Duration {
		if err := s.clients[0].get(m.large.size, m.repository, "/blobs/", m.large.digest); err != nil {
			return result{}, err
		}
		pulls++
	}
	elapsed := time.Since(start)
	pulled := float64(m.large.size) * float64(pulls)
	return result{values: []float64{pulled / 1e6 / elapsed.Seconds()}, operations: pulls, elapsed: elapsed}, nil
}
