package storetest

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// The clients of the scenes, each with what it meets over.

func prepareNothing(*testing.T, *stage) {}

// finishClient pushes the layer that is due again.
func finishClient(x *stage) []func() error { return x.upload(x.repository, x.layer) }

// elsewhereClient pushes the layer that is due to another repository.
func elsewhereClient(x *stage) []func() error { return x.upload(x.other, x.layer) }

// anotherClient pushes something else to the repository, which may go with the layer.
func anotherClient(x *stage) []func() error { return x.upload(x.repository, "not "+x.layer) }

// prepareUpload leaves an upload of the layer that has outlived its life.
func prepareUpload(t *testing.T, x *stage) {
	id := store.NewID()
	require.NoError(t, x.client.CreateSession(t.Context(), id, x.repository, ""))
	claim := claimOf(id)
	claim.Repository = x.repository
	s, err := x.client.ClaimSession(t.Context(), claim)
	require.NoError(t, err)
	x.bucket.write(s.Keys()...)
	x.session = s
}

// abandonedClient comes back to its upload, saves what it has, and finishes it.
func abandonedClient(x *stage) []func() error {
	return []func() error{
		func() error {
			s := x.session
			err := x.client.SaveSession(x.ctx, store.Save{ID: s.ID, Version: s.Version, Progress: s.Progress, Reserved: s.Reserved})
			return x.settle(err, func() {}, store.ErrFenced)
		},
		func() error {
			if x.refused {
				return nil
			}
			return x.finish(x.session, x.repository, x.layer)
		},
	}
}

// claimClient comes back to its upload, claims it and finishes it.
func claimClient(x *stage) []func() error {
	return []func() error{
		func() error {
			claim := claimOf(x.session.ID)
			claim.Repository = x.repository
			s, err := x.client.ClaimSession(x.ctx, claim)
			return x.settle(err, func() {
				x.bucket.write(s.Keys()...)
				x.session = s
			}, store.ErrSessionUnknown)
		},
		func() error {
			if x.refused {
				return nil
			}
			return x.finish(x.session, x.repository, x.layer)
		},
	}
}

// cancelClient gives its upload up.
func cancelClient(x *stage) []func() error {
	return []func() error{func() error {
		_, err := x.client.DropSession(x.ctx, store.SessionRef{ID: x.session.ID, Repository: x.repository})
		return x.settle(err, x.promiseEnd, store.ErrSessionUnknown)
	}}
}

// promiseEnd promises that the upload is gone.
func (x *stage) promiseEnd() {
	x.promise(true, func(t *testing.T, message string) {
		t.Helper()
		_, err := x.m.last.Session(t.Context(), store.SessionRef{ID: x.session.ID, Repository: x.repository})
		require.ErrorIs(t, err, store.ErrSessionUnknown, "an upload that was ended is gone: %s", message)
	})
}

// inlineClient pushes the layer that is due, as bytes in its row.
func inlineClient(x *stage) []func() error {
	return []func() error{func() error {
		err := x.client.PutContent(x.ctx, x.repository, text(x.layer))
		return x.settle(err, func() { x.promisePushed(x.repository, x.digest()) })
	}}
}

// contentDeleteClient deletes the layer that is due.
func contentDeleteClient(x *stage) []func() error {
	return []func() error{func() error { return x.deleteContent(x.digest()) }}
}

func (x *stage) deleteContent(d digest.Digest) error {
	err := x.client.DeleteContent(x.ctx, x.repository, d)
	return x.settle(err, func() {
		x.promise(true, func(t *testing.T, message string) {
			t.Helper()
			_, err := x.m.last.Content(t.Context(), x.repository, d)
			require.ErrorIs(t, err, store.ErrContentUnknown, "content that was deleted is gone: %s", message)
		})
	}, store.ErrContentUnknown)
}

// prepareAnother leaves something else in the repository.
func prepareAnother(t *testing.T, x *stage) {
	require.NoError(t, inTurn(x.upload(x.repository, "not "+x.layer))())
}

// anotherDeleteClient deletes it, once it is not due any more: the repository goes with the layer, or with this.
func anotherDeleteClient(x *stage) []func() error {
	another := digest.FromString("not " + x.layer)
	return []func() error{
		func() error {
			_, err := x.client.RenewContent(x.ctx, x.repository, another, grace)
			return x.settle(err, func() {}, store.ErrContentUnknown)
		},
		func() error {
			if x.refused {
				return nil
			}
			return x.deleteContent(another)
		},
	}
}

// head asks whether the layer need not be pushed.
func (x *stage) head() error {
	_, err := x.client.RenewContent(x.ctx, x.repository, x.digest(), grace)
	return x.settle(err, func() { x.promiseContent(x.repository, x.digest(), false) }, store.ErrContentUnknown)
}

func headClient(x *stage) []func() error { return []func() error{x.head} }

// mountClient mounts the layer that is due, and refers to it where it was mounted.
func mountClient(x *stage) []func() error { return x.mount(x.repository, x.other) }

// mount returns the calls that push an image whose layer is mounted.
func (x *stage) mount(from, to string) []func() error {
	return []func() error{
		func() error {
			_, err := x.client.Mount(x.ctx, x.digest(), from, to)
			return x.settle(err, func() { x.promiseContent(to, x.digest(), false) }, store.ErrContentUnknown)
		},
		func() error { return x.put(x.image(to, "image")) },
	}
}

