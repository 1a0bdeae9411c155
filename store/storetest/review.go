package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// grace is that of the tests of the collector.
const grace = time.Hour

// reviewTests prove what a review of candidates takes, and what it leaves.
func reviewTests() []metadataTest {
	return []metadataTest{
		{"TakesWhatNothingNeeds", reviewUnneeded},
		{"WaitsForTheGrace", reviewGrace},
		{"LeavesWhatAManifestRefersTo", reviewNeeded},
		{"LeavesWhatIsAManifest", reviewManifest},
		{"LeavesWhatWasRenewed", reviewRenewed},
		{"LooksAtEdgesOfItsRepositoryOnly", reviewOtherRepository},
		{"TakesContentWithItsLastLink", reviewLastLink},
		{"TakesContentWhoseLinksAllGoAtOnce", reviewAllLinks},
		{"TakesContentWhoseLinkIsGone", reviewGoneLink},
		{"TakesAnImageAfterItsDeletion", reviewDeletedImage},
		{"TakesOrphansThatAnotherManifestReplaced", reviewSharing},
		{"DoesNotNeedASubject", reviewSubject},
		{"GoesTheLongestAgoFirstUpToALimit", reviewPages},
		{"HoldsBackDeletedManifests", reviewHold},
		{"HoldsBackUntilSettled", reviewSettle},
		{"TellsOfDeletedManifests", reviewDeleted},
		{"TellsWhenAManifestWasDeleted", reviewDeletion},
		{"IsDueWhenACandidateIs", reviewDue},
	}
}

// review reviews what is due, through the replica that the tests look through.
func (m *index) review(t *testing.T) store.Reviewed {
	t.Helper()
	done, err := m.last.ReviewCandidates(t.Context(), store.Review{Grace: grace, Limit: all})
	require.NoError(t, err)
	require.Zero(t, done.Left, "what nobody has locked is not left")
	return done
}

// requireCondemned requires how a key that is in the garbage got there.
func (m *index) requireCondemned(t *testing.T, key store.Key, unfinished bool, message string) store.Garbage {
	t.Helper()
	listed, err := m.last.Garbage(t.Context(), 0, all)
	require.NoError(t, err)
	for _, g := range listed {
		if g.Key == key {
			require.Equal(t, unfinished, g.Unfinished, "Unfinished says whether writes may still reach it: %s", message)
			return g
		}
	}
	require.Fail(t, "a key that is named no more must be garbage", message)
	return store.Garbage{}
}

func reviewUnneeded(t *testing.T, m *index) {
	big := object("big")
	m.push(t, repository, big)
	m.putText(t, "team/other", "small")
	unused := m.garbage(t)
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 2, Links: 2, Contents: 2, Bytes: 8}, m.review(t), "what nothing needs goes, and is counted")
	m.requireNoContent(t, repository, big.Digest, "content that nothing needs is collected")
	m.requireNoContent(t, "team/other", digest.FromString("small"), "inline content that nothing needs is collected")
	require.Empty(t, m.repositories(t), "a repository goes with its last link")
	require.Empty(t, m.candidates(t), "what was collected is a candidate no more")
	m.requireGarbage(t, "the key of content that was collected becomes garbage", append(unused, big.Key)...)
	g := m.requireCondemned(t, big.Key, false, "content that was collected was finished")
	require.True(t, m.clock.Now().Equal(g.Condemned), "it is condemned as of the review")
	require.Equal(t, store.Reviewed{}, m.review(t), "a review that is run again finds nothing to do")

	again := object("big")
	m.push(t, repository, again)
	m.requireContent(t, repository, again, "content that was collected can be pushed again")
	require.NotContains(t, m.garbage(t), again.Key, "content that is pushed again has another key")
}

func reviewGrace(t *testing.T, m *index) {
	d := m.putText(t, repository, "x")
	m.clock.Advance(grace - time.Second)
	require.Equal(t, store.Reviewed{}, m.review(t), "a candidate that was touched less than the grace ago is not reviewed")
	m.requireContent(t, repository, text("x"), "content stays for its grace")
	require.Contains(t, m.candidates(t), place{repository, d}, "a candidate that is not due stays one")
	m.clock.Advance(time.Second)
	require.Equal(t, 1, m.review(t).Contents, "a candidate that was last touched as long ago as the grace is due")
}

