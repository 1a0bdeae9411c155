package storetest

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// deleteTests prove what goes with what is deleted, and what must stay.
func deleteTests() []metadataTest {
	return []metadataTest{
		{"TagLeavesItsManifest", deleteTag},
		{"ManifestTakesItsTagsAndLink", deleteManifest},
		{"ManifestLeavesItsChildrenAsCandidates", deleteManifestChildren},
		{"ManifestThatAnotherOneListsIsRefused", deleteReferencedManifest},
		{"ManifestWithALockedTagIsRefused", deleteLockedManifest},
		{"ManifestOfAnotherRepositoryIsUnknown", deleteUnknownManifest},
		{"ManifestsThatShareALayerLeaveItToReview", deleteSharing},
		{"ManifestCanBePutAgain", deleteAndPutAgain},
		{"ContentIsUnlinkedHereOnly", deleteContent},
		{"ContentThatAManifestNeedsIsRefused", deleteReferencedContent},
		{"ContentThatIsAManifestIsRefused", deleteManifestAsContent},
	}
}

// requireReferenced requires that a deletion was refused because of the manifest.
func requireReferenced(t *testing.T, err error, by digest.Digest, message string) {
	t.Helper()
	var referenced *store.ReferencedError
	require.ErrorAs(t, err, &referenced, message)
	require.Equal(t, by, referenced.By, "a *ReferencedError names a manifest that needs it: %s", message)
}

func deleteTag(t *testing.T, m *index) {
	put := imageOf(repository, "x")
	d := m.putManifest(t, put, "latest", "stable")
	require.NoError(t, m.first.DeleteTag(t.Context(), repository, "latest"))
	m.requireNoManifest(t, repository, byTag("latest"), "a tag that was deleted is unknown")
	m.requireManifest(t, repository, byTag("stable"), put.Manifest, "deleting a tag leaves others")
	m.requireManifest(t, repository, byDigest(d), put.Manifest, "deleting a tag leaves the manifest")
	require.NoError(t, m.first.DeleteTag(t.Context(), repository, "stable"))
	m.requireManifest(t, repository, byDigest(d), put.Manifest, "deleting the last tag leaves the manifest")
	require.Empty(t, m.tags(t, repository), "a repository whose tags were deleted has none")
	for name, err := range map[string]error{
		"deleted before":           m.first.DeleteTag(t.Context(), repository, "latest"),
		"never there":              m.first.DeleteTag(t.Context(), repository, "none"),
		"of an unknown repository": m.first.DeleteTag(t.Context(), "team/none", "latest"),
	} {
		require.ErrorIs(t, err, store.ErrManifestUnknown, "deleting a tag that is not there fails with ErrManifestUnknown: %s", name)
	}
}

func deleteManifest(t *testing.T, m *index) {
	put, other := imageOf(repository, "x"), imageOf(repository, "y")
	d := m.putManifest(t, put, "a", "b", "moved")
	m.putManifest(t, other, "moved", "z")
	m.putManifest(t, imageOf("team/other", "x"), "a")
	m.clock.Advance(time.Minute)
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, nil))
	m.requireNoManifest(t, repository, byDigest(d), "a manifest that was deleted is unknown")
	m.requireNoManifest(t, repository, byTag("a"), "the tags of a manifest go with it")
	m.requireNoContent(t, repository, d, "the link of a manifest goes with it")
	require.Equal(t, []string{"moved", "z"}, m.tags(t, repository), "the tags of a manifest go with it, and no others")
	m.requireManifest(t, repository, byTag("moved"), other.Manifest, "a tag that was moved away stays")
	m.requireManifest(t, "team/other", byTag("a"), put.Manifest, "deleting a manifest leaves the same one of another repository")
	m.requireCandidate(t, repository, d, "a manifest that was deleted is to be reviewed")
	require.ErrorIs(t, m.last.DeleteManifest(t.Context(), repository, d, nil), store.ErrManifestUnknown, "deleting again finds ErrManifestUnknown")
}

