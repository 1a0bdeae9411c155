package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
)

// storedImages is how many images the reads of manifests go round.
const storedImages = 64

// manifestRead asks for manifests by tag with every client.
type manifestRead struct {
	headOnly   bool
	repository string
	tags       []string
	sizes      []int64
}

func (m *manifestRead) prepare(_ context.Context, s *session) error {
	m.repository = s.source.repository("manifest-get")
	if m.headOnly {
		m.repository = s.source.repository("manifest-head")
	}
	c := s.clients[0]
	for i := range storedImages {
		stored := s.source.image(s.settings.Layers, s.settings.LayerSize)
		tag := "v" + strconv.Itoa(i)
		if err := c.pushImage(m.repository, tag, &stored); err != nil {
			return err
		}
		pulled, err := c.fetch(int64(len(stored.manifest)), m.repository, "/manifests/", tag)
		if err != nil {
			return err
		}
		if !bytes.Equal(pulled, stored.manifest) {
			return fmt.Errorf("manifest %s: expected the bytes that were pushed", tag)
		}
		m.tags = append(m.tags, tag)
		m.sizes = append(m.sizes, int64(len(stored.manifest)))
	}
	return nil
}

func (m *manifestRead) run(_ context.Context, s *session) (result, error) {
	calm()
	did, err := s.drive(s.settings.Duration, 0, func(c *client, n int) error {
		tag, size := m.tags[n%len(m.tags)], m.sizes[n%len(m.tags)]
		if m.headOnly {
			return c.head(size, m.repository, "/manifests/", tag)
		}
		return c.get(size, m.repository, "/manifests/", tag)
	})
	if err != nil {
		return result{}, err
	}
	return result{
		values:     []float64{did.rate(), milliseconds(quantile(did.delays, 0.99))},
		operations: did.operations, elapsed: did.elapsed,
	}, nil
}
