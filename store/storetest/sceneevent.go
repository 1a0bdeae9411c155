package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// The scenes in which each event of a client meets what a policy, an eviction and an audit do to the index. What a collector makes of
// that is seen afterwards.

// event is a client of a scene of many.
type event struct {
	name   string
	client func(x *stage) []func() error
}

func eventScenes() []scene {
	return []scene{
		{name: "EveryEventBesideAnExpiry", prepare: prepareAll, events: events(), rival: only(expireLatterRival)},
		{name: "EveryEventBesideATagsExpiry", prepare: prepareAll, events: events(), rival: only(expireTagRival)},
		{name: "EveryEventBesideAnEviction", prepare: prepareAll, events: events(), rival: only(evictLatterRival), mirrored: true},
		{name: "EveryEventBesideACondemnation", prepare: prepareOrphan, events: events(), rival: only(condemnRival)},
		{name: "EveryEventBesideAMark", prepare: prepareAllLost, events: events(), rival: only(markRival)},
		{name: "EveryPutBesideACascade", prepare: prepareReferrer, events: puts(), rival: cascadeRival},
	}
}

// only returns the first call of a rival.
func only(rival func(x *stage, c *collector) []func() error) func(x *stage, c *collector) []func() error {
	return func(x *stage, c *collector) []func() error { return rival(x, c)[:1] }
}

// events returns every event of a client. They meet over the images former, which has the tag, and latter, over the layer that both
// refer to, and over an upload of that.
func events() []event {
	return []event{
		{"upload", finishClient},
		{"save and finish", abandonedClient},
		{"cancel", cancelClient},
		{"inline push", inlineClient},
		{"head", headClient},
		{"mount", mountClient},
		{"manifest put again", latterClient},
		{"index", latterIndexClient},
		{"tag put again", tagAgainClient},
		{"tag move", tagClient},
		{"tag delete", tagDeleteClient},
		{"manifest delete", latterDeleteClient},
		{"content delete", allDeleteClient},
		{"pulls", pullsClient},
		{"repository delete", repositoryDeleteClient},
		{"repository delete and push anew", anewClient},
	}
}

// prepareAll leaves what every event needs.
func prepareAll(t *testing.T, x *stage) {
	prepareImages(t, x)
	prepareUpload(t, x)
}

// prepareOrphan leaves an object that no row names, too.
func prepareOrphan(t *testing.T, x *stage) {
	prepareAll(t, x)
	x.orphan = store.NewBlobKey()
	x.bucket.write(x.orphan)
}

// prepareAllLost leaves all, but for the layer's object.
func prepareAllLost(t *testing.T, x *stage) {
	prepareAll(t, x)
	prepareLost(t, x)
}

func latterClient(x *stage) []func() error {
	return []func() error{func() error { return x.put(x.image(x.repository, "latter")) }}
}

// latterIndexClient puts an index that lists the image, which it puts again if that has gone.
func latterIndexClient(x *stage) []func() error {
	latter := x.image(x.repository, "latter")
	index := func() error {
		return x.put(indexOf(x.repository, "index of "+x.repository, latter.Manifest.Digest))
	}
	return []func() error{
		index,
		func() error {
			if !x.refused {
				return nil
			}
			x.refused = false
			return x.put(latter)
		},
		index,
	}
}

// tagDeleteClient deletes the tag, and not what it points to.
func tagDeleteClient(x *stage) []func() error {
	return []func() error{func() error {
		x.promiseManifest(x.image(x.repository, "former"))
		return x.settle(x.client.DeleteTag(x.ctx, x.repository, "latest"), func() {
			x.promise(true, func(t *testing.T, message string) {
				t.Helper()
				x.m.requireNoManifest(t, x.repository, byTag("latest"), "a tag that was deleted is gone: "+message)
			})
		}, store.ErrManifestUnknown)
	}}
}

func (x *stage) deleteImage(image string) error {
	d := x.image(x.repository, image).Manifest.Digest
	return x.settle(x.client.DeleteManifest(x.ctx, x.repository, d, nil), func() {
		x.promise(true, func(t *testing.T, message string) {
			t.Helper()
			x.m.requireNoManifest(t, x.repository, byDigest(d), "a manifest that was deleted is gone: "+message)
		})
	}, store.ErrManifestUnknown)
}

// latterDeleteClient deletes one image; the other one keeps the layer.
func latterDeleteClient(x *stage) []func() error {
	return []func() error{func() error {
		x.promiseManifest(x.image(x.repository, "former"))
		return x.deleteImage("latter")
	}}
}

// allDeleteClient deletes both images, and then the layer.
func allDeleteClient(x *stage) []func() error {
	return []func() error{
		func() error { return x.deleteImage("former") },
		func() error { return x.deleteImage("latter") },
		func() error { return x.deleteContent(x.digest()) },
	}
}

