package storetest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// manifestTests prove what putting a manifest does.
func manifestTests() []metadataTest {
	return []metadataTest{
		{"ComesBackIdentical", manifestIdentical},
		{"IsUnknownElsewhere", manifestUnknown},
		{"IsContentToo", manifestIsContent},
		{"PutAgainIsUnchanged", putManifestAgain},
		{"MissingReferencesAreNamedInOrderOnce", missingReferences},
		{"AnotherRepositorysContentIsMissing", missingElsewhere},
		{"ABlobDoesNotDoForAManifest", blobForManifest},
		{"OptionalReferencesMayBeMissing", optionalReferences},
		{"MissingReferencesMayBeAllowed", allowMissing},
		{"SubjectMayBeMissing", missingSubject},
		{"ChildrenAreNoCandidatesAnyMore", childrenLeaveCandidates},
		{"HasManyReferences", manyReferences},
		{"OutlivesAPushOfItsBytesAsABlob", manifestPushedAsBlob},
	}
}

// fullManifest uses every field.
func fullManifest() store.ManifestPut {
	put := imageOf(repository, "{ \"a\" : 1 }\n\x00 not even JSON, since the store does not look")
	put.Manifest.MediaType = "application/vnd.example.anything+json"
	put.Manifest.ArtifactType = "application/vnd.example.artifact"
	put.Manifest.Subject = digest.FromString("subject")
	put.Manifest.Annotations = map[string]string{"a": "1", "": "empty key", "empty value": "", "ünïcode": "\"quoted\" 'text' \\ \n <&>"}
	return put
}

func manifestIdentical(t *testing.T, m *index) {
	full := fullManifest()
	want := full.Manifest
	want.Bytes, want.Annotations = slices.Clone(want.Bytes), maps.Clone(want.Annotations)
	d := m.putManifest(t, full, "one", "two")
	clear(full.Manifest.Bytes)
	clear(full.Manifest.Annotations)
	for _, ref := range []store.ManifestRef{byDigest(d), byTag("one"), byTag("two")} {
		m.requireManifest(t, repository, ref, want, "a manifest comes back as it was put, by digest and by each tag, and is not the caller's memory")
	}
	for _, odd := range []string{"\x00", "\xff/\x00", "\x01", "é"} {
		put := imageOf(repository, "of type "+odd)
		put.Manifest.MediaType, put.Manifest.ArtifactType = odd, odd+odd
		m.putManifest(t, put)
		m.requireManifest(t, repository, byDigest(put.Manifest.Digest), put.Manifest, "a type comes back as it was put, whatever its bytes are")
	}
	plain := imageOf(repository, "plain")
	m.putManifest(t, plain)
	m.requireManifest(t, repository, byDigest(plain.Manifest.Digest), plain.Manifest, "a manifest without tags, annotations, artifact type and subject comes back as it was put")
	large := imageOf(repository, string(bytesOf(1, 4<<20)))
	m.putManifest(t, large, "large")
	m.requireManifest(t, repository, byTag("large"), large.Manifest, "a manifest of 4 MiB comes back as it was put")
}

func manifestUnknown(t *testing.T, m *index) {
	m.requireNoManifest(t, repository, byTag("latest"), "a repository that is not there has no manifest")
	d := m.putManifest(t, imageOf(repository, "x"), "latest")
	blob := m.putText(t, repository, "blob")
	m.requireNoManifest(t, "team/other", byDigest(d), "a manifest is known in its own repository only")
	m.requireNoManifest(t, "team/other", byTag("latest"), "a tag is known in its own repository only")
	m.requireNoManifest(t, repository, byTag("Latest"), "tags differ by case")
	m.requireNoManifest(t, repository, byTag(d.String()), "a digest is not a tag")
	m.requireNoManifest(t, repository, byDigest(blob), "a blob is not a manifest")
	m.requireNoManifest(t, repository, byDigest(digest.FromString("y")), "a manifest that was never put is unknown")
}

func manifestIsContent(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "x"))
	m.requireContent(t, repository, text("x"), "a manifest is content with a link, inline")
	m.requireNoContent(t, "team/other", d, "a manifest is content of its own repository only")
	names, err := m.last.Holders(t.Context(), d, "", all)
	require.NoError(t, err)
	require.Equal(t, []string{repository}, names, "the repository holds its manifest")
}

