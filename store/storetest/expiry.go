package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// expiryTests prove that a policy deletes nothing but what it decided on, as it still is.
func expiryTests() []metadataTest {
	return []metadataTest{
		{"OfAManifestIsItsDeletion", expireManifest},
		{"OfAManifestWaitsForQuiet", expireQuietManifest},
		{"OfAManifestWithATagFails", expireTaggedManifest},
		{"OfAManifestThatAnotherOneListsIsRefused", expireReferencedManifest},
		{"OfAnOrphanWaitsForItsSubjectToGo", expireOrphan},
		{"OfAManifestThatWasPushedLaterFails", expireLateManifest},
		{"OfAnUnknownManifestFails", expireUnknownManifest},
		{"OfATagLeavesItsManifest", expireTag},
		{"OfATagWaitsForQuiet", expireQuietTag},
		{"OfATagThatHasMovedFails", expireMovedTag},
		{"OfAnUnknownTagFails", expireUnknownTag},
		{"AndAPushExclude", racingExpiry},
		{"AndAMovingTagExclude", racingTagExpiry},
	}
}

const quiet = 24 * time.Hour

func expireManifest(t *testing.T, m *index) {
	layer := m.putText(t, repository, "layer")
	put := imageOf(repository, "image", layer)
	d := m.putManifest(t, put)
	m.putManifest(t, imageOf("team/other", "image"))
	m.clock.Advance(quiet)
	require.NoError(t, m.first.ExpireManifest(t.Context(), store.ManifestExpiry{Repository: repository, Digest: d, Quiet: quiet}))
	m.requireNoManifest(t, repository, byDigest(d), "a manifest that expired is deleted")
	m.requireNoContent(t, repository, d, "the link of a manifest goes with it")
	m.requireCandidate(t, repository, layer, "what a manifest that expired referred to is to be reviewed")
	m.requireCandidate(t, repository, d, "a manifest that expired is to be reviewed")
	m.requireManifest(t, "team/other", byDigest(d), put.Manifest, "a manifest expires in its repository only")
	m.clock.Advance(grace)
	require.Len(t, m.reviewHolding(t).Held, 1, "a manifest that expired was deleted, and may be held back")
	require.ErrorIs(t, m.last.ExpireManifest(t.Context(), store.ManifestExpiry{Repository: repository, Digest: d}), store.ErrManifestUnknown, "expiring again finds ErrManifestUnknown")
}

func expireQuietManifest(t *testing.T, m *index) {
	put := imageOf(repository, "image")
	d := m.putManifest(t, put)
	expire := func(message string) {
		t.Helper()
		require.ErrorIs(t, m.first.ExpireManifest(t.Context(), store.ManifestExpiry{Repository: repository, Digest: d, Quiet: quiet}), store.ErrConditionFailed, message)
		m.requireManifest(t, repository, byDigest(d), put.Manifest, message)
	}
	m.clock.Advance(quiet - time.Second)
	expire("a manifest that was pushed within Quiet does not expire")
	m.putManifest(t, put)
	m.clock.Advance(quiet - time.Second)
	expire("a manifest that was pushed again within Quiet does not expire")
	require.NoError(t, m.first.RecordPulls(t.Context(), []store.Pull{{Repository: repository, Digest: d}}))
	m.clock.Advance(quiet - time.Second)
	expire("a manifest that was pulled within Quiet does not expire")
	require.Empty(t, m.candidates(t), "an expiry that failed changes nothing")
	m.clock.Advance(time.Second)
	require.NoError(t, m.first.ExpireManifest(t.Context(), store.ManifestExpiry{Repository: repository, Digest: d, Quiet: quiet}), "a manifest that nobody has pushed or pulled for so long expires")
}

func expireTaggedManifest(t *testing.T, m *index) {
	put := imageOf(repository, "image")
	d := m.putManifest(t, put, "latest")
	m.clock.Advance(quiet)
	expiry := store.ManifestExpiry{Repository: repository, Digest: d, Quiet: quiet}
	require.ErrorIs(t, m.first.ExpireManifest(t.Context(), expiry), store.ErrConditionFailed, "a manifest that has a tag does not expire")
	m.requireManifest(t, repository, byTag("latest"), put.Manifest, "an expiry that failed changes nothing")
	require.NoError(t, m.first.DeleteTag(t.Context(), repository, "latest"))
	require.NoError(t, m.first.ExpireManifest(t.Context(), expiry), "a manifest without tags expires")
}

