package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// tagTests prove how tags move, and how they are listed.
func tagTests() []metadataTest {
	return []metadataTest{
		{"MovesAndLeavesTheOldManifestByDigest", moveTag},
		{"SeveralAtOnce", severalTags},
		{"ConditionAbsent", conditionAbsent},
		{"ConditionAnyOf", conditionAnyOf},
		{"ConditionHoldsForEachTag", conditionForEach},
		{"LockedMayBeCreatedNotMoved", lockedTags},
		{"PagesAreInByteOrder", tagPages},
		{"OfAnUnknownRepositoryAreUnknown", tagsUnknownRepository},
	}
}

func moveTag(t *testing.T, m *index) {
	old, fresh := imageOf(repository, "old"), imageOf(repository, "new")
	m.putManifest(t, old, "latest", "stable")
	m.putManifest(t, fresh, "latest")
	m.requireManifest(t, repository, byTag("latest"), fresh.Manifest, "a tag that is put again moves")
	m.requireManifest(t, repository, byTag("stable"), old.Manifest, "a tag that is not put stays")
	m.requireManifest(t, repository, byDigest(old.Manifest.Digest), old.Manifest, "a manifest that loses a tag stays, by its digest")
	m.putManifest(t, imageOf("team/other", "old"), "latest")
	m.requireManifest(t, repository, byTag("latest"), fresh.Manifest, "a tag of another repository is another tag")
	require.Equal(t, []string{"latest", "stable"}, m.tags(t, repository))
	m.putManifest(t, fresh)
	m.requireManifest(t, repository, byTag("latest"), fresh.Manifest, "a put without tags moves none")
}

func severalTags(t *testing.T, m *index) {
	put := imageOf(repository, "x")
	var tags []string
	for i := range 20 {
		tags = append(tags, fmt.Sprintf("v%02d", i))
	}
	m.putManifest(t, put, tags...)
	require.Equal(t, tags, m.tags(t, repository), "a put may set several tags at once")
	for _, tag := range tags {
		m.requireManifest(t, repository, byTag(tag), put.Manifest, "each tag of a put points to the manifest")
	}
}

// requireRefused requires that a put of the manifest left nothing.
func requireRefused(t *testing.T, m *index, put store.ManifestPut, want map[string]store.Manifest) {
	t.Helper()
	m.requireNoManifest(t, repository, byDigest(put.Manifest.Digest), "a put that was refused stores no manifest")
	m.requireNoContent(t, repository, put.Manifest.Digest, "a put that was refused stores no content")
	names := []string{}
	for tag, manifest := range want {
		names = append(names, tag)
		m.requireManifest(t, repository, byTag(tag), manifest, "a put that was refused moves no tag")
	}
	slices.Sort(names)
	require.Equal(t, names, m.tags(t, repository), "a put that was refused makes no tag")
}

func conditionAbsent(t *testing.T, m *index) {
	first, second := imageOf(repository, "first"), imageOf(repository, "second")
	first.Condition.Absent, second.Condition.Absent = true, true
	m.putManifest(t, first, "latest")
	second.Tags = []string{"latest"}
	require.ErrorIs(t, m.last.PutManifest(t.Context(), second), store.ErrConditionFailed, "a tag that must be absent, and is not, fails the put with ErrConditionFailed")
	requireRefused(t, m, second, map[string]store.Manifest{"latest": first.Manifest})
	require.NoError(t, m.first.DeleteTag(t.Context(), repository, "latest"))
	require.NoError(t, m.last.PutManifest(t.Context(), second), "a tag that was deleted is absent")
	m.requireManifest(t, repository, byTag("latest"), second.Manifest, "a put whose condition holds moves the tag")
}

func conditionAnyOf(t *testing.T, m *index) {
	first, second := imageOf(repository, "first"), imageOf(repository, "second")
	d1, d2 := first.Manifest.Digest, second.Manifest.Digest
	second.Condition.AnyOf = []digest.Digest{digest.FromString("another"), d1}
	second.Tags = []string{"latest"}
	require.ErrorIs(t, m.last.PutManifest(t.Context(), second), store.ErrConditionFailed, "a tag that must point somewhere, and does not exist, fails the put with ErrConditionFailed")
	m.putManifest(t, first, "latest")
	require.NoError(t, m.last.PutManifest(t.Context(), second), "a tag that points to one of the expected manifests may be moved")
	m.requireManifest(t, repository, byTag("latest"), second.Manifest, "a put whose condition holds moves the tag")

	third := imageOf(repository, "third")
	third.Condition.AnyOf = []digest.Digest{d1}
	third.Tags = []string{"latest"}
	require.ErrorIs(t, m.last.PutManifest(t.Context(), third), store.ErrConditionFailed, "a tag that points elsewhere fails the put with ErrConditionFailed")
	requireRefused(t, m, third, map[string]store.Manifest{"latest": second.Manifest})
	third.Condition.AnyOf = []digest.Digest{d2}
	require.NoError(t, m.last.PutManifest(t.Context(), third))
}