func putManifestAgain(t *testing.T, m *index) {
	full := fullManifest()
	full.References = []store.Reference{{Digest: m.putText(t, repository, "layer")}}
	full.Tags = []string{"one", "two"}
	for _, handle := range []store.Metadata{m.first, m.first, m.last} {
		require.NoError(t, handle.PutManifest(t.Context(), full), "putting a manifest again succeeds")
		m.requireManifest(t, repository, byTag("two"), full.Manifest, "putting a manifest again changes nothing")
	}
	require.Equal(t, []string{"one", "two"}, m.tags(t, repository))
	found, err := m.last.Referrers(t.Context(), repository, full.Manifest.Subject, store.ReferrersPage{Limit: all})
	require.NoError(t, err)
	require.Len(t, found, 1, "putting a manifest again makes no other referrer")
	m.requireGarbage(t, "putting a manifest again condemns nothing")
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, full.Manifest.Digest, nil))
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, digest.FromString("layer")), "a manifest that was put again has no second edge that outlives it")
}

func missingReferences(t *testing.T, m *index) {
	here := m.putText(t, repository, "here")
	gone := []digest.Digest{digest.SHA512.FromString("2"), digest.FromString("1"), digest.FromString("3")}
	require.False(t, slices.IsSorted(gone))
	put := imageOf(repository, "x", gone[0], here, gone[1], gone[0], gone[2], gone[1])
	put.Tags = []string{"latest"}
	before := m.candidates(t)
	var missing *store.MissingError
	require.ErrorAs(t, m.first.PutManifest(t.Context(), put), &missing, "a manifest whose references are not all here fails with *MissingError")
	require.Equal(t, gone, missing.Digests, "a *MissingError names all that is missing, in the manifest's order, each once")

	m.requireNoManifest(t, repository, byDigest(put.Manifest.Digest), "a manifest that was refused is not there")
	m.requireNoManifest(t, repository, byTag("latest"), "a manifest that was refused moves no tag")
	m.requireNoContent(t, repository, put.Manifest.Digest, "a manifest that was refused is no content")
	require.Len(t, m.candidates(t), len(before), "a manifest that was refused takes nothing off the candidates, and adds nothing")
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, here), "a manifest that was refused leaves no edge")

	require.ErrorAs(t, m.first.PutManifest(t.Context(), imageOf("team/none", "x", here)), &missing, "in a repository that is not there, everything is missing")
	names, err := m.last.Repositories(t.Context(), "team/app", all)
	require.NoError(t, err)
	require.Empty(t, names, "a manifest that was refused makes no repository")
}

func missingElsewhere(t *testing.T, m *index) {
	d := m.putText(t, "team/other", "layer")
	child := m.putManifest(t, imageOf("team/other", "child"))
	var missing *store.MissingError
	require.ErrorAs(t, m.first.PutManifest(t.Context(), imageOf(repository, "x", d)), &missing, "content that another repository has is missing in this one")
	require.Equal(t, []digest.Digest{d}, missing.Digests)
	require.ErrorAs(t, m.first.PutManifest(t.Context(), indexOf(repository, "y", child)), &missing, "a manifest that another repository has is missing in this one")
	require.Equal(t, []digest.Digest{child}, missing.Digests)
}

func blobForManifest(t *testing.T, m *index) {
	blob := m.putText(t, repository, "child")
	var missing *store.MissingError
	require.ErrorAs(t, m.first.PutManifest(t.Context(), indexOf(repository, "x", blob)), &missing, "content that was pushed as a blob does not do where a manifest is needed")
	require.Equal(t, []digest.Digest{blob}, missing.Digests)
	m.putManifest(t, imageOf(repository, "an index of blobs", blob))
	m.putManifest(t, imageOf(repository, "child"))
	m.putManifest(t, indexOf(repository, "x", blob))
}

func optionalReferences(t *testing.T, m *index) {
	put := imageOf(repository, "x", digest.FromString("foreign"), m.putText(t, repository, "layer"))
	put.References[0].Optional = true
	d := m.putManifest(t, put, "latest")
	m.requireManifest(t, repository, byDigest(d), put.Manifest, "an optional reference may be missing")

	m.putText(t, repository, "foreign")
	requireReferenced(t, m.first.DeleteContent(t.Context(), repository, digest.FromString("foreign")), d, "a reference is an edge, whether its target was here or not")

	both := imageOf(repository, "y", digest.FromString("foreign 2"), digest.FromString("needed"))
	both.References[0].Optional = true
	var missing *store.MissingError
	require.ErrorAs(t, m.first.PutManifest(t.Context(), both), &missing)
	require.Equal(t, []digest.Digest{digest.FromString("needed")}, missing.Digests, "an optional reference is not named as missing")
}

