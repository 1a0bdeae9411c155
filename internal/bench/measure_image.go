package main

import (
	"context"
	"fmt"
	"strconv"
)

// imagePush pushes small images of new content with every client, each to a repository of its own.
type imagePush struct {
	repositories []string
	round        int
}

func (m *imagePush) prepare(_ context.Context, s *session) error {
	for worker := range s.clients {
		m.repositories = append(m.repositories, s.source.repository("images-"+strconv.Itoa(worker)))
	}
	return nil
}

func (m *imagePush) run(_ context.Context, s *session) (result, error) {
	m.round++
	images := make([]image, s.settings.Images)
	for i := range images {
		images[i] = s.source.image(s.settings.Layers, s.settings.LayerSize)
	}
	calm()
	did, err := s.drive(s.settings.Duration, len(images), func(c *client, n int) error {
		return c.pushImage(m.repositories[n%len(m.repositories)], fmt.Sprintf("r%d-%d", m.round, n), &images[n])
	})
	if err != nil {
		return result{}, err
	}
	return result{values: []float64{did.rate()}, operations: did.operations, elapsed: did.elapsed}, nil
}
