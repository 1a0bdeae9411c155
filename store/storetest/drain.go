package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// drainTests prove that a repository which is deleted is gone at once, and what hung on it in steps.
func drainTests() []metadataTest {
	return []metadataTest{
		{"BeginsWithARepositoryThatIsGoneAtOnce", deleteRepository},
		{"OfAnUnknownRepositoryIsRefused", deleteUnknownRepository},
		{"LeavesTheNameFree", deletedNameIsFree},
		{"LeavesContentToReview", drainCandidates},
		{"LeavesWhatOtherRepositoriesHave", drainShared},
		{"LeavesNothingThatOnlyAnEdgeKnew", drainEdges},
		{"IsInStepsUpToALimit", drainSteps},
		{"LeavesUploadsUnderWay", drainUploads},
		{"IsDueWhileSomethingHangsOnADeletedRepository", drainDue},
		{"BySeveralEndsOnce", drainersAtOnce},
	}
}

// drain drains deleted repositories until none is left.
func (m *index) drain(t *testing.T) (rows int) {
	t.Helper()
	for {
		drained, err := m.last.DrainRepositories(t.Context(), 100)
		require.NoError(t, err)
		if drained == 0 {
			return rows
		}
		rows += drained
	}
}

func deleteRepository(t *testing.T, m *index) {
	layer := object("layer")
	m.push(t, repository, layer)
	image := m.putManifest(t, imageOf(repository, "image", layer.Digest), "latest")
	m.putManifest(t, indexOf(repository, "index", image), "index")
	referrer := referrerOf(repository, "referrer", image, "")
	m.putManifest(t, referrer)
	m.putText(t, "team/other", "x")
	require.NoError(t, m.first.DeleteRepository(t.Context(), repository))
	for _, drain := range []bool{false, true} {
		if drain {
			m.drain(t)
		}
		const message = "nothing of a repository that was deleted is to be found any more"
		require.Equal(t, []string{"team/other"}, m.repositories(t), message)
		m.requireNoContent(t, repository, layer.Digest, message)
		m.requireNoContent(t, repository, image, message)
		m.requireNoManifest(t, repository, byDigest(image), message)
		m.requireNoManifest(t, repository, byTag("latest"), message)
		_, err := m.last.Tags(t.Context(), repository, "", all)
		require.ErrorIs(t, err, store.ErrRepositoryUnknown, message)
		require.Empty(t, m.referrers(t, repository, image, everything()), message)
		for _, d := range []digest.Digest{layer.Digest, image} {
			names, err := m.last.Holders(t.Context(), d, "", all)
			require.NoError(t, err)
			require.Empty(t, names, message)
			dependents, err := m.last.Dependents(t.Context(), d, store.ManifestAt{}, all)
			require.NoError(t, err)
			require.Empty(t, dependents, message)
		}
		_, err = m.first.Mount(t.Context(), layer.Digest, repository, "team/target")
		require.ErrorIs(t, err, store.ErrContentUnknown, message)
		require.ErrorIs(t, m.first.DeleteTag(t.Context(), repository, "latest"), store.ErrManifestUnknown, message)
		require.ErrorIs(t, m.first.DeleteManifest(t.Context(), repository, image, nil), store.ErrManifestUnknown, message)
		require.ErrorIs(t, m.first.DeleteContent(t.Context(), repository, layer.Digest), store.ErrContentUnknown, message)
		require.ErrorIs(t, m.first.DeleteRepository(t.Context(), repository), store.ErrRepositoryUnknown, message)
		manifests, err := m.last.ManifestRecords(t.Context(), repository, "", all)
		require.NoError(t, err)
		require.Empty(t, manifests, message)
		tags, err := m.last.TagRecords(t.Context(), repository, "", all)
		require.NoError(t, err)
		require.Empty(t, tags, message)
	}
}