func reviewNeeded(t *testing.T, m *index) {
	layer, config := object("layer"), text("config")
	late := object("late")
	put := imageOf(repository, "image", layer.Digest, config.Digest, late.Digest)
	put.AllowMissing = true
	put.References[2].Optional = true
	m.putManifest(t, put)
	// All of them are pushed after the manifest, so that each is a candidate with an edge.
	m.push(t, repository, layer)
	m.push(t, repository, late)
	m.putText(t, repository, "config")
	child := m.putManifest(t, imageOf(repository, "child"))
	m.putManifest(t, indexOf(repository, "index", child))
	m.putText(t, repository, "child")
	require.NotEmpty(t, m.candidates(t))
	m.clock.Advance(100 * grace)
	require.Equal(t, store.Reviewed{Candidates: 4}, m.review(t), "what an edge refers to is a candidate no more, and nothing else happens")
	require.Empty(t, m.candidates(t), "what an edge refers to is a candidate no more")
	for _, content := range []store.Content{layer, late, config} {
		m.requireContent(t, repository, content, "what a manifest refers to stays, also if it came after the manifest, or was optional")
		require.NotContains(t, m.garbage(t), content.Key, "what a manifest refers to stays")
	}
	m.requireManifest(t, repository, byDigest(child), imageOf(repository, "child").Manifest, "a manifest that an index lists stays")
}

func reviewManifest(t *testing.T, m *index) {
	put := imageOf(repository, "image")
	m.putManifest(t, put)
	m.putText(t, repository, "image") // a push of the same bytes as a blob
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 1}, m.review(t), "what is a manifest is needed")
	m.requireManifest(t, repository, byDigest(put.Manifest.Digest), put.Manifest, "a manifest without a tag stays until it is deleted")
	require.Empty(t, m.candidates(t), "what is a manifest is a candidate no more")
}

func reviewRenewed(t *testing.T, m *index) {
	pushed, renewed, mounted := text("pushed"), text("renewed"), text("mounted")
	for _, content := range []store.Content{pushed, renewed, mounted} {
		require.NoError(t, m.first.PutContent(t.Context(), repository, content))
	}
	m.clock.Advance(grace - time.Second)
	require.NoError(t, m.first.PutContent(t.Context(), repository, pushed))
	_, err := m.first.RenewContent(t.Context(), repository, renewed.Digest, grace)
	require.NoError(t, err)
	_, err = m.first.Mount(t.Context(), mounted.Digest, repository, "team/target")
	require.NoError(t, err)
	m.clock.Advance(time.Second)
	require.Equal(t, store.Reviewed{Candidates: 1, Links: 1}, m.review(t), "only the source of the mount was not touched")
	m.requireContent(t, repository, pushed, "content that is pushed again has its grace again")
	m.requireContent(t, repository, renewed, "content that was renewed has its grace again")
	m.requireContent(t, "team/target", mounted, "content that was mounted has its grace where it was mounted")
	m.clock.Advance(grace)
	require.Equal(t, 3, m.review(t).Contents, "a grace that was renewed ends, too")
}

func reviewOtherRepository(t *testing.T, m *index) {
	layer := object("layer")
	m.push(t, "team/other", layer)
	m.push(t, repository, layer)
	m.putManifest(t, imageOf(repository, "image", layer.Digest))
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 1, Links: 1}, m.review(t), "a manifest of another repository does not need a link of this one")
	m.requireNoContent(t, "team/other", layer.Digest, "a link that nothing needs in its repository goes")
	m.requireContent(t, repository, layer, "content that another repository links to stays")
	require.NotContains(t, m.garbage(t), layer.Key, "content that another repository links to stays")
	require.Equal(t, []string{repository}, m.repositories(t), "a repository goes with its last link, and no other one")
}