// manifestClient refers to the layer that is due.
func manifestClient(x *stage) []func() error {
	put := x.image(x.repository, "image")
	put.Tags = []string{"latest"}
	return []func() error{func() error { return x.put(put) }}
}

// prepareImage leaves an image whose layer is a candidate too, since it was pushed after it.
func prepareImage(t *testing.T, x *stage) {
	require.NoError(t, x.put(x.image(x.repository, "image")))
	require.NoError(t, inTurn(x.upload(x.repository, x.layer))())
}

// deleteClient deletes an image.
func deleteClient(x *stage) []func() error {
	return []func() error{func() error { return x.remove(x.client, "image") }}
}

// prepareTag leaves two images, one of which has the tag, and their layer as a candidate.
func prepareTag(t *testing.T, x *stage) {
	prepareImages(t, x)
	require.NoError(t, inTurn(x.upload(x.repository, x.layer))())
}

// prepareImages leaves the images.
func prepareImages(t *testing.T, x *stage) {
	former := x.image(x.repository, "former")
	former.Tags = []string{"latest"}
	require.NoError(t, x.put(former))
	require.NoError(t, x.put(x.image(x.repository, "latter")))
}

// tagClient moves the tag: the image that loses it stays pullable.
func tagClient(x *stage) []func() error {
	latter := x.image(x.repository, "latter")
	latter.Tags = []string{"latest"}
	return []func() error{func() error {
		err := x.put(latter)
		if len(x.promises) > 0 {
			x.promiseManifest(x.image(x.repository, "former"))
		}
		return err
	}}
}

// pushClient does what docker push does: it asks for the layer, pushes it if it has to, and puts the manifest.
func pushClient(x *stage) []func() error {
	upload := x.upload(x.repository, x.layer)
	ifAbsent := func(call func() error) func() error {
		return func() error {
			if !x.absent {
				return nil
			}
			return call()
		}
	}
	return []func() error{
		func() error {
			err := x.head()
			x.absent, x.refused = x.refused, false
			return err
		},
		ifAbsent(inTurn(upload[:2])),
		ifAbsent(upload[2]),
		func() error { return x.put(x.image(x.repository, "image")) },
	}
}

// prepareShared leaves an image that two repositories have.
func prepareShared(t *testing.T, x *stage) {
	prepareImage(t, x)
	_, err := x.client.Mount(t.Context(), x.digest(), x.repository, x.other)
	require.NoError(t, err)
	require.NoError(t, x.put(x.image(x.other, "image")))
}

// repositoryClient deletes one of the two repositories, and pushes to its name again.
func repositoryClient(x *stage) []func() error {
	upload := x.upload(x.repository, x.layer)
	return []func() error{
		func() error {
			x.promiseManifest(x.image(x.other, "image"))
			return wrap("delete repository", x.client.DeleteRepository(x.ctx, x.repository))
		},
		inTurn(upload[:2]),
		upload[2],
	}
}

// prepareDeleted leaves an image that two repositories had, one of which was deleted.
func prepareDeleted(t *testing.T, x *stage) {
	prepareShared(t, x)
	require.NoError(t, x.client.DeleteRepository(t.Context(), x.repository))
}

// pushAnewClient pushes the image to the name of the repository that is being drained.
func pushAnewClient(x *stage) []func() error {
	upload := x.upload(x.repository, x.layer)
	return []func() error{
		inTurn(upload[:2]),
		func() error {
			x.promiseManifest(x.image(x.other, "image"))
			return upload[2]()
		},
		func() error { return x.put(x.image(x.repository, "image")) },
	}
}

// mountAnewClient does so with what the other repository has.
func mountAnewClient(x *stage) []func() error { return x.mount(x.other, x.repository) }

// prepareTwo leaves two images that share their layer.
func prepareTwo(t *testing.T, x *stage) {
	require.NoError(t, x.put(x.image(x.repository, "one")))
	require.NoError(t, x.put(x.image(x.repository, "two")))
	require.NoError(t, inTurn(x.upload(x.repository, x.layer))())
}

// twoDeletesClient deletes both: the layer has its grace from then on, and is not forgotten.
func twoDeletesClient(x *stage) []func() error {
	return []func() error{
		func() error { return x.remove(x.client, "one") },
		func() error { return x.remove(x.client, "two") },
	}
}

// remove deletes an image: what it referred to has its grace from then on.
func (x *stage) remove(meta store.Metadata, image string) error {
	err := meta.DeleteManifest(x.ctx, x.repository, x.image(x.repository, image).Manifest.Digest, nil)
	return x.settle(err, func() { x.promiseContent(x.repository, x.digest(), false) })
}

// collect returns some calls of another collector's round.
func (x *stage) collect(which ...int) (calls []func() error) {
	round := (&collector{store: x.client, bucket: x.bucket}).calls(x.ctx)
	for _, i := range which {
		calls = append(calls, round[i])
	}
	return calls
}

// collectorClient is another collector, which reviews and sweeps; what is needed stays.
func collectorClient(x *stage) []func() error {
	x.promiseManifest(x.image(x.repository, "image"))
	return x.collect(review, take, forget)
}

// drainClient is another collector, which drains the repository, and reviews; the other repository keeps its image.
func drainClient(x *stage) []func() error {
	x.promiseManifest(x.image(x.other, "image"))
	return x.collect(drain, review)
}

// endClient is another collector, which ends the upload, too.
func endClient(x *stage) []func() error {
	x.promiseEnd()
	return x.collect(end)
}