func deleteUnknownRepository(t *testing.T, m *index) {
	m.putText(t, repository, "x")
	for _, name := range []string{"team", "team/none", "TEAM/APP", "team%", ""} {
		require.ErrorIs(t, m.first.DeleteRepository(t.Context(), name), store.ErrRepositoryUnknown, "a repository that is not there cannot be deleted: %q", name)
	}
	m.requireContent(t, repository, text("x"), "a deletion that failed changes nothing")
	drained, err := m.first.DrainRepositories(t.Context(), all)
	require.NoError(t, err)
	require.Zero(t, drained, "nothing hangs on repositories that were not deleted")
	m.requireContent(t, repository, text("x"), "draining leaves repositories that have a name")
}

func deletedNameIsFree(t *testing.T, m *index) {
	layer := object("layer")
	m.push(t, repository, layer)
	put := imageOf(repository, "image", layer.Digest)
	m.putManifest(t, put, "latest")
	for round := range 3 {
		require.NoError(t, m.first.DeleteRepository(t.Context(), repository))
		var missing *store.MissingError
		require.ErrorAs(t, m.first.PutManifest(t.Context(), put), &missing, "a repository that was deleted does not come back with its name")
		m.push(t, repository, layer)
		m.requireNoManifest(t, repository, byDigest(put.Manifest.Digest), "a repository that was deleted does not come back with its name")
		require.Empty(t, m.tags(t, repository), "a repository that was deleted does not come back with its name")
		m.putManifest(t, put, fmt.Sprint("round-", round))
	}
	require.Positive(t, m.drain(t), "what hung on it is drained")
	m.clock.Advance(grace)
	m.review(t)
	m.requireContent(t, repository, layer, "draining leaves a repository that has the name now")
	m.requireManifest(t, repository, byTag("round-2"), put.Manifest, "draining leaves a repository that has the name now")
	require.Equal(t, []string{"round-2"}, m.tags(t, repository))
	require.NotContains(t, m.garbage(t), layer.Key, "content of a repository that has the name now stays")
}

func drainCandidates(t *testing.T, m *index) {
	layer := object("layer")
	m.push(t, repository, layer)
	d := m.putManifest(t, imageOf(repository, "image", layer.Digest))
	loose := object("loose") // a candidate of the repository when it is deleted
	m.push(t, repository, loose)
	require.NoError(t, m.first.DeleteRepository(t.Context(), repository))
	m.clock.Advance(grace)
	require.Zero(t, m.review(t).Contents, "content stays until the deleted repository's link to it is drained")
	m.drain(t)
	for _, d := range []digest.Digest{layer.Digest, d, loose.Digest} {
		m.requireCandidate(t, "", d, "content whose link was drained is to be reviewed, as of no repository")
	}
	require.Equal(t, store.Reviewed{}, m.review(t), "content whose link was drained has a grace from then on")
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 3, Contents: 3, Bytes: 15}, m.review(t), "content of a repository that was deleted is collected")
	require.Contains(t, m.garbage(t), layer.Key)
	require.Contains(t, m.garbage(t), loose.Key)
	m.requireCondemned(t, layer.Key, false, "content that was drained was finished")
	require.Empty(t, m.candidates(t))
}

func drainShared(t *testing.T, m *index) {
	layer := object("layer")
	m.push(t, repository, layer)
	put := imageOf("team/other", "image", layer.Digest)
	m.putManifest(t, imageOf(repository, "image", layer.Digest))
	_, err := m.first.Mount(t.Context(), layer.Digest, repository, "team/other")
	require.NoError(t, err)
	m.putManifest(t, put, "latest")
	require.NoError(t, m.first.DeleteRepository(t.Context(), repository))
	m.requireContent(t, "team/other", layer, "deleting a repository leaves what others have")
	m.drain(t)
	m.clock.Advance(grace)
	require.Zero(t, m.review(t).Contents, "content that another repository links to stays")
	m.requireContent(t, "team/other", layer, "content that another repository links to stays")
	m.requireManifest(t, "team/other", byTag("latest"), put.Manifest, "the same manifest of another repository stays")
	require.NotContains(t, m.garbage(t), layer.Key)
}