func reviewLastLink(t *testing.T, m *index) {
	content := object("x")
	m.push(t, repository, content)
	m.clock.Advance(time.Minute)
	_, err := m.first.Mount(t.Context(), content.Digest, repository, "team/target")
	require.NoError(t, err)
	m.clock.Advance(grace - time.Minute)
	require.Equal(t, store.Reviewed{Candidates: 1, Links: 1}, m.review(t), "content stays with one of its links")
	m.requireContent(t, "team/target", content, "content stays with one of its links")
	m.clock.Advance(time.Minute)
	require.Equal(t, store.Reviewed{Candidates: 1, Links: 1, Contents: 1, Bytes: 1}, m.review(t), "content goes with its last link")
	require.Contains(t, m.garbage(t), content.Key, "content goes with its last link")
}

func reviewAllLinks(t *testing.T, m *index) {
	content := object("x")
	m.push(t, repository, content)
	for i := range 4 {
		_, err := m.first.Mount(t.Context(), content.Digest, repository, fmt.Sprint("team/", i))
		require.NoError(t, err)
	}
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 5, Links: 5, Contents: 1, Bytes: 1}, m.review(t), "links that go at once take their content along, once")
	require.Contains(t, m.garbage(t), content.Key)
	require.Empty(t, m.repositories(t))
}

func reviewGoneLink(t *testing.T, m *index) {
	content, shared := object("x"), object("shared")
	m.push(t, repository, content)
	m.push(t, repository, shared)
	m.push(t, "team/other", shared)
	m.putManifest(t, imageOf("team/other", "image", shared.Digest))
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, content.Digest))
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, shared.Digest))
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 2, Contents: 1, Bytes: 1}, m.review(t), "content whose last link was gone before goes, and no other")
	require.Contains(t, m.garbage(t), content.Key, "content whose last link was gone before goes")
	require.NotContains(t, m.garbage(t), shared.Key, "content that another repository links to stays")
	m.requireContent(t, "team/other", shared, "content that another repository links to stays")
}

func reviewDeletedImage(t *testing.T, m *index) {
	layer, shared := object("layer"), object("shared")
	m.push(t, repository, layer)
	m.push(t, repository, shared)
	m.putManifest(t, imageOf(repository, "kept", shared.Digest), "kept")
	d := m.putManifest(t, imageOf(repository, "image", layer.Digest, shared.Digest), "latest")
	m.clock.Advance(100 * grace)
	require.Equal(t, store.Reviewed{}, m.review(t), "an image that is there leaves nothing to review")
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, nil))
	require.Equal(t, store.Reviewed{}, m.review(t), "what a deleted manifest referred to has its grace from then on")
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 3, Links: 1, Contents: 2, Bytes: 10}, m.review(t), "a deleted manifest goes with what only it referred to")
	m.requireContent(t, repository, shared, "what another manifest refers to stays")
	require.Contains(t, m.garbage(t), layer.Key)
	require.NotContains(t, m.garbage(t), shared.Key)
	require.Empty(t, m.candidates(t))
}

func reviewSharing(t *testing.T, m *index) {
	shared := object("shared")
	m.push(t, repository, shared)
	one := m.putManifest(t, imageOf(repository, "one", shared.Digest))
	two := m.putManifest(t, imageOf(repository, "two", shared.Digest))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, one, nil))
	m.clock.Advance(grace)
	require.Zero(t, m.review(t).Links, "a layer that another manifest refers to stays")
	m.requireContent(t, repository, shared, "a layer that another manifest refers to stays")
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, two, nil))
	m.clock.Advance(grace)
	require.Equal(t, 1, m.review(t).Links, "a layer whose last manifest was deleted goes, though it was reviewed before")
	require.Contains(t, m.garbage(t), shared.Key)
}

func reviewSubject(t *testing.T, m *index) {
	subject := m.putManifest(t, imageOf(repository, "subject"))
	referrer := referrerOf(repository, "referrer", subject, "")
	m.putManifest(t, referrer)
	orphan := referrerOf(repository, "orphan", digest.FromString("never here"), "")
	m.putManifest(t, orphan)
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, subject, nil))
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 1, Contents: 1, Bytes: 7}, m.review(t), "a subject is not needed by its referrers")
	m.requireManifest(t, repository, byDigest(referrer.Manifest.Digest), referrer.Manifest, "a referrer stays when its subject is deleted")
	m.requireManifest(t, repository, byDigest(orphan.Manifest.Digest), orphan.Manifest, "a missing subject is not a deleted one")
}

