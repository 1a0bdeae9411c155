package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// referrerTests prove which manifests a subject is told to have.
func referrerTests() []metadataTest {
	return []metadataTest{
		{"TellAllOfTheirManifest", referrerDescriptors},
		{"OfNothingAreNone", noReferrers},
		{"ComeInPagesByDigest", referrerPages},
		{"AreFilteredByArtifactType", referrerFilter},
		{"GoWithTheirManifest", referrerDeleted},
		{"StayWithoutTheirSubject", referrersStay},
	}
}

// referrerOf is a put of a manifest with a subject.
func referrerOf(name, body string, subject digest.Digest, artifactType string) store.ManifestPut {
	put := imageOf(name, body)
	put.Manifest.Subject, put.Manifest.ArtifactType = subject, artifactType
	return put
}

// referrers returns the digests of a page.
func (m *index) referrers(t *testing.T, name string, subject digest.Digest, page store.ReferrersPage) []digest.Digest {
	t.Helper()
	found, err := m.last.Referrers(t.Context(), name, subject, page)
	require.NoError(t, err)
	digests := []digest.Digest{}
	for _, descriptor := range found {
		digests = append(digests, descriptor.Digest)
	}
	return digests
}

// everything is one page without a filter.
func everything() store.ReferrersPage { return store.ReferrersPage{Limit: all} }

func referrerDescriptors(t *testing.T, m *index) {
	subject := m.putManifest(t, imageOf(repository, "subject"))
	put := fullManifest()
	put.Manifest.Subject = subject
	m.putManifest(t, put)
	found, err := m.last.Referrers(t.Context(), repository, subject, everything())
	require.NoError(t, err)
	require.Equal(t, []ocispec.Descriptor{{
		MediaType: put.Manifest.MediaType, Digest: put.Manifest.Digest, Size: int64(len(put.Manifest.Bytes)),
		ArtifactType: put.Manifest.ArtifactType, Annotations: put.Manifest.Annotations,
	}}, found, "a referrer has its media type, digest, size, artifact type and all annotations")

	other := m.putManifest(t, imageOf(repository, "other subject"))
	plain := referrerOf(repository, "plain", other, "")
	m.putManifest(t, plain)
	found, err = m.last.Referrers(t.Context(), repository, other, everything())
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Empty(t, found[0].ArtifactType, "a referrer without an artifact type tells none")
	require.Empty(t, found[0].Annotations, "a referrer without annotations tells none")
}

func noReferrers(t *testing.T, m *index) {
	d := digest.FromString("x")
	require.Empty(t, m.referrers(t, repository, d, everything()), "an unknown repository has no referrers, and that is not an error")
	m.putManifest(t, imageOf(repository, "x"))
	require.Empty(t, m.referrers(t, repository, d, everything()), "a manifest that nothing refers to has no referrers")
	require.Empty(t, m.referrers(t, repository, digest.FromString("y"), everything()), "an unknown subject has no referrers, and that is not an error")
	m.putManifest(t, referrerOf("team/other", "referrer", d, ""))
	require.Empty(t, m.referrers(t, repository, d, everything()), "referrers are those of the same repository")
	require.Len(t, m.referrers(t, "team/other", d, everything()), 1, "a subject that is missing has referrers")
	m.putManifest(t, indexOf(repository, "index", d))
	require.Empty(t, m.referrers(t, repository, d, everything()), "an index that lists a manifest is not a referrer of it")
}

func referrerPages(t *testing.T, m *index) {
	subject := digest.FromString("subject")
	want := []string{}
	for i := range 12 {
		want = append(want, m.putManifest(t, referrerOf(repository, fmt.Sprint("referrer ", i), subject, "")).String())
	}
	put := referrerOf(repository, "referrer", subject, "")
	put.Manifest.Digest = digest.SHA512.FromBytes(put.Manifest.Bytes)
	want = append(want, m.putManifest(t, put).String())
	slices.Sort(want)
	requirePages(t, want, func(after string, limit int) (names []string, err error) {
		found, err := m.last.Referrers(t.Context(), repository, subject, store.ReferrersPage{After: digest.Digest(after), Limit: limit})
		for _, descriptor := range found {
			names = append(names, descriptor.Digest.String())
		}
		return names, err
	})
}