func deleteManifestChildren(t *testing.T, m *index) {
	config, layer := m.putText(t, repository, "config"), object("layer")
	m.push(t, repository, layer)
	garbage := m.garbage(t)
	image := m.putManifest(t, imageOf(repository, "image", config, layer.Digest))
	list := m.putManifest(t, indexOf(repository, "index", image))
	m.clock.Advance(time.Minute)
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, list, nil))
	m.requireCandidate(t, repository, image, "what a deleted index referred to is to be reviewed")
	m.requireNoCandidate(t, repository, layer.Digest, "an image needs it still")
	m.clock.Advance(time.Minute)
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, image, nil))
	m.requireCandidate(t, repository, config, "what a deleted manifest referred to is to be reviewed")
	m.requireCandidate(t, repository, layer.Digest, "what a deleted manifest referred to is to be reviewed")
	m.requireContent(t, repository, layer, "what a deleted manifest referred to stays until it is collected")
	m.requireContent(t, repository, text("config"), "what a deleted manifest referred to stays until it is collected")
	m.requireGarbage(t, "deleting a manifest condemns no object", garbage...)
}

func deleteReferencedManifest(t *testing.T, m *index) {
	put := imageOf(repository, "image")
	image := m.putManifest(t, put, "latest")
	list := m.putManifest(t, indexOf(repository, "index", image))
	requireReferenced(t, m.first.DeleteManifest(t.Context(), repository, image, nil), list, "a manifest that an index lists cannot be deleted")
	m.requireManifest(t, repository, byTag("latest"), put.Manifest, "a deletion that was refused changes nothing")
	m.requireNoCandidate(t, repository, image, "a deletion that was refused changes nothing")

	asBlob := imageOf(repository, "a manifest that refers to it as a blob", image)
	parent := m.putManifest(t, asBlob)
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, list, nil))
	requireReferenced(t, m.first.DeleteManifest(t.Context(), repository, image, nil), parent, "each reference counts, whatever it takes its target for")
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, parent, nil))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, image, nil), "a manifest whose parents are gone can be deleted")
}

func deleteLockedManifest(t *testing.T, m *index) {
	put := imageOf(repository, "x", m.putText(t, repository, "layer"))
	d := m.putManifest(t, put, "latest", "v1")
	var locked *store.TagLockedError
	err := m.first.DeleteManifest(t.Context(), repository, d, func(tag string) bool { return tag == "v1" })
	require.ErrorAs(t, err, &locked, "a manifest that has a locked tag cannot be deleted")
	require.Equal(t, "v1", locked.Tag, "a *TagLockedError names the tag")
	m.requireManifest(t, repository, byTag("v1"), put.Manifest, "a deletion that was refused changes nothing")
	m.requireManifest(t, repository, byTag("latest"), put.Manifest, "a deletion that was refused takes no tag")
	m.requireNoCandidate(t, repository, digest.FromString("layer"), "a deletion that was refused changes nothing")
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, func(tag string) bool { return tag == "v2" }), "a manifest whose tags are not locked can be deleted")
}

func deleteUnknownManifest(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf("team/other", "x"))
	blob := m.putText(t, repository, "blob")
	for name, err := range map[string]error{
		"another repository has it": m.first.DeleteManifest(t.Context(), repository, d, nil),
		"unknown repository":        m.first.DeleteManifest(t.Context(), "team/none", d, nil),
		"it is a blob":              m.first.DeleteManifest(t.Context(), repository, blob, nil),
		"never put":                 m.first.DeleteManifest(t.Context(), repository, digest.FromString("y"), nil),
	} {
		require.ErrorIs(t, err, store.ErrManifestUnknown, "deleting a manifest that is not there fails with ErrManifestUnknown: %s", name)
	}
	m.requireContent(t, repository, text("blob"), "a deletion that failed changes nothing")
	m.requireContent(t, "team/other", text("x"), "a deletion that failed changes nothing")
}