func reviewPages(t *testing.T, m *index) {
	names := []string{"e", "d", "c", "b", "a"}
	for i, name := range names {
		if i > 0 {
			m.clock.Advance(time.Second)
		}
		m.putText(t, name, name)
	}
	m.clock.Advance(grace)
	for _, test := range []struct{ limit, done, left int }{{0, 0, 5}, {1, 1, 4}, {3, 3, 1}, {2, 1, 0}, {2, 0, 0}} {
		done, err := m.first.ReviewCandidates(t.Context(), store.Review{Grace: grace, Limit: test.limit})
		require.NoError(t, err)
		require.Equal(t, test.done, done.Candidates, "a review takes up to %d candidates", test.limit)
		left := m.repositories(t)
		require.Len(t, left, test.left)
		for _, name := range names[len(names)-test.left:] {
			require.Contains(t, left, name, "a review takes the candidates that were touched the longest ago first")
		}
	}
}

// heldRepositories is a policy that cascades in one repository.
func (m *index) reviewHolding(t *testing.T) store.Reviewed {
	t.Helper()
	done, err := m.first.ReviewCandidates(t.Context(), store.Review{
		Grace: grace, Limit: all, Hold: func(name string) bool { return name == repository },
	})
	require.NoError(t, err)
	return done
}

func reviewHold(t *testing.T, m *index) {
	layer := m.putText(t, repository, "layer")
	d := m.putManifest(t, imageOf(repository, "image", layer))
	other := m.putManifest(t, imageOf("team/other", "other image"))
	again := m.putManifest(t, imageOf(repository, "put again"))
	for name, d := range map[string]digest.Digest{repository: d, "team/other": other} {
		require.NoError(t, m.first.DeleteManifest(t.Context(), name, d, nil))
	}
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, again, nil))
	m.putManifest(t, imageOf(repository, "put again"))
	touched := m.clock.Now()
	m.clock.Advance(grace)
	for range 2 {
		done := m.reviewHolding(t)
		require.Len(t, done.Held, 1, "a candidate whose manifest was deleted is held back, and returned each time; one that was put again is not")
		require.True(t, touched.Equal(done.Held[0].Touched), "a candidate that is held back was touched when it was")
		require.True(t, touched.Equal(done.Held[0].Deleted), "a candidate that is held back tells when its manifest was deleted")
		require.Equal(t, place{repository, d}, place{done.Held[0].Repository, done.Held[0].Digest})
	}
	require.Len(t, m.candidates(t), 1, "only candidates whose manifest was deleted, of repositories that are held back, stay")
	m.requireNoContent(t, repository, layer, "what a deleted manifest referred to is not held back")
	require.Equal(t, store.Reviewed{Candidates: 1, Contents: 1, Bytes: 5}, m.review(t), "a review that holds nothing back takes it")
}

func reviewSettle(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "image"))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, nil))
	m.clock.Advance(grace)
	held := m.reviewHolding(t).Held
	require.Len(t, held, 1)

	stale := held[0]
	m.putText(t, repository, "image") // as a blob, which touches it
	require.NoError(t, m.first.SettleCandidate(t.Context(), stale), "settling a candidate that has been touched since is no error")
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, d))
	m.clock.Advance(grace)
	held = m.reviewHolding(t).Held
	require.Len(t, held, 1, "settling does nothing to a candidate that has been touched since, and touching keeps that its manifest was deleted")

	require.NoError(t, m.first.SettleCandidate(t.Context(), held[0]))
	touched := m.candidates(t)[place{repository, d}]
	require.True(t, held[0].Touched.Equal(touched), "settling does not touch")
	require.NoError(t, m.last.SettleCandidate(t.Context(), held[0]), "settling again changes nothing")
	require.Equal(t, store.Reviewed{Candidates: 1, Contents: 1, Bytes: 5}, m.reviewHolding(t), "a candidate that was settled is not held back any more")
	require.NoError(t, m.first.SettleCandidate(t.Context(), held[0]), "settling a candidate that is gone is no error")
	require.Empty(t, m.candidates(t), "settling a candidate that is gone does not bring it back")
}