func drainEdges(t *testing.T, m *index) {
	// The manifest takes content without a link off the candidates, so that only its edge leads there.
	layer := object("layer")
	m.push(t, repository, layer)
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, layer.Digest))
	put := imageOf(repository, "image", layer.Digest)
	put.AllowMissing = true
	m.putManifest(t, put)
	m.clock.Advance(grace)
	m.review(t)
	require.NoError(t, m.first.DeleteRepository(t.Context(), repository))
	m.drain(t)
	m.clock.Advance(grace)
	m.review(t)
	require.Contains(t, m.garbage(t), layer.Key, "content that only an edge of the deleted repository led to is collected")
	require.Empty(t, m.candidates(t))
}

func drainSteps(t *testing.T, m *index) {
	const images = 6
	for i := range images {
		layer := m.putText(t, repository, fmt.Sprint("layer ", i))
		m.putManifest(t, imageOf(repository, fmt.Sprint("image ", i), layer), fmt.Sprint("v", i))
	}
	require.NoError(t, m.first.DeleteRepository(t.Context(), repository))
	drained, err := m.first.DrainRepositories(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, drained, "a limit of none drains none")
	steps := 0
	for {
		drained, err := m.handle(steps).DrainRepositories(t.Context(), 3)
		require.NoError(t, err)
		require.LessOrEqual(t, drained, 3, "a step deletes up to limit rows")
		if drained == 0 {
			break
		}
		steps++
	}
	require.GreaterOrEqual(t, steps, 2*images/3, "a large repository is drained in several steps")
	require.Len(t, m.candidates(t), 2*images, "each link that was drained leaves a candidate")
	work, err := m.last.Due(t.Context(), store.Deadlines{Grace: 1000 * grace})
	require.NoError(t, err)
	require.False(t, work.Repositories, "a step that deletes nothing was the last one")
}

func drainUploads(t *testing.T, m *index) {
	m.putText(t, repository, "x")
	id := m.create(t)
	s := m.claim(t, id)
	require.NoError(t, m.first.DeleteRepository(t.Context(), repository))
	m.drain(t)
	require.Equal(t, s.Version, m.session(t, id).Version, "uploads under way are not touched")
	content := object("y")
	content.Key = s.Reserved.Blob
	require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content}), "an upload under way can be finished")
	m.requireContent(t, repository, content, "an upload that finishes makes a new repository of the name")
	m.requireNoContent(t, repository, text("x").Digest, "a new repository has nothing of the former one")
}

func drainDue(t *testing.T, m *index) {
	due := func() bool {
		work, err := m.last.Due(t.Context(), store.Deadlines{Grace: 1000 * grace, Delay: 1000 * grace, Unfinished: 1000 * grace})
		require.NoError(t, err)
		require.Equal(t, store.Work{Repositories: work.Repositories}, work, "nothing else is due")
		return work.Repositories
	}
	m.putText(t, repository, "x")
	require.False(t, due(), "no repository was deleted")
	require.NoError(t, m.first.DeleteRepository(t.Context(), repository))
	require.True(t, due(), "a repository that was deleted is to be drained")
	m.putText(t, repository, "x")
	require.True(t, due(), "a repository that was deleted is to be drained, whoever has its name")
	m.drain(t)
	require.False(t, due(), "nothing hangs on the deleted repository any more")
}

func drainersAtOnce(t *testing.T, m *index) {
	const repositories, layers = 4, 5
	for i := range repositories {
		for j := range layers {
			layer := m.putText(t, fmt.Sprint("team/", i), fmt.Sprint("layer ", j))
			m.putManifest(t, imageOf(fmt.Sprint("team/", i), fmt.Sprint("image ", i, j), layer), "latest")
		}
	}
	each(t, 2*repositories, 2*repositories, func(i int) error {
		if i < repositories {
			return m.handle(i).DeleteRepository(t.Context(), fmt.Sprint("team/", i))
		}
		for range 10 {
			if _, err := m.handle(i).DrainRepositories(t.Context(), 4); err != nil {
				return err
			}
		}
		return nil
	})
	m.drain(t)
	require.Empty(t, m.repositories(t))
	m.clock.Advance(grace + time.Second)
	done := m.review(t)
	require.Equal(t, layers+repositories*layers, done.Contents, "whoever drains at the same time, all is collected once")
	require.Empty(t, m.candidates(t))
}
