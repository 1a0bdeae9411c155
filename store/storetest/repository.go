package storetest

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// repositoryTests prove when repositories exist, and what mounting between them does.
func repositoryTests() []metadataTest {
	return []metadataTest{
		{"AppearsWithItsFirstLinkAndGoesWithItsLast", repositoryLife},
		{"PagesAreInByteOrder", repositoryPages},
		{"HoldersAreWhoLinks", holders},
		{"MountLinksAcross", mount},
		{"MountOfWhatIsNotLinkedIsUnknown", mountUnknown},
		{"MountAgainIsUnchanged", mountAgain},
		{"MountedManifestIsABlob", mountedManifest},
	}
}

func (m *index) repositories(t *testing.T) []string {
	t.Helper()
	names, err := m.last.Repositories(t.Context(), "", all)
	require.NoError(t, err)
	return append([]string{}, names...)
}

func repositoryLife(t *testing.T, m *index) {
	require.Empty(t, m.repositories(t), "an empty index has no repositories")
	begin := map[string]func(name string) digest.Digest{
		"put content": func(name string) digest.Digest { return m.putText(t, name, "x") },
		"push": func(name string) digest.Digest {
			content := object("y")
			m.push(t, name, content)
			return content.Digest
		},
		"mount": func(name string) digest.Digest {
			d := m.putText(t, "source", "x")
			_, err := m.first.Mount(t.Context(), d, "source", name)
			require.NoError(t, err)
			return d
		},
	}
	for how, begin := range begin {
		for range 2 { // it may come back
			d := begin("team/new")
			require.Contains(t, m.repositories(t), "team/new", "a repository appears with its first link: %s", how)
			require.Empty(t, m.tags(t, "team/new"))
			require.NoError(t, m.first.DeleteContent(t.Context(), "team/new", d))
			require.NotContains(t, m.repositories(t), "team/new", "a repository goes with its last link: %s", how)
			_, err := m.last.Tags(t.Context(), "team/new", "", all)
			require.ErrorIs(t, err, store.ErrRepositoryUnknown, "a repository without links is unknown")
		}
	}

	layer := m.putText(t, "team/image", "layer")
	d := m.putManifest(t, imageOf("team/image", "image", layer), "latest")
	require.NoError(t, m.first.DeleteManifest(t.Context(), "team/image", d, nil))
	require.Contains(t, m.repositories(t), "team/image", "a repository stays while it has a link")
	require.NoError(t, m.first.DeleteContent(t.Context(), "team/image", layer))
	require.NotContains(t, m.repositories(t), "team/image", "a repository goes with its last link")
	d = m.putManifest(t, imageOf("team/image", "empty image"))
	require.Contains(t, m.repositories(t), "team/image", "a repository appears with its first link: a manifest")
	require.Empty(t, m.tags(t, "team/image"), "a repository that comes back has nothing of its former life")
	require.NoError(t, m.first.DeleteManifest(t.Context(), "team/image", d, nil))
	require.Equal(t, []string{"source"}, m.repositories(t), "a repository goes with its last link: a manifest")
}

func repositoryPages(t *testing.T, m *index) {
	want := []string{"a", "a-b", "a.b", "a/a", "a/b", "a0", "a_b", "aa", "b", "b/b/b"}
	for i := range want {
		m.putText(t, want[(i*7)%len(want)], "x")
	}
	requirePages(t, want, func(after string, limit int) ([]string, error) {
		return m.last.Repositories(t.Context(), after, limit)
	})
	got, err := m.last.Repositories(t.Context(), "a/", 2)
	require.NoError(t, err)
	require.Equal(t, want[3:5], got, "a page begins after the given name, which need not exist")
}

func holders(t *testing.T, m *index) {
	d := digest.FromString("x")
	names, err := m.last.Holders(t.Context(), d, "", all)
	require.NoError(t, err)
	require.Empty(t, names, "content that is unknown has no holders")
	want := []string{"a", "a-b", "a.b", "a/b", "a0", "a_b", "b"}
	for i := range want {
		m.putText(t, want[(i*5)%len(want)], "x")
	}
	m.putText(t, "c", "y")
	requirePages(t, want, func(after string, limit int) ([]string, error) {
		return m.last.Holders(t.Context(), d, after, limit)
	})
	require.NoError(t, m.first.DeleteContent(t.Context(), "a-b", d))
	names, err = m.last.Holders(t.Context(), d, "a", 2)
	require.NoError(t, err)
	require.Equal(t, []string{"a.b", "a/b"}, names, "who has deleted its link is no holder")
}