func reviewDeleted(t *testing.T, m *index) {
	layer := m.putText(t, repository, "layer")
	put := imageOf(repository, "image", layer)
	d := m.putManifest(t, put)
	deleted := func() map[digest.Digest]bool {
		listed, err := m.last.Candidates(t.Context(), 0, all)
		require.NoError(t, err)
		found := map[digest.Digest]bool{}
		for _, c := range listed {
			found[c.Digest] = !c.Deleted.IsZero()
		}
		return found
	}
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, nil))
	require.Equal(t, map[digest.Digest]bool{d: true, layer: false}, deleted(), "only the candidate of the manifest itself says that its manifest was deleted")
	m.putManifest(t, put)
	require.Empty(t, deleted(), "a manifest that is put again is no candidate")
	m.putManifest(t, indexOf(repository, "index", d))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, digest.FromString("index"), nil))
	require.Equal(t, map[digest.Digest]bool{d: false, digest.FromString("index"): true}, deleted(), "a manifest that was put again is not a deleted one")
}

func reviewDeletion(t *testing.T, m *index) {
	put := imageOf(repository, "image")
	d := m.putManifest(t, put)
	m.putText(t, "team/source", "image")
	m.putText(t, repository, "keeps the repository")
	candidate := func() store.Candidate {
		listed, err := m.last.Candidates(t.Context(), 0, all)
		require.NoError(t, err)
		for _, c := range listed {
			if (place{c.Repository, c.Digest}) == (place{repository, d}) {
				return c
			}
		}
		require.Fail(t, "a manifest that was deleted must be a candidate")
		return store.Candidate{}
	}
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, nil))
	deleted := m.clock.Now()
	require.True(t, deleted.Equal(candidate().Deleted), "a candidate tells when its manifest was deleted")
	for what, touch := range map[string]func() error{
		"pushed":  func() error { return m.first.PutContent(t.Context(), repository, text("image")) },
		"mounted": func() error { _, err := m.first.Mount(t.Context(), d, "team/source", repository); return err },
		"renewed": func() error {
			_, err := m.first.RenewContent(t.Context(), repository, d, -time.Hour)
			return err
		},
		"deleted": func() error { return m.first.DeleteContent(t.Context(), repository, d) },
	} {
		m.putText(t, repository, "image")
		m.clock.Advance(time.Minute)
		require.NoError(t, touch())
		require.True(t, m.clock.Now().Equal(candidate().Touched), "content that is %s is touched", what)
		require.True(t, deleted.Equal(candidate().Deleted), "content that is %s was a manifest that was deleted when it was", what)
	}
	m.putManifest(t, put)
	m.clock.Advance(time.Minute)
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, nil))
	require.True(t, m.clock.Now().Equal(candidate().Deleted), "a manifest that was put again was deleted when it was deleted last")
	require.NoError(t, m.first.SettleCandidate(t.Context(), candidate()))
	require.True(t, candidate().Deleted.IsZero(), "a candidate that is settled does not tell of a deletion")
}

func reviewDue(t *testing.T, m *index) {
	due := func() bool {
		work, err := m.last.Due(t.Context(), store.Deadlines{Grace: grace, Delay: 1000 * grace, Unfinished: 1000 * grace})
		require.NoError(t, err)
		require.Equal(t, store.Work{Candidates: work.Candidates}, work, "nothing else is due")
		return work.Candidates
	}
	require.False(t, due(), "nothing is due in an empty index")
	m.putText(t, repository, "x")
	m.putManifest(t, imageOf(repository, "image"))
	m.clock.Advance(grace - time.Second)
	require.False(t, due(), "a candidate is not due before its grace has passed")
	m.clock.Advance(time.Second)
	require.True(t, due(), "a candidate is due once its grace has passed")
	m.review(t)
	require.False(t, due(), "what was reviewed is not due")
}