func deleteSharing(t *testing.T, m *index) {
	shared, own := m.putText(t, repository, "shared"), m.putText(t, repository, "own")
	one := m.putManifest(t, imageOf(repository, "one", shared, own))
	two := m.putManifest(t, imageOf(repository, "two", shared))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, one, nil))
	requireReferenced(t, m.first.DeleteContent(t.Context(), repository, shared), two, "a layer that another manifest needs stays")
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, own), "a layer that no manifest needs any more can be deleted")
	m.clock.Advance(time.Minute)
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, two, nil))
	m.requireCandidate(t, repository, shared, "a layer of deleted manifests is to be reviewed, touched by the last deletion")
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, shared), "a layer that no manifest needs any more can be deleted")
}

func deleteAndPutAgain(t *testing.T, m *index) {
	layer := m.putText(t, repository, "layer")
	put := imageOf(repository, "x", layer)
	d := m.putManifest(t, put, "latest")
	for range 2 {
		require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, nil))
		m.putManifest(t, put)
		m.requireManifest(t, repository, byDigest(d), put.Manifest, "a manifest that was deleted can be put again")
		m.requireNoManifest(t, repository, byTag("latest"), "a tag does not come back with its manifest")
		m.requireNoCandidate(t, repository, layer, "a manifest that is put again takes its layers off the candidates again")
		requireReferenced(t, m.first.DeleteContent(t.Context(), repository, layer), d, "a manifest that is put again has its edges again")
	}
}

func deleteContent(t *testing.T, m *index) {
	content := object("x")
	m.push(t, repository, content)
	garbage := m.garbage(t)
	_, err := m.first.Mount(t.Context(), content.Digest, repository, "team/other")
	require.NoError(t, err)
	m.clock.Advance(time.Minute)
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, content.Digest))
	m.requireNoContent(t, repository, content.Digest, "content that was deleted is not visible any more")
	m.requireContent(t, "team/other", content, "deleting content leaves another repository's link")
	m.requireCandidate(t, repository, content.Digest, "content whose link was deleted is to be reviewed")
	require.ErrorIs(t, m.first.DeleteContent(t.Context(), repository, content.Digest), store.ErrContentUnknown, "deleting again finds ErrContentUnknown")
	require.ErrorIs(t, m.first.DeleteContent(t.Context(), "team/none", content.Digest), store.ErrContentUnknown, "deleting what a repository does not link to fails with ErrContentUnknown")
	m.clock.Advance(time.Minute)
	require.NoError(t, m.first.DeleteContent(t.Context(), "team/other", content.Digest))
	m.requireCandidate(t, "team/other", content.Digest, "content whose last link was deleted is to be reviewed")
	m.requireGarbage(t, "deleting links condemns no object: that is the collector's", garbage...)

	again := object("x")
	m.push(t, repository, again)
	m.requireContent(t, repository, again, "content that was deleted can be pushed again")
}

func deleteReferencedContent(t *testing.T, m *index) {
	layer := m.putText(t, repository, "layer")
	m.putText(t, "team/other", "layer")
	d := m.putManifest(t, imageOf(repository, "x", layer))
	requireReferenced(t, m.first.DeleteContent(t.Context(), repository, layer), d, "content that a manifest of the repository needs cannot be deleted")
	m.requireContent(t, repository, text("layer"), "a deletion that was refused changes nothing")
	m.requireNoCandidate(t, repository, layer, "a deletion that was refused changes nothing")
	require.NoError(t, m.first.DeleteContent(t.Context(), "team/other", layer), "content that only another repository's manifest needs can be deleted")

	subject := m.putText(t, repository, "subject")
	m.putManifest(t, referrerOf(repository, "referrer", subject, ""))
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, subject), "a subject is not needed by its referrers")
}

func deleteManifestAsContent(t *testing.T, m *index) {
	put := imageOf(repository, "x")
	d := m.putManifest(t, put, "latest")
	requireReferenced(t, m.first.DeleteContent(t.Context(), repository, d), d, "content that is a manifest cannot be deleted as a blob")
	m.requireManifest(t, repository, byTag("latest"), put.Manifest, "a deletion that was refused changes nothing")
}