func referrerFilter(t *testing.T, m *index) {
	subject := digest.FromString("subject")
	byType := map[string][]digest.Digest{}
	for i := range 12 {
		artifactType := []string{"a/sbom", "a/signature", "", "a/sbom+json"}[i%4]
		d := m.putManifest(t, referrerOf(repository, fmt.Sprint("referrer ", i), subject, artifactType))
		byType[artifactType] = append(byType[artifactType], d)
	}
	sorted := func(types ...string) []digest.Digest {
		want := []digest.Digest{}
		for _, artifactType := range types {
			want = append(want, byType[artifactType]...)
		}
		slices.Sort(want)
		return want
	}
	page := func(types ...string) store.ReferrersPage {
		return store.ReferrersPage{ArtifactTypes: types, Limit: all}
	}
	require.Equal(t, sorted("a/sbom"), m.referrers(t, repository, subject, page("a/sbom")), "one artifact type selects exactly its referrers")
	require.Equal(t, sorted("a/sbom", "a/signature"), m.referrers(t, repository, subject, page("a/signature", "a/sbom")), "several artifact types select any of them")
	require.Equal(t, sorted("a/sbom"), m.referrers(t, repository, subject, page("a/sbom", "a/none", "a/sbom")), "an artifact type that nothing has selects nothing more")
	require.Empty(t, m.referrers(t, repository, subject, page("a/none")), "an artifact type that nothing has selects nothing")
	require.Len(t, m.referrers(t, repository, subject, everything()), 12, "no artifact type means all")

	for i, odd := range []string{"\x00", "a\x00b", "é", "\x01", "\x0100", "'"} {
		d := m.putManifest(t, referrerOf(repository, fmt.Sprint("odd referrer ", i), subject, odd))
		byType[odd] = append(byType[odd], d)
		require.Equal(t, sorted(odd), m.referrers(t, repository, subject, page(odd)), "an artifact type is whatever a client says: %q", odd)
	}

	both := sorted("a/sbom", "a/signature")
	got := []digest.Digest{}
	for after := digest.Digest(""); ; {
		found := m.referrers(t, repository, subject, store.ReferrersPage{ArtifactTypes: []string{"a/sbom", "a/signature"}, After: after, Limit: 4})
		got = append(got, found...)
		if len(found) < 4 {
			break
		}
		require.LessOrEqual(t, len(got), len(both), "pages meet each referrer once")
		after = found[3]
	}
	require.Equal(t, both, got, "a page is filled with what the filter selects: a shorter one is the last")
}

func referrerDeleted(t *testing.T, m *index) {
	subject := digest.FromString("subject")
	gone := m.putManifest(t, referrerOf(repository, "gone", subject, ""))
	kept := m.putManifest(t, referrerOf(repository, "kept", subject, ""))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, gone, nil))
	require.Equal(t, []digest.Digest{kept}, m.referrers(t, repository, subject, everything()), "a referrer goes with its manifest")
	m.putManifest(t, referrerOf(repository, "gone", subject, ""))
	require.Len(t, m.referrers(t, repository, subject, everything()), 2, "a referrer comes back with its manifest")
}

func referrersStay(t *testing.T, m *index) {
	subject := m.putManifest(t, imageOf(repository, "subject"), "latest")
	referrer := m.putManifest(t, referrerOf(repository, "referrer", subject, ""))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, subject, nil), "a subject may be deleted while manifests refer to it")
	require.Equal(t, []digest.Digest{referrer}, m.referrers(t, repository, subject, everything()), "referrers of a manifest that was deleted stay")
	got, err := m.last.Manifest(t.Context(), repository, byDigest(referrer))
	require.NoError(t, err)
	require.Equal(t, subject, got.Subject)
}