func expireReferencedManifest(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "image"))
	list := m.putManifest(t, indexOf(repository, "index", d))
	m.clock.Advance(quiet)
	requireReferenced(t, m.first.ExpireManifest(t.Context(), store.ManifestExpiry{Repository: repository, Digest: d, Quiet: quiet}), list, "a manifest that an index lists does not expire")
	m.requireManifest(t, repository, byDigest(d), imageOf(repository, "image").Manifest, "an expiry that was refused changes nothing")
}

func expireOrphan(t *testing.T, m *index) {
	subject := m.putManifest(t, imageOf(repository, "subject"))
	put := referrerOf(repository, "referrer", subject, "")
	d := m.putManifest(t, put)
	free := m.putManifest(t, referrerOf(repository, "free referrer", subject, ""))
	m.putManifest(t, imageOf("team/other", "subject"))
	require.NoError(t, m.first.ExpireManifest(t.Context(), store.ManifestExpiry{Repository: repository, Digest: free}), "without Orphan a subject does not keep its referrer")
	expiry := store.ManifestExpiry{Repository: repository, Digest: d, Orphan: true}
	require.ErrorIs(t, m.first.ExpireManifest(t.Context(), expiry), store.ErrConditionFailed, "a referrer whose subject is here is no orphan")
	m.requireManifest(t, repository, byDigest(d), put.Manifest, "an expiry that failed changes nothing")
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, subject, nil))
	require.NoError(t, m.first.ExpireManifest(t.Context(), expiry), "a referrer whose subject is gone, or another repository's, is an orphan")
	m.requireNoManifest(t, repository, byDigest(d), "a referrer that expired is deleted")
	none := m.putManifest(t, imageOf(repository, "no subject"))
	require.NoError(t, m.first.ExpireManifest(t.Context(), store.ManifestExpiry{Repository: repository, Digest: none, Orphan: true}), "what has no subject has none that is here")
}

func expireLateManifest(t *testing.T, m *index) {
	subject := m.putManifest(t, imageOf(repository, "subject"))
	put := referrerOf(repository, "referrer", subject, "")
	d := m.putManifest(t, put)
	early := m.putManifest(t, referrerOf(repository, "early referrer", subject, ""))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, subject, nil))
	m.clock.Advance(time.Millisecond)
	m.putManifest(t, put)
	deleted := m.candidates(t)[place{repository, subject}]
	expiry := store.ManifestExpiry{Repository: repository, Digest: d, Orphan: true, PushedBy: deleted}
	require.ErrorIs(t, m.first.ExpireManifest(t.Context(), expiry), store.ErrConditionFailed, "a referrer that was pushed after PushedBy does not expire, also when it was pushed before, too")
	m.requireManifest(t, repository, byDigest(d), put.Manifest, "an expiry that failed changes nothing")
	expiry.Digest = early
	require.NoError(t, m.first.ExpireManifest(t.Context(), expiry), "a referrer that was last pushed at PushedBy expires")
	expiry.Digest, expiry.PushedBy = d, m.clock.Now()
	require.NoError(t, m.first.ExpireManifest(t.Context(), expiry), "a referrer that was pushed by then expires")
}

func expireUnknownManifest(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf("team/other", "image"))
	blob := m.putText(t, repository, "blob")
	for name, expiry := range map[string]store.ManifestExpiry{
		"of another repository":    {Repository: repository, Digest: d},
		"of an unknown repository": {Repository: "team/none", Digest: d},
		"that is a blob":           {Repository: repository, Digest: blob},
	} {
		require.ErrorIs(t, m.first.ExpireManifest(t.Context(), expiry), store.ErrManifestUnknown, "a manifest that is not there does not expire: %s", name)
	}
	m.requireContent(t, repository, text("blob"), "an expiry that failed changes nothing")
}

func expireTag(t *testing.T, m *index) {
	put := imageOf(repository, "image")
	d := m.putManifest(t, put, "old", "new")
	m.clock.Advance(quiet)
	require.NoError(t, m.first.ExpireTag(t.Context(), store.TagExpiry{Repository: repository, Tag: "old", Digest: d, Quiet: quiet}))
	require.Equal(t, []string{"new"}, m.tags(t, repository), "a tag that expired is deleted, and no other")
	m.requireManifest(t, repository, byDigest(d), put.Manifest, "a tag that expired leaves its manifest")
	m.requireNoManifest(t, repository, byTag("old"), "a tag that expired is unknown")
	require.ErrorIs(t, m.last.ExpireTag(t.Context(), store.TagExpiry{Repository: repository, Tag: "old", Digest: d}), store.ErrManifestUnknown, "expiring again finds ErrManifestUnknown")
}