func allowMissing(t *testing.T, m *index) {
	layer, child := digest.FromString("layer"), digest.FromString("child")
	put := indexOf(repository, "x", child)
	put.References = append(put.References, store.Reference{Digest: layer})
	put.AllowMissing = true
	d := m.putManifest(t, put, "latest")
	m.requireManifest(t, repository, byTag("latest"), put.Manifest, "references need not be here when missing ones are allowed")
	m.requireNoContent(t, repository, layer, "an allowed reference is not content")
	m.requireNoManifest(t, repository, byDigest(child), "an allowed reference is not a manifest")

	m.putText(t, repository, "layer")
	requireReferenced(t, m.first.DeleteContent(t.Context(), repository, layer), d, "a reference is an edge, whether its target was here or not")
	m.putManifest(t, imageOf(repository, "child"))
	requireReferenced(t, m.first.DeleteManifest(t.Context(), repository, child, nil), d, "a reference is an edge, whether its target was here or not")
}

func missingSubject(t *testing.T, m *index) {
	put := imageOf(repository, "x")
	put.Manifest.Subject = digest.FromString("subject")
	d := m.putManifest(t, put)
	m.requireManifest(t, repository, byDigest(d), put.Manifest, "a subject may be missing")
}

func childrenLeaveCandidates(t *testing.T, m *index) {
	config, layer, other := m.putText(t, repository, "config"), m.putText(t, repository, "layer"), m.putText(t, repository, "other")
	m.putText(t, "team/other", "layer")
	image := m.putManifest(t, imageOf(repository, "image", config, layer))
	m.requireNoCandidate(t, repository, config, "what a manifest refers to is no candidate any more")
	m.requireNoCandidate(t, repository, layer, "what a manifest refers to is no candidate any more")
	m.requireCandidate(t, repository, other, "what no manifest refers to stays a candidate")
	m.requireCandidate(t, "team/other", layer, "a manifest of one repository keeps nothing in another one")
	m.putManifest(t, indexOf(repository, "index", image))
	m.requireNoCandidate(t, repository, image, "what an index refers to is no candidate")
}

func manyReferences(t *testing.T, m *index) {
	const count = 1500
	put := imageOf(repository, "x")
	for i := range count {
		put.References = append(put.References, store.Reference{Digest: digest.FromString(fmt.Sprint(i))})
	}
	var missing *store.MissingError
	require.ErrorAs(t, m.first.PutManifest(t.Context(), put), &missing)
	require.Len(t, missing.Digests, count, "a manifest may have any number of references, and each that is missing is named")
	put.AllowMissing = true
	d := m.putManifest(t, put)
	m.putText(t, repository, fmt.Sprint(count-1))
	requireReferenced(t, m.first.DeleteContent(t.Context(), repository, digest.FromString(fmt.Sprint(count-1))), d, "each of many references is an edge")
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, d, nil))
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, digest.FromString(fmt.Sprint(count-1))), "edges go with their manifest")
}

func manifestPushedAsBlob(t *testing.T, m *index) {
	put := imageOf(repository, "x")
	d := m.putManifest(t, put, "latest")
	for _, name := range []string{repository, "team/other"} {
		pushed := object("x")
		m.push(t, name, pushed)
		m.requireManifest(t, repository, byTag("latest"), put.Manifest, "a manifest has its bytes, also after somebody pushed them as a blob (to "+name+")")
		m.requireManifest(t, repository, byDigest(d), put.Manifest, "a manifest has its bytes, also after somebody pushed them as a blob (to "+name+")")
		m.requireNoManifest(t, "team/other", byDigest(d), "a blob is not a manifest, though another repository has one of its digest")
	}
	m.putText(t, "team/other", "x")
	m.requireManifest(t, repository, byDigest(d), put.Manifest, "a manifest has its bytes, also after somebody put them as inline content")

	blob := object("y")
	m.push(t, repository, blob)
	put = imageOf(repository, "y")
	m.putManifest(t, put, "y")
	m.requireManifest(t, repository, byTag("y"), put.Manifest, "what was pushed as a blob may be put as a manifest later")
	_, err := m.last.Content(t.Context(), repository, put.Manifest.Digest)
	require.NoError(t, err)
}
