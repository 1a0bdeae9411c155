package main

import (
	"bytes"
	"context"
	"fmt"
)

const (
	storedBlobs    = 16
	storedBlobSize = 1 << 20
)

// blobRead asks for blobs of 1 MiB, or whether they exist, with every client.
type blobRead struct {
	headOnly   bool
	repository string
	digests    []string
}

func (m *blobRead) prepare(_ context.Context, s *session) error {
	m.repository = s.source.repository("blob-get")
	if m.headOnly {
		m.repository = s.source.repository("blob-head")
	}
	c := s.clients[0]
	for range storedBlobs {
		stored := s.source.blob(storedBlobSize)
		if err := c.pushBlob(m.repository, stored.digest, stored.nonce[:], stored.rest); err != nil {
			return err
		}
		pulled, err := c.fetch(storedBlobSize, m.repository, "/blobs/", stored.digest)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(pulled, stored.nonce[:]) || !bytes.HasSuffix(pulled, stored.rest) {
			return fmt.Errorf("blob %s: expected the bytes that were pushed", stored.digest)
		}
		m.digests = append(m.digests, stored.digest)
	}
	return nil
}

func (m *blobRead) run(_ context.Context, s *session) (result, error) {
	calm()
	did, err := s.drive(s.settings.Duration, 0, func(c *client, n int) error {
		digest := m.digests[n%len(m.digests)]
		if m.headOnly {
			return c.head(storedBlobSize, m.repository, "/blobs/", digest)
		}
		return c.get(storedBlobSize, m.repository, "/blobs/", digest)
	})
	if err != nil {
		return result{}, err
	}
	return result{values: []float64{did.rate()}, operations: did.operations, elapsed: did.elapsed}, nil
}
