package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// tagPush puts one stored manifest under new tags with every client.
type tagPush struct {
	repository string
	stored     image
	round      int
}

func (m *tagPush) prepare(_ context.Context, s *session) error {
	m.repository = s.source.repository("tag-push")
	m.stored = s.source.image(s.settings.Layers, s.settings.LayerSize)
	return s.clients[0].pushImage(m.repository, "first", &m.stored)
}

func (m *tagPush) run(_ context.Context, s *session) (result, error) {
	m.round++
	prefix := "r" + strconv.Itoa(m.round) + "-"
	calm()
	did, err := s.drive(s.settings.Duration, 0, func(c *client, n int) error {
		return c.pushManifest(m.repository, prefix+strconv.Itoa(n), m.stored.manifest)
	})
	if err != nil {
		return result{}, err
	}
	return result{values: []float64{did.rate()}, operations: did.operations, elapsed: did.elapsed}, nil
}

// pagesTimed is how many pages one run of tagPage asks for, one after the other.
const pagesTimed = 40

// tagPage walks the pages of a repository's tags with one client, and takes the median page.
type tagPage struct {
	repository string
	targets    []string
	sizes      []int64
}

func (m *tagPage) prepare(_ context.Context, s *session) error {
	m.repository = s.source.repository("tag-page")
	stored := s.source.image(s.settings.Layers, s.settings.LayerSize)
	c := s.clients[0]
	if err := c.pushImage(m.repository, tagName(0), &stored); err != nil {
		return err
	}
	if _, err := s.drive(0, s.settings.Tags, func(c *client, n int) error {
		return c.pushManifest(m.repository, tagName(n), stored.manifest)
	}); err != nil {
		return err
	}
	for first := 0; first < s.settings.Tags; first += s.settings.Page {
		target := "/tags/list?n=" + strconv.Itoa(s.settings.Page)
		if first > 0 {
			target += "&last=" + tagName(first-1)
		}
		size, err := m.check(s, target, first)
		if err != nil {
			return err
		}
		m.targets = append(m.targets, target)
		m.sizes = append(m.sizes, size)
	}
	return nil
}

// check fetches a page, expects the tags that belong on it, and tells its size in bytes. A peer that knows no pages, and
// answers with all tags, is measured as it is.
func (m *tagPage) check(s *session, target string, first int) (int64, error) {
	body, err := s.clients[0].fetchAny(m.repository, target)
	if err != nil {
		return 0, err
	}
	var page struct{ Tags []string }
	if err := json.Unmarshal(body, &page); err != nil {
		return 0, fmt.Errorf("decode a page of tags: %w", err)
	}
	count := min(s.settings.Page, s.settings.Tags-first)
	if len(page.Tags) == s.settings.Tags && len(page.Tags) != count {
		if first == 0 {
			s.log.Warn("all tags instead of a page", "peer", s.peer.name, "tags", len(page.Tags), "wanted", count)
		}
		return int64(len(body)), nil
	}
	if len(page.Tags) != count {
		return 0, fmt.Errorf("%s: expected %d tags, got %d", target, count, len(page.Tags))
	}
	for i, tag := range page.Tags {
		if tag != tagName(first+i) {
			return 0, fmt.Errorf("%s: expected tag %s, got %s", target, tagName(first+i), tag)
		}
	}
	return int64(len(body)), nil
}

func (m *tagPage) run(_ context.Context, s *session) (result, error) {
	calm()
	delays := make([]time.Duration, 0, pagesTimed)
	start := time.Now()
	for n := range pagesTimed {
		page := n % len(m.targets)
		begun := time.Now()
		if err := s.clients[0].get(m.sizes[page], m.repository, m.targets[page]); err != nil {
			return result{}, err
		}
		delays = append(delays, time.Since(begun))
	}
	elapsed := time.Since(start)
	return result{values: []float64{milliseconds(medianDelay(delays))}, operations: pagesTimed, elapsed: elapsed}, nil
}

// tagName sorts as its number does.
func tagName(i int) string { return fmt.Sprintf("t%07d", i) }