func conditionForEach(t *testing.T, m *index) {
	old := imageOf(repository, "old")
	m.putManifest(t, old, "b")
	put := imageOf(repository, "new")
	put.Tags, put.Condition.Absent = []string{"a", "b", "c"}, true
	require.ErrorIs(t, m.first.PutManifest(t.Context(), put), store.ErrConditionFailed, "a condition must hold for each tag of a put")
	requireRefused(t, m, put, map[string]store.Manifest{"b": old.Manifest})
	put.Tags, put.Condition = []string{"b", "a"}, store.TagCondition{AnyOf: []digest.Digest{old.Manifest.Digest}}
	require.ErrorIs(t, m.first.PutManifest(t.Context(), put), store.ErrConditionFailed, "a condition must hold for each tag of a put")
	requireRefused(t, m, put, map[string]store.Manifest{"b": old.Manifest})
}

func lockedTags(t *testing.T, m *index) {
	first, second := imageOf(repository, "first"), imageOf(repository, "second")
	locked := func(tag string) bool { return tag == "v1" || tag == "v2" }
	first.Locked, second.Locked = locked, locked
	m.putManifest(t, first, "v1", "latest")
	m.requireManifest(t, repository, byTag("v1"), first.Manifest, "a locked tag may be created")
	m.putManifest(t, first, "v1")
	m.putManifest(t, second, "latest")
	m.requireManifest(t, repository, byTag("latest"), second.Manifest, "a tag that is not locked may be moved")

	third := imageOf(repository, "third")
	third.Locked, third.Tags = locked, []string{"latest", "fresh", "v1", "v2"}
	var refused *store.TagLockedError
	require.ErrorAs(t, m.first.PutManifest(t.Context(), third), &refused, "a put that would move a locked tag fails with *TagLockedError")
	require.Equal(t, "v1", refused.Tag, "a *TagLockedError names the tag")
	requireRefused(t, m, third, map[string]store.Manifest{"latest": second.Manifest, "v1": first.Manifest})
	third.Locked = nil
	require.NoError(t, m.first.PutManifest(t.Context(), third), "without a function no tag is locked")
	m.requireManifest(t, repository, byTag("v1"), third.Manifest, "without a function no tag is locked")
}

// inByteOrder are tags in the order of their bytes, which is no language's.
func inByteOrder() []string {
	return []string{"-", "-a", ".", "0", "1.0", "10", "9", "A", "B", "Z", "_", "_a", "a", "a-b", "a.b", "a0", "aA", "a_b", "aa", "b", "z"}
}

// requirePages requires that pages of any size come to the same list.
func requirePages(t *testing.T, want []string, page func(after string, limit int) ([]string, error)) {
	t.Helper()
	for limit := 1; limit <= len(want)+1; limit++ {
		got := []string{}
		for after := ""; ; {
			names, err := page(after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(names), limit, "a page has up to limit names")
			got = append(got, names...)
			require.LessOrEqual(t, len(got), len(want), "pages meet each name once")
			if len(names) < limit {
				break
			}
			after = names[limit-1]
		}
		require.Equal(t, want, got, "pages of %d names together are all names, in byte order", limit)
	}
	names, err := page("", 0)
	require.NoError(t, err)
	require.Empty(t, names, "a page of no names is empty")
	names, err = page(want[len(want)-1], all)
	require.NoError(t, err)
	require.Empty(t, names, "nothing comes after the last name")
	for _, name := range want {
		for _, more := range []string{"\x00", "\x00z", "\xff", "\xc3(", "\ufffd", "é"} {
			after := name + more
			names, err := page(after, all)
			require.NoError(t, err)
			first, _ := slices.BinarySearch(want, after)
			require.Equal(t, want[first:], append([]string{}, names...), "a page begins after any bytes that a client sends: %q", after)
		}
	}
}

func tagPages(t *testing.T, m *index) {
	want := inByteOrder()
	require.True(t, slices.IsSorted(want))
	mixed := slices.Clone(want)
	slices.Reverse(mixed)
	m.putManifest(t, imageOf(repository, "x"), mixed[:11]...)
	m.putManifest(t, imageOf(repository, "y"), mixed[11:]...)
	m.putManifest(t, imageOf("team/other", "x"), "other")
	requirePages(t, want, func(after string, limit int) ([]string, error) {
		return m.last.Tags(t.Context(), repository, after, limit)
	})
	for after, from := range map[string]int{"a-": 13, "!": 0, "C": 9, "a00": 16, "zz": 21, "a.b": 15} {
		got, err := m.last.Tags(t.Context(), repository, after, all)
		require.NoError(t, err)
		require.Equal(t, want[from:], append([]string{}, got...), "a page begins after the given name, which need not exist: %q", after)
	}
}

func tagsUnknownRepository(t *testing.T, m *index) {
	_, err := m.last.Tags(t.Context(), repository, "", all)
	require.ErrorIs(t, err, store.ErrRepositoryUnknown, "tags of a repository that is not there fail with ErrRepositoryUnknown")
	m.putText(t, repository, "x")
	require.Empty(t, m.tags(t, repository), "a repository without tags has an empty list")
	_, err = m.last.Tags(t.Context(), "team", "", all)
	require.ErrorIs(t, err, store.ErrRepositoryUnknown, "what a repository's name begins with is no repository")
}
