package e2e_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
)

// tagged notes that a tag of a client's repository points to an image. Nobody else moves it.
func (c *soakClient) tagged(image *soakImage, tag string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tags[image.repository+":"+tag] = image
}

// untagged notes that the tags of a repository are gone that point to an image, or with nil all of them.
func (w *soakWorld) untagged(repository string, image *soakImage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at, each := range w.tags {
		if each.repository == repository && (image == nil || each.name == image.name) {
			delete(w.tags, at)
		}
	}
}

// deleteTag deletes a tag, which may be none.
func (c *soakClient) deleteTag(ctx context.Context, repository, tag string) error {
	err := c.until(ctx, func(r *pushClient) error {
		return c.simple(ctx, r, http.MethodDelete, "/v2/"+repository+"/manifests/"+tag, http.StatusAccepted)
	})
	if err != nil && statusOf(err) != http.StatusNotFound {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tags, repository+":"+tag)
	return nil
}

// pullTag pulls by a tag of the client's own: it has to be what was put there last, or nothing.
func (c *soakClient) pullTag(ctx context.Context, repository, tag string) error {
	c.mu.Lock()
	want := c.tags[repository+":"+tag]
	c.mu.Unlock()
	var got []byte
	err := c.until(ctx, func(r *pushClient) (err error) {
		got, err = r.get(ctx, repository+"/manifests/"+tag)
		return err
	})
	switch {
	case want == nil && statusOf(err) == http.StatusNotFound:
	case want == nil && err == nil:
		c.wrong("%s:%s was deleted, or never put, and is there", repository, tag)
	case err != nil && statusOf(err) == 0:
		return err
	case err != nil:
		c.wrong("%s:%s was put, and cannot be pulled: %w", repository, tag, err)
	case !bytes.Equal(got, want.content):
		c.wrong("%s:%s is not what was put there last", repository, tag)
	}
	c.figures.tags.Add(1)
	return nil
}

// pullTags pulls by every tag that is known.
func (c *soakClient) pullTags(ctx context.Context) error {
	c.mu.Lock()
	all := make([]string, 0, len(c.tags))
	for at := range c.tags {
		all = append(all, at)
	}
	c.mu.Unlock()
	for _, at := range all {
		repository, tag, _ := strings.Cut(at, ":")
		if err := c.pullTag(ctx, repository, tag); err != nil {
			return err
		}
	}
	return nil
}

// dropRepository deletes one of the client's repositories whole.
func (c *soakClient) dropRepository(name string) {
	var rest []*soakImage
	for _, image := range c.images {
		if image.repository == name {
			c.giveUp(image)
		} else {
			rest = append(rest, image)
		}
	}
	c.images = rest
	c.drop(name)
	c.untagged(name, nil)
	c.figures.dropped.Add(1)
}