func mount(t *testing.T, m *index) {
	for _, content := range []store.Content{text("x"), text(""), object("y")} {
		if content.IsInline() {
			require.NoError(t, m.first.PutContent(t.Context(), repository, content))
		} else {
			m.push(t, repository, content)
		}
		before, garbage := m.candidates(t)[place{repository, content.Digest}], m.garbage(t)
		m.clock.Advance(time.Minute)
		got, err := m.first.Mount(t.Context(), content.Digest, repository, "team/target")
		require.NoError(t, err)
		requireSameContent(t, content, got, "Mount returns the content")
		m.requireContent(t, "team/target", content, "mounting links content to another repository, without a copy")
		m.requireContent(t, repository, content, "mounting leaves the source's link")
		m.requireCandidate(t, "team/target", content.Digest, "content that was just mounted: nothing refers to it there")
		require.True(t, before.Equal(m.candidates(t)[place{repository, content.Digest}]), "mounting does not touch the source's candidate")
		m.requireGarbage(t, "mounting condemns nothing", garbage...)
	}
	require.Equal(t, []string{repository, "team/target"}, m.repositories(t))
	m.putManifest(t, imageOf("team/target", "image", digest.FromString("x"), digest.FromString("y")))
	require.NoError(t, m.first.DeleteContent(t.Context(), repository, digest.FromString("x")), "a manifest of one repository keeps nothing in another one")
	m.requireContent(t, "team/target", text("x"), "mounted content stays when its source goes")
}

func mountUnknown(t *testing.T, m *index) {
	d := m.putText(t, repository, "x")
	for name, try := range map[string]struct {
		digest digest.Digest
		from   string
	}{
		"the source has no link to it":               {d, "team/other"},
		"the target has it, but the source does not": {d, "team/other"},
		"nobody has it":                              {digest.FromString("y"), repository},
	} {
		to := "team/target"
		if name == "the target has it, but the source does not" {
			to = repository
		}
		before := m.candidates(t)
		m.clock.Advance(time.Minute)
		_, err := m.first.Mount(t.Context(), try.digest, try.from, to)
		require.ErrorIs(t, err, store.ErrContentUnknown, "mounting fails with ErrContentUnknown when %s", name)
		require.Len(t, m.candidates(t), len(before), "a mount that failed makes no candidate")
		require.True(t, before[place{repository, d}].Equal(m.candidates(t)[place{repository, d}]), "a mount that failed touches no candidate")
	}
	require.Equal(t, []string{repository}, m.repositories(t), "a mount that failed makes no repository")
}

func mountAgain(t *testing.T, m *index) {
	d := m.putText(t, repository, "x")
	for range 3 {
		got, err := m.last.Mount(t.Context(), d, repository, "team/target")
		require.NoError(t, err, "mounting again succeeds")
		requireSameContent(t, text("x"), got, "mounting again returns the content")
	}
	got, err := m.last.Mount(t.Context(), d, repository, repository)
	require.NoError(t, err, "mounting from a repository to itself succeeds")
	requireSameContent(t, text("x"), got, "mounting from a repository to itself returns the content")
	names, err := m.last.Holders(t.Context(), d, "", all)
	require.NoError(t, err)
	require.Equal(t, []string{repository, "team/target"}, names, "mounting again makes no other link")
	require.Len(t, m.candidates(t), 2, "mounting again makes no other candidate")
}

func mountedManifest(t *testing.T, m *index) {
	put := imageOf(repository, "image")
	d := m.putManifest(t, put, "latest")
	_, err := m.first.Mount(t.Context(), d, repository, "team/target")
	require.NoError(t, err, "a manifest is content, and can be mounted as such")
	m.requireContent(t, "team/target", text("image"), "a manifest is content, and can be mounted as such")
	m.requireNoManifest(t, "team/target", byDigest(d), "a manifest that was mounted is a blob there, not a manifest")
	var missing *store.MissingError
	require.ErrorAs(t, m.first.PutManifest(t.Context(), indexOf("team/target", "index", d)), &missing, "a manifest that was mounted does not do where a manifest is needed")
	require.NoError(t, m.first.DeleteContent(t.Context(), "team/target", d), "a manifest that was mounted can be deleted there as the blob that it is")
	m.requireManifest(t, repository, byTag("latest"), put.Manifest, "deleting it there leaves the manifest")
}
