package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// retentionTests prove what policies are told.
func retentionTests() []metadataTest {
	return []metadataTest{
		{"TellsOfManifests", manifestRecords},
		{"TellsOfTags", tagRecords},
		{"TellsWhenTheyWerePushedLast", recordsPushed},
		{"TellsWhenTheyWerePulledLast", recordsPulled},
		{"RecordsPullsOncePerHour", pullsPerHour},
		{"PassesOverPullsOfWhatIsNotThere", pullsUnknown},
		{"RecordsPullsOfSeveralAtOnce", pullsAtOnce},
		{"PagesManifestsByDigest", manifestRecordPages},
		{"PagesTagsByName", tagRecordPages},
	}
}

// manifestRecord returns what a policy is told of a manifest.
func (m *index) manifestRecord(t *testing.T, d digest.Digest) store.ManifestRecord {
	t.Helper()
	records, err := m.last.ManifestRecords(t.Context(), repository, "", all)
	require.NoError(t, err)
	i := slices.IndexFunc(records, func(r store.ManifestRecord) bool { return r.Digest == d })
	require.GreaterOrEqual(t, i, 0, "a manifest has a record")
	return records[i]
}

// tagRecord returns what a policy is told of a tag.
func (m *index) tagRecord(t *testing.T, name string) store.TagRecord {
	t.Helper()
	records, err := m.last.TagRecords(t.Context(), repository, "", all)
	require.NoError(t, err)
	i := slices.IndexFunc(records, func(r store.TagRecord) bool { return r.Name == name })
	require.GreaterOrEqual(t, i, 0, "a tag has a record")
	return records[i]
}

func requireTime(t *testing.T, want, got time.Time, message string) {
	t.Helper()
	require.True(t, want.Equal(got), "%s: %v, want %v", message, got, want)
}

func manifestRecords(t *testing.T, m *index) {
	image := imageOf(repository, "image")
	m.putManifest(t, image, "latest")
	list := indexOf(repository, "index", image.Manifest.Digest)
	m.putManifest(t, list)
	referrer := referrerOf(repository, "referrer", image.Manifest.Digest, "")
	m.putManifest(t, referrer)
	m.putManifest(t, imageOf("team/other", "elsewhere"))
	m.putText(t, repository, "no manifest")
	records, err := m.last.ManifestRecords(t.Context(), repository, "", all)
	require.NoError(t, err)
	require.Len(t, records, 3, "each manifest of the repository has a record, and nothing else")
	for name, want := range map[string]store.ManifestRecord{
		"tagged, and listed": {Digest: image.Manifest.Digest, MediaType: image.Manifest.MediaType, Size: 5, Tagged: true, Parent: true},
		"neither":            {Digest: list.Manifest.Digest, MediaType: list.Manifest.MediaType, Size: 5},
		"with a subject":     {Digest: referrer.Manifest.Digest, MediaType: referrer.Manifest.MediaType, Size: 8, Subject: image.Manifest.Digest},
	} {
		got := m.manifestRecord(t, want.Digest)
		requireTime(t, m.clock.Now(), got.Pushed, "Pushed is when it was pushed: "+name)
		require.True(t, got.Pulled.IsZero(), "nobody has pulled it: %s", name)
		got.Pushed, got.Pulled = time.Time{}, time.Time{}
		require.Equal(t, want, got, "a record tells of its manifest: %s", name)
	}
	require.NoError(t, m.first.DeleteTag(t.Context(), repository, "latest"))
	require.False(t, m.manifestRecord(t, image.Manifest.Digest).Tagged, "a manifest whose last tag was deleted has none")
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, list.Manifest.Digest, nil))
	require.False(t, m.manifestRecord(t, image.Manifest.Digest).Parent, "a manifest whose index was deleted is not referred to, a subject is not a reference")
	records, err = m.last.ManifestRecords(t.Context(), "team/none", "", all)
	require.NoError(t, err)
	require.Empty(t, records, "an unknown repository has no manifests")
}

