package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// treePull pulls an image of one manifest whose bytes are known, with all its blobs at once, and keeps none of it.
type treePull struct {
	client     *pushClient
	repository string
	tree       *imagetest.Tree
	// began, if not nil, is told of each blob when its first byte has come.
	began func(name imagetest.Digest)
}

// run returns an error for any answer but the right one, and for any byte but the right one.
func (p *treePull) run(ctx context.Context) error {
	content, err := p.client.get(ctx, p.repository+"/manifests/v1")
	if err != nil {
		return err
	}
	if !bytes.Equal(content, p.tree.Content[p.tree.Root.Digest]) {
		return fmt.Errorf("the manifest of %s is another one: %s", p.repository, content)
	}
	group, ctx := errgroup.WithContext(ctx)
	for name := range p.tree.Content {
		if name != p.tree.Root.Digest {
			group.Go(func() error { return p.pullBlob(ctx, name) })
		}
	}
	return group.Wait()
}

func (p *treePull) pullBlob(ctx context.Context, name imagetest.Digest) error {
	req, err := p.client.request(ctx, http.MethodGet, "/v2/"+p.repository+"/blobs/"+name.String(), nil, 0)
	if err != nil {
		return err
	}
	resp, err := p.client.http.Do(req)
	if err != nil {
		return fmt.Errorf("GET %s of %s: %w", name, p.repository, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(resp.Body)
		return errors.Join(&statusError{"GET " + req.URL.String(), resp.StatusCode, resp.Header, string(text)}, err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		return &cutError{fmt.Errorf("the first byte of %s of %s: %w", name, p.repository, err)}
	}
	if p.began != nil {
		p.began(name)
	}
	sum := name.Algorithm().Hash()
	_, _ = sum.Write(first) // never fails
	n, err := io.Copy(sum, resp.Body)
	if err != nil {
		return &cutError{fmt.Errorf("%s of %s after %d bytes: %w", name, p.repository, n+1, err)}
	}
	if got := digest.NewDigest(name.Algorithm(), sum); got != name {
		return fmt.Errorf("%s of %s came with the bytes of %s", name, p.repository, got)
	}
	return nil
}