func expireQuietTag(t *testing.T, m *index) {
	put := imageOf(repository, "image")
	d := m.putManifest(t, put, "latest")
	expiry := store.TagExpiry{Repository: repository, Tag: "latest", Digest: d, Quiet: quiet}
	expire := func(message string) {
		t.Helper()
		require.ErrorIs(t, m.first.ExpireTag(t.Context(), expiry), store.ErrConditionFailed, message)
		m.requireManifest(t, repository, byTag("latest"), put.Manifest, message)
	}
	m.clock.Advance(quiet - time.Second)
	expire("a tag that was pushed within Quiet does not expire")
	m.putManifest(t, put, "latest")
	m.clock.Advance(quiet - time.Second)
	expire("a tag that was pushed again within Quiet does not expire")
	require.NoError(t, m.first.RecordPulls(t.Context(), []store.Pull{{Repository: repository, Digest: d, Tag: "latest"}}))
	m.clock.Advance(quiet - time.Second)
	expire("a tag that was pulled within Quiet does not expire")
	m.putManifest(t, put) // by digest
	require.NoError(t, m.first.RecordPulls(t.Context(), []store.Pull{{Repository: repository, Digest: d}}))
	m.clock.Advance(time.Second)
	require.NoError(t, m.first.ExpireTag(t.Context(), expiry), "a tag expires although its manifest was pushed and pulled by digest")
}

func expireMovedTag(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "image"), "latest")
	other := imageOf(repository, "other")
	m.putManifest(t, other, "latest")
	m.clock.Advance(quiet)
	require.ErrorIs(t, m.first.ExpireTag(t.Context(), store.TagExpiry{Repository: repository, Tag: "latest", Digest: d, Quiet: quiet}), store.ErrConditionFailed,
		"a tag that points to another manifest by now does not expire")
	m.requireManifest(t, repository, byTag("latest"), other.Manifest, "an expiry that failed changes nothing")
}

func expireUnknownTag(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "image"), "latest")
	for name, expiry := range map[string]store.TagExpiry{
		"never there":              {Repository: repository, Tag: "none", Digest: d},
		"of an unknown repository": {Repository: "team/none", Tag: "latest", Digest: d},
	} {
		require.ErrorIs(t, m.first.ExpireTag(t.Context(), expiry), store.ErrManifestUnknown, "a tag that is not there does not expire: %s", name)
	}
	require.Equal(t, []string{"latest"}, m.tags(t, repository), "an expiry that failed changes nothing")
}

func racingExpiry(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		put := imageOf(repository, fmt.Sprint("image ", round))
		d := m.putManifest(t, put)
		m.clock.Advance(quiet)
		put.Tags = []string{"latest"}
		errs := r.run(
			func() error { return m.handle(round).PutManifest(t.Context(), put) },
			func() error {
				return m.handle(round+1).ExpireManifest(t.Context(), store.ManifestExpiry{Repository: repository, Digest: d, Quiet: quiet})
			},
		)
		require.NoError(t, errs[0], "a manifest can be pushed while it expires")
		if errs[1] != nil {
			require.ErrorIs(t, errs[1], store.ErrConditionFailed, "an expiry beside a push succeeds before it, or fails with ErrConditionFailed")
		}
		m.requireManifest(t, repository, byTag("latest"), put.Manifest, "a manifest that was pushed is there, whatever a policy did at the same time")
		m.requireManifest(t, repository, byDigest(d), put.Manifest, "a manifest that was pushed is there, whatever a policy did at the same time")
	}
}

func racingTagExpiry(t *testing.T, m *index) {
	var r race
	old := imageOf(repository, "old")
	for round := range rounds {
		tag := fmt.Sprint("tag-", round)
		d := m.putManifest(t, old, tag)
		m.clock.Advance(quiet)
		put := imageOf(repository, fmt.Sprint("new ", round))
		put.Tags = []string{tag}
		errs := r.run(
			func() error { return m.handle(round).PutManifest(t.Context(), put) },
			func() error {
				return m.handle(round+1).ExpireTag(t.Context(), store.TagExpiry{Repository: repository, Tag: tag, Digest: d, Quiet: quiet})
			},
		)
		require.NoError(t, errs[0], "a tag can be moved while it expires")
		require.True(t, errs[1] == nil || errors.Is(errs[1], store.ErrConditionFailed), "an expiry beside a push succeeds before it, or fails with ErrConditionFailed: %v", errs[1])
		m.requireManifest(t, repository, byTag(tag), put.Manifest, "a tag that was pushed is there, whatever a policy did at the same time")
	}
}