func tagRecords(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "image"), "latest", "v1")
	m.putManifest(t, imageOf("team/other", "elsewhere"), "other")
	records, err := m.last.TagRecords(t.Context(), repository, "", all)
	require.NoError(t, err)
	require.Len(t, records, 2, "each tag of the repository has a record, and nothing else")
	for i, name := range []string{"latest", "v1"} {
		require.Equal(t, name, records[i].Name)
		require.Equal(t, d, records[i].Digest, "a record tells what its tag points to")
		requireTime(t, m.clock.Now(), records[i].Pushed, "Pushed is when it was pushed")
		require.True(t, records[i].Pulled.IsZero(), "nobody has pulled it")
	}
	records, err = m.last.TagRecords(t.Context(), "team/none", "", all)
	require.NoError(t, err)
	require.Empty(t, records, "an unknown repository has no tags")
}

func recordsPushed(t *testing.T, m *index) {
	image, other := imageOf(repository, "image"), imageOf(repository, "other")
	d := m.putManifest(t, image, "moved", "kept")
	first := m.clock.Now()
	m.clock.Advance(time.Minute)
	m.putManifest(t, other, "moved")
	requireTime(t, first, m.manifestRecord(t, d).Pushed, "a manifest whose tag moves away was not pushed")
	requireTime(t, first, m.tagRecord(t, "kept").Pushed, "a tag that was not pushed keeps its time")
	requireTime(t, m.clock.Now(), m.tagRecord(t, "moved").Pushed, "a tag that moves was pushed")
	m.clock.Advance(time.Minute)
	m.putManifest(t, image, "kept")
	requireTime(t, m.clock.Now(), m.manifestRecord(t, d).Pushed, "a manifest that is pushed again was pushed last then")
	requireTime(t, m.clock.Now(), m.tagRecord(t, "kept").Pushed, "a tag that is pushed again was pushed last then")
	m.clock.Advance(time.Minute)
	m.putManifest(t, image)
	requireTime(t, m.clock.Now(), m.manifestRecord(t, d).Pushed, "a manifest that is pushed by digest was pushed last then")
	requireTime(t, m.clock.Now().Add(-time.Minute), m.tagRecord(t, "kept").Pushed, "a push by digest does not push a tag")
}

func recordsPulled(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "image"), "latest", "v1")
	other := m.putManifest(t, imageOf(repository, "other"), "other")
	m.clock.Advance(time.Minute)
	require.NoError(t, m.first.RecordPulls(t.Context(), nil), "no pulls can be recorded")
	require.NoError(t, m.first.RecordPulls(t.Context(), []store.Pull{{Repository: repository, Digest: d, Tag: "v1"}}))
	byTag := m.clock.Now()
	requireTime(t, byTag, m.manifestRecord(t, d).Pulled, "a manifest that was pulled by tag was pulled")
	requireTime(t, byTag, m.tagRecord(t, "v1").Pulled, "a tag that was pulled was pulled as this tag")
	require.True(t, m.tagRecord(t, "latest").Pulled.IsZero(), "another tag of a manifest that was pulled was not")
	require.True(t, m.manifestRecord(t, other).Pulled.IsZero(), "another manifest was not")
	m.clock.Advance(time.Hour)
	require.NoError(t, m.first.RecordPulls(t.Context(), []store.Pull{{Repository: repository, Digest: d}}))
	requireTime(t, m.clock.Now(), m.manifestRecord(t, d).Pulled, "a manifest that was pulled by digest was pulled")
	requireTime(t, byTag, m.tagRecord(t, "v1").Pulled, "a pull by digest pulls no tag")
	requireTime(t, byTag.Add(-time.Minute), m.manifestRecord(t, d).Pushed, "a pull is no push")
}

