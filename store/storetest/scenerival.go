package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// The scenes in which clients meet something else than a collector's round, mostly with such a round at its end: a policy, an eviction, an
// audit, each other.

func rivalScenes() []scene {
	return []scene{
		{name: "PutOfADeletedManifest", prepare: prepareHeld, client: imageClient, rival: settleRival},
		{name: "PutOfAManifestThatExpires", prepare: prepareImage, client: imageClient, rival: expireRival},
		{name: "PutOfATagThatExpires", prepare: prepareTag, client: tagAgainClient, rival: expireTagRival},
		{name: "PutOfAManifestThatIsEvicted", prepare: prepareImage, client: imageClient, rival: evictRival, mirrored: true},
		{name: "FinishOfWhatAnAuditLooksAt", prepare: prepareUpload, client: abandonedClient, rival: auditRival},
		{name: "PushOfLostContent", prepare: prepareLost, client: finishClient, rival: markRival},
		{name: "DeleteOfAnotherThatSharesTheLayer", prepare: prepareTwo, client: oneDeleteClient, rival: otherDeleteRival},
	}
}

// imageClient puts an image, with a tag.
func imageClient(x *stage) []func() error {
	put := x.image(x.repository, "image")
	put.Tags = []string{"latest"}
	return []func() error{func() error { return x.put(put) }}
}

// prepareHeld leaves an image that was deleted.
func prepareHeld(t *testing.T, x *stage) {
	prepareImage(t, x)
	require.NoError(t, x.remove(x.client, "image"))
}

// settleRival is a collector with a policy for what referred to a manifest that was deleted.
func settleRival(x *stage, c *collector) []func() error {
	var held []store.Candidate
	return append([]func() error{
		func() error {
			done, err := c.store.ReviewCandidates(x.ctx, store.Review{Grace: grace, Limit: all, Hold: func(string) bool { return true }})
			held = done.Held
			return wrap("review and hold back", err)
		},
		func() error {
			for _, candidate := range held {
				if err := c.store.SettleCandidate(x.ctx, candidate); err != nil {
					return wrap("settle", err)
				}
			}
			return nil
		},
	}, c.calls(x.ctx)...)
}

// outcome is nil where a decision was overtaken, which it was told.
func outcome(what string, err error) error {
	var referenced *store.ReferencedError
	if errors.As(err, &referenced) || isAny(err, []error{store.ErrConditionFailed, store.ErrManifestUnknown}) {
		return nil
	}
	return wrap(what, err)
}

// expireRival is a policy that lets the image go, and a collector.
func expireRival(x *stage, c *collector) []func() error {
	return append([]func() error{func() error {
		return outcome("expire", c.store.ExpireManifest(x.ctx, store.ManifestExpiry{
			Repository: x.repository, Digest: x.image(x.repository, "image").Manifest.Digest, Quiet: grace,
		}))
	}}, c.calls(x.ctx)...)
}

// tagAgainClient puts the image that has the tag once more.
func tagAgainClient(x *stage) []func() error {
	put := x.image(x.repository, "former")
	put.Tags = []string{"latest"}
	return []func() error{func() error { return x.put(put) }}
}

// expireTagRival is a policy that lets the tag go, and a collector.
func expireTagRival(x *stage, c *collector) []func() error {
	return append([]func() error{func() error {
		return outcome("expire", c.store.ExpireTag(x.ctx, store.TagExpiry{
			Repository: x.repository, Tag: "latest", Digest: x.image(x.repository, "former").Manifest.Digest, Quiet: grace,
		}))
	}}, c.calls(x.ctx)...)
}

// evictRival makes room, and collects.
func evictRival(x *stage, c *collector) []func() error {
	return append([]func() error{func() error {
		_, err := c.store.EvictManifest(x.ctx, store.ManifestEviction{
			Repository: x.repository, Digest: x.image(x.repository, "image").Manifest.Digest, Quiet: grace,
		})
		return outcome("evict", err)
	}}, c.calls(x.ctx)...)
}

// auditRival has found the upload's objects, and condemns those of them that no row names; then they are deleted at once.
func auditRival(x *stage, c *collector) []func() error {
	sweep := c.calls(x.ctx)[take:]
	return append([]func() error{func() error {
		condemned, err := c.store.CondemnKeys(x.ctx, x.session.Keys())
		for _, key := range condemned {
			if x.bucket.has(key) { // else it has been deleted and forgotten meanwhile
				err = errors.Join(err, fmt.Errorf("%s is an upload's or content's", key))
			}
		}
		return wrap("condemn", err)
	}}, sweep...)
}

// prepareLost leaves content whose object is gone.
func prepareLost(t *testing.T, x *stage) {
	content, err := x.client.Content(t.Context(), x.repository, x.digest())
	require.NoError(t, err)
	x.lost = content.Key
	x.bucket.delete([]store.Key{x.lost})
}

// markRival is an audit that has found it missing, and a collector.
func markRival(x *stage, c *collector) []func() error {
	return append([]func() error{func() error {
		_, err := c.store.MarkContent(x.ctx, x.digest(), x.lost, true)
		return wrap("mark", err)
	}}, c.calls(x.ctx)...)
}

// oneDeleteClient and otherDeleteRival delete images that share their layer.
func oneDeleteClient(x *stage) []func() error {
	return []func() error{func() error { return x.remove(x.client, "one") }}
}

func otherDeleteRival(x *stage, c *collector) []func() error {
	return append([]func() error{func() error { return x.remove(c.store, "two") }}, c.calls(x.ctx)...)
}