// pullsClient tells that both images were pulled, one by its tag.
func pullsClient(x *stage) []func() error {
	former, latter := x.image(x.repository, "former"), x.image(x.repository, "latter")
	return []func() error{func() error {
		x.promiseManifest(former)
		return wrap("record pulls", x.client.RecordPulls(x.ctx, []store.Pull{
			{Repository: x.repository, Digest: former.Manifest.Digest, Tag: "latest"},
			{Repository: x.repository, Digest: latter.Manifest.Digest},
		}))
	}}
}

// repositoryDeleteClient deletes the repository, and nobody makes it again.
func repositoryDeleteClient(x *stage) []func() error {
	return []func() error{func() error {
		x.promise(true, func(t *testing.T, message string) {
			t.Helper()
			require.NotContains(t, x.m.repositories(t), x.repository, "a repository that was deleted is gone: %s", message)
		})
		return wrap("delete repository", x.client.DeleteRepository(x.ctx, x.repository))
	}}
}

// anewClient deletes the repository, and pushes the same images to its name again. The tag is another one's.
func anewClient(x *stage) []func() error {
	latter := x.image(x.repository, "latter")
	latter.Tags = []string{"latest"}
	return []func() error{
		func() error { return wrap("delete repository", x.client.DeleteRepository(x.ctx, x.repository)) },
		inTurn(inlineClient(x)),
		func() error { return x.put(x.image(x.repository, "former")) },
		func() error { return x.put(latter) },
	}
}

// expireLatterRival is a policy that lets the image without a tag go.
func expireLatterRival(x *stage, c *collector) []func() error {
	return []func() error{func() error {
		return outcome("expire", c.store.ExpireManifest(x.ctx, store.ManifestExpiry{
			Repository: x.repository, Digest: x.image(x.repository, "latter").Manifest.Digest, Quiet: grace,
		}))
	}}
}

// evictLatterRival makes room.
func evictLatterRival(x *stage, c *collector) []func() error {
	return []func() error{func() error {
		_, err := c.store.EvictManifest(x.ctx, store.ManifestEviction{
			Repository: x.repository, Digest: x.image(x.repository, "latter").Manifest.Digest, Quiet: grace,
		})
		return outcome("evict", err)
	}}
}

// condemnRival is an audit that has seen objects, and condemns the one that no row names.
func condemnRival(x *stage, c *collector) []func() error {
	seen := append(x.session.Keys(), x.orphan)
	return []func() error{func() error {
		condemned, err := c.store.CondemnKeys(x.ctx, seen)
		if err == nil && !slices.Equal(condemned, []store.Key{x.orphan}) {
			err = fmt.Errorf("of %s, %s were condemned; no row names %s only", seen, condemned, x.orphan)
		}
		return wrap("condemn", err)
	}}
}

// prepareReferrer leaves a referrer whose subject was deleted.
func prepareReferrer(t *testing.T, x *stage) {
	require.NoError(t, x.put(x.subject()))
	require.NoError(t, x.put(x.referrer()))
	require.NoError(t, x.client.DeleteManifest(t.Context(), x.repository, x.subject().Manifest.Digest, nil))
}

func (x *stage) subject() store.ManifestPut { return x.image(x.repository, "subject") }

func (x *stage) referrer() store.ManifestPut {
	referrer := x.image(x.repository, "referrer")
	referrer.Manifest.Subject = x.subject().Manifest.Digest
	return referrer
}

// cascadeRival is a collector with a policy for what referred to a manifest that was deleted: that goes, too.
func cascadeRival(x *stage, c *collector) []func() error {
	var held []store.Candidate
	return []func() error{
		func() error {
			done, err := c.store.ReviewCandidates(x.ctx, store.Review{Grace: grace, Limit: all, Hold: func(name string) bool { return name == x.repository }})
			held = done.Held
			return wrap("review and hold back", err)
		},
		func() error {
			for _, candidate := range held {
				err := outcome("cascade", c.store.ExpireManifest(x.ctx, store.ManifestExpiry{
					Repository: x.repository, Digest: x.referrer().Manifest.Digest, Orphan: true, PushedBy: candidate.Deleted,
				}))
				if err == nil {
					err = wrap("settle", c.store.SettleCandidate(x.ctx, candidate))
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// puts returns the ways to push the subject and its referrer again.
func puts() []event {
	put := func(which ...func(x *stage) store.ManifestPut) func(x *stage) []func() error {
		return func(x *stage) (calls []func() error) {
			for _, w := range which {
				calls = append(calls, func() error { return x.put(w(x)) })
			}
			return calls
		}
	}
	subject, referrer := (*stage).subject, (*stage).referrer
	return []event{
		{"subject", put(subject)},
		{"subject and then referrer", put(subject, referrer)},
		{"referrer and then subject", put(referrer, subject)},
		{"repository delete and push anew", func(x *stage) []func() error {
			return append([]func() error{
				func() error { return wrap("delete repository", x.client.DeleteRepository(x.ctx, x.repository)) },
				inTurn(inlineClient(x)),
			}, put(subject, referrer)(x)...)
		}},
	}
}