func pullsPerHour(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "image"), "latest")
	pull := func() {
		require.NoError(t, m.first.RecordPulls(t.Context(), []store.Pull{{Repository: repository, Digest: d, Tag: "latest"}}))
	}
	pull()
	first := m.clock.Now()
	m.clock.Advance(time.Hour - time.Second)
	pull()
	requireTime(t, first, m.manifestRecord(t, d).Pulled, "a pull within the hour is not recorded")
	requireTime(t, first, m.tagRecord(t, "latest").Pulled, "a pull within the hour is not recorded")
	m.clock.Advance(time.Second)
	pull()
	requireTime(t, m.clock.Now(), m.manifestRecord(t, d).Pulled, "a pull after an hour is recorded")
	requireTime(t, m.clock.Now(), m.tagRecord(t, "latest").Pulled, "a pull after an hour is recorded")
}

func pullsUnknown(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(repository, "image"), "latest")
	m.putText(t, repository, "blob")
	require.NoError(t, m.first.RecordPulls(t.Context(), []store.Pull{
		{Repository: "team/none", Digest: d, Tag: "latest"},
		{Repository: repository, Digest: digest.FromString("never pushed"), Tag: "none"},
		{Repository: repository, Digest: digest.FromString("blob")},
		{Repository: repository, Digest: d, Tag: "none"},
	}), "what is not there is passed over")
	requireTime(t, m.clock.Now(), m.manifestRecord(t, d).Pulled, "what is there is recorded beside what is not")
	require.True(t, m.tagRecord(t, "latest").Pulled.IsZero(), "a pull of another repository's tag is not this one's")
	require.Equal(t, []string{"latest"}, m.tags(t, repository), "a pull makes no tag")
	require.Equal(t, []string{repository}, m.repositories(t), "a pull makes no repository")
}

func pullsAtOnce(t *testing.T, m *index) {
	const manifests = 8
	pulls := make([]store.Pull, 0, 2*manifests)
	for i := range manifests {
		d := m.putManifest(t, imageOf(repository, fmt.Sprint("image ", i)), fmt.Sprint("v", i))
		pulls = append(pulls, store.Pull{Repository: repository, Digest: d, Tag: fmt.Sprint("v", i)}, store.Pull{Repository: repository, Digest: d})
	}
	for range rounds / 5 {
		m.clock.Advance(2 * time.Hour)
		each(t, 4, 4, func(i int) error { // each in another order, and with repetitions
			mine := slices.Concat(pulls[i*3:], pulls[:i*3+1])
			if i%2 == 1 {
				slices.Reverse(mine)
			}
			return m.handle(i).RecordPulls(t.Context(), mine)
		})
		for i := range manifests {
			requireTime(t, m.clock.Now(), m.manifestRecord(t, pulls[2*i].Digest).Pulled, "pulls that several record at once are recorded")
			requireTime(t, m.clock.Now(), m.tagRecord(t, pulls[2*i].Tag).Pulled, "pulls that several record at once are recorded")
		}
	}
}

func manifestRecordPages(t *testing.T, m *index) {
	var want []string
	for i := range 6 {
		want = append(want, string(m.putManifest(t, imageOf(repository, fmt.Sprint("image ", i)), fmt.Sprint("v", i), fmt.Sprint("w", i))))
	}
	slices.Sort(want)
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []string
		for after := digest.Digest(""); ; {
			page, err := m.last.ManifestRecords(t.Context(), repository, after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit, "a page has up to limit manifests")
			for _, record := range page {
				got = append(got, string(record.Digest))
			}
			require.LessOrEqual(t, len(got), len(want), "pages meet each manifest once, however many tags it has")
			if len(page) < limit {
				break
			}
			after = page[limit-1].Digest
		}
		require.Equal(t, want, got, "pages of %d are all manifests, by digest", limit)
	}
}

func tagRecordPages(t *testing.T, m *index) {
	want := []string{"A", "B", "Z", "_", "a", "a-b", "a.b", "a_b", "b", "z"}
	for i := range want {
		m.putManifest(t, imageOf(repository, fmt.Sprint("image ", i)), want[(i*7)%len(want)])
	}
	requirePages(t, want, func(after string, limit int) (names []string, err error) {
		records, err := m.last.TagRecords(t.Context(), repository, after, limit)
		for _, record := range records {
			names = append(names, record.Name)
		}
		return names, err
	})
}
