package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// auditTests prove what the index says of what is stored, and that it harms nothing of what is under way.
func auditTests() []metadataTest {
	return []metadataTest{
		{"KnowsEveryKeyThatARowNames", auditKnownKeys},
		{"CondemnsWhatNoRowNames", auditCondemn},
		{"NeverCondemnsWhatIsBeingFinished", auditCondemnRace},
		{"ListsStoredContentsByKey", auditStored},
		{"ReadsMissingContentAsAbsent", auditMissing},
		{"RefusesManifestsOfMissingContent", auditMissingManifest},
		{"HealsMissingContentByTheNextPush", auditHeal},
		{"MarksTheKeyThatItSaw", auditMarkKey},
		{"CollectsMissingContent", auditCollectMissing},
		{"ListsDependents", auditDependents},
	}
}

// unknownKeys returns those that no row names.
func (m *index) unknownKeys(t *testing.T, keys ...store.Key) []store.Key {
	t.Helper()
	unknown, err := m.last.UnknownKeys(t.Context(), keys)
	require.NoError(t, err)
	return append([]store.Key{}, unknown...)
}

// mark marks content as missing, or not.
func (m *index) mark(t *testing.T, content store.Content, missing bool) (changed bool) {
	t.Helper()
	changed, err := m.first.MarkContent(t.Context(), content.Digest, content.Key, missing)
	require.NoError(t, err)
	return changed
}

func auditKnownKeys(t *testing.T, m *index) {
	minted := []store.Key{store.NewBlobKey(), store.NewUploadKey(store.NewID())}
	require.Equal(t, minted, m.unknownKeys(t, minted...), "a key that no row names is unknown")
	require.Empty(t, m.unknownKeys(t), "of no keys none is unknown")

	content := object("x")
	m.push(t, repository, content) // leaves its tail in the garbage
	id := m.create(t)
	s := m.claim(t, id)
	require.Empty(t, m.unknownKeys(t, s.Keys()...), "a claim's reservation is known")
	save := store.Save{ID: id, Version: s.Version, Progress: progressOf(s, 100), Tail: &store.Tail{Key: s.Reserved.Tail, Size: 5}}
	save.Reserved = store.Reservation{Blob: store.NewBlobKey(), Tail: store.NewUploadKey(id)}
	require.NoError(t, m.first.SaveSession(t.Context(), save))
	s = m.session(t, id)
	known := append(s.Keys(), content.Key)
	require.Len(t, known, 5)
	known = append(known, m.garbage(t)...)
	for _, key := range known {
		require.Empty(t, m.unknownKeys(t, key), "a key of content, of a session's multipart, tails and reservation, and of garbage is known")
	}
	require.ElementsMatch(t, minted, m.unknownKeys(t, slices.Concat(minted[:1], known, minted[1:])...), "only the keys that no row names are unknown")

	_, err := m.first.DropSession(t.Context(), ref(id))
	require.NoError(t, err)
	require.Empty(t, m.unknownKeys(t, known...), "a key that becomes garbage stays known")
	require.NoError(t, m.first.ForgetGarbage(t.Context(), known))
	require.ElementsMatch(t, slices.DeleteFunc(slices.Clone(known), func(key store.Key) bool { return key == content.Key }), m.unknownKeys(t, known...),
		"what was forgotten is unknown, and content is not")
	require.Empty(t, m.garbage(t), "looking for keys condemns none")
}

func auditCondemn(t *testing.T, m *index) {
	content := object("x")
	m.push(t, repository, content)
	id := m.create(t)
	s := m.claim(t, id)
	before := m.garbage(t)
	orphans := []store.Key{store.NewBlobKey(), store.NewUploadKey(id)}
	condemned, err := m.first.CondemnKeys(t.Context(), slices.Concat(orphans, before, s.Keys(), []store.Key{content.Key}))
	require.NoError(t, err)
	require.ElementsMatch(t, orphans, condemned, "only keys that no row names are condemned, and are returned")
	m.requireGarbage(t, "only keys that no row names are condemned", append(before, orphans...)...)
	for _, key := range orphans {
		g := m.requireCondemned(t, key, true, "what was begun under an orphan's key may be unfinished")
		require.True(t, m.clock.Now().Equal(g.Condemned), "it is condemned as of now")
		require.Zero(t, g.Tries)
	}
	condemned, err = m.first.CondemnKeys(t.Context(), orphans)
	require.NoError(t, err)
	require.Empty(t, condemned, "condemning again finds nothing to do")
	condemned, err = m.first.CondemnKeys(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, condemned, "of no keys none is condemned")
	m.requireContent(t, repository, content, "what is named stays")
	m.clock.Advance(unfinished)
	require.Subset(t, takenKeys(m.take(t, all)), orphans, "what an audit condemned is taken like other garbage")
}

func auditCondemnRace(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		id := m.create(t)
		content := object(fmt.Sprint("round ", round))
		s, err := m.first.ClaimSession(t.Context(), store.Claim{SessionRef: ref(id), Reserve: store.Reservation{Blob: content.Key}})
		require.NoError(t, err)
		var condemned []store.Key
		errs := r.run(
			func() error {
				return m.handle(round).FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content})
			},
			func() (err error) {
				condemned, err = m.handle(round+1).CondemnKeys(t.Context(), []store.Key{content.Key})
				return err
			},
		)
		require.NoError(t, errors.Join(errs...))
		require.Empty(t, condemned, "a key that moves from a session to its content is known all along")
		m.requireContent(t, repository, content, "an audit harms no upload that finishes")
		require.NotContains(t, m.garbage(t), content.Key, "an audit harms no upload that finishes")
	}
}

func auditStored(t *testing.T, m *index) {
	var want []store.StoredContent
	for i := range 5 {
		content := object(strings.Repeat("x", i+1))
		m.push(t, repository, content)
		want = append(want, store.StoredContent{Key: content.Key, Digest: content.Digest, Size: content.Size})
	}
	m.putText(t, repository, "inline")
	require.True(t, m.mark(t, store.Content{Digest: want[3].Digest, Key: want[3].Key}, true))
	want[3].Missing = true
	slices.SortFunc(want, func(a, b store.StoredContent) int { return strings.Compare(string(a.Key), string(b.Key)) })
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []store.StoredContent
		for after := store.Key(""); ; {
			page, err := m.last.StoredContents(t.Context(), after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit, "a page has up to limit contents")
			got = append(got, page...)
			require.LessOrEqual(t, len(got), len(want), "pages meet each content once")
			if len(page) < limit {
				break
			}
			after = page[limit-1].Key
		}
		require.Equal(t, want, got, "pages of %d are all contents that are objects, by key", limit)
	}
}

func auditMissing(t *testing.T, m *index) {
	content := object("x")
	m.push(t, repository, content)
	_, err := m.first.Mount(t.Context(), content.Digest, repository, "team/other")
	require.NoError(t, err)
	garbage := m.garbage(t)
	require.True(t, m.mark(t, content, true), "content that is marked has changed")
	require.False(t, m.mark(t, content, true), "content that was marked already has not")
	for _, name := range []string{repository, "team/other"} {
		m.requireNoContent(t, name, content.Digest, "content that is missing reads as absent, in every repository")
	}
	_, err = m.first.Mount(t.Context(), content.Digest, repository, "team/target")
	require.ErrorIs(t, err, store.ErrContentUnknown, "content that is missing cannot be mounted")
	require.NotContains(t, m.repositories(t), "team/target", "content that is missing cannot be mounted")
	m.requireGarbage(t, "marking condemns nothing", garbage...)

	require.True(t, m.mark(t, content, false), "content that is there after all has changed")
	require.False(t, m.mark(t, content, false), "content that is not marked has not")
	for _, name := range []string{repository, "team/other"} {
		m.requireContent(t, name, content, "content that is there after all reads as before, in every repository")
	}
}

func auditMissingManifest(t *testing.T, m *index) {
	layer, other := object("layer"), object("other")
	m.push(t, repository, layer)
	m.push(t, repository, other)
	accepted := imageOf(repository, "accepted", layer.Digest)
	m.putManifest(t, accepted)
	require.True(t, m.mark(t, layer, true))
	m.requireManifest(t, repository, byDigest(accepted.Manifest.Digest), accepted.Manifest, "a manifest whose layer is missing stays")
	refused := imageOf(repository, "refused", other.Digest, layer.Digest)
	var missing *store.MissingError
	require.ErrorAs(t, m.first.PutManifest(t.Context(), refused), &missing, "a manifest that refers to content that is missing is refused")
	require.Equal(t, []digest.Digest{layer.Digest}, missing.Digests, "a *MissingError names what is missing")
	allowed := refused
	allowed.AllowMissing = true
	require.NoError(t, m.first.PutManifest(t.Context(), allowed), "a manifest that may refer to what is missing is put")
	m.push(t, repository, object("layer"))
	m.putManifest(t, refused)
}

func auditHeal(t *testing.T, m *index) {
	for how, heal := range map[string]func(body string) store.Content{
		"a push": func(body string) store.Content {
			content := object(body)
			m.push(t, repository, content)
			return content
		},
		"a push to another repository": func(body string) store.Content {
			content := object(body)
			m.push(t, "team/other", content)
			return content
		},
		"inline content": func(body string) store.Content {
			m.putText(t, repository, body)
			return text(body)
		},
	} {
		missing := object(how)
		m.push(t, repository, missing)
		require.True(t, m.mark(t, missing, true))
		healed := heal(how)
		m.requireContent(t, repository, healed, "content that was missing is there again after "+how)
		m.requireCondemned(t, missing.Key, true, "the key of the object that was missing is garbage after "+how)
		require.False(t, m.mark(t, missing, true), "content that has another key by now is not marked")
		m.requireContent(t, repository, healed, "content that has another key by now is not marked")
	}
}

func auditMarkKey(t *testing.T, m *index) {
	content := object("x")
	m.push(t, repository, content)
	for name, wrong := range map[string]store.Content{
		"another key":     {Digest: content.Digest, Key: store.NewBlobKey()},
		"no key":          {Digest: content.Digest},
		"unknown content": object("never pushed"),
		"another content": {Digest: m.putText(t, repository, "other"), Key: content.Key},
		"inline content":  {Digest: digest.FromString("other")},
	} {
		require.False(t, m.mark(t, wrong, true), "only content that has the key is marked: %s", name)
		require.False(t, m.mark(t, wrong, false), "only content that has the key is marked: %s", name)
	}
	m.requireContent(t, repository, content, "only content that has the key is marked")
	m.requireContent(t, repository, text("other"), "only content that has the key is marked")
}

func auditCollectMissing(t *testing.T, m *index) {
	needed, free := object("needed"), object("free")
	m.push(t, repository, needed)
	m.push(t, repository, free)
	m.putManifest(t, imageOf(repository, "image", needed.Digest))
	require.True(t, m.mark(t, needed, true))
	require.True(t, m.mark(t, free, true))
	m.clock.Advance(grace)
	require.Equal(t, store.Reviewed{Candidates: 1, Links: 1, Contents: 1, Bytes: 4}, m.review(t), "content that is missing is collected like any other")
	require.Contains(t, m.garbage(t), free.Key)
	require.NotContains(t, m.garbage(t), needed.Key, "content that is missing stays while a manifest refers to it")
	require.True(t, m.mark(t, needed, false))
	m.requireContent(t, repository, needed, "content that is missing stays linked")
}

func auditDependents(t *testing.T, m *index) {
	layer := m.putText(t, repository, "layer")
	var want []store.ManifestAt
	for _, name := range []string{"b", "a-b", "a/b", repository} {
		m.putText(t, name, "layer")
		m.putText(t, name, "other")
		for i := range 3 {
			d := m.putManifest(t, imageOf(name, fmt.Sprint("image ", i), layer, digest.FromString("other"), layer))
			want = append(want, store.ManifestAt{Repository: name, Digest: d})
		}
		m.putManifest(t, imageOf(name, "unrelated", digest.FromString("other")))
	}
	slices.SortFunc(want, func(a, b store.ManifestAt) int {
		if a.Repository != b.Repository {
			return strings.Compare(a.Repository, b.Repository)
		}
		return strings.Compare(string(a.Digest), string(b.Digest))
	})
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []store.ManifestAt
		for after := (store.ManifestAt{}); ; {
			page, err := m.last.Dependents(t.Context(), layer, after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit, "a page has up to limit manifests")
			got = append(got, page...)
			require.LessOrEqual(t, len(got), len(want), "pages meet each manifest once, however often it refers to the content")
			if len(page) < limit {
				break
			}
			after = page[limit-1]
		}
		require.Equal(t, want, got, "pages of %d are all manifests that refer to the content, by repository and digest", limit)
	}

	image := want[0]
	list := m.putManifest(t, indexOf(image.Repository, "index", image.Digest))
	got, err := m.last.Dependents(t.Context(), image.Digest, store.ManifestAt{}, all)
	require.NoError(t, err)
	self := []store.ManifestAt{{Repository: image.Repository, Digest: list}}
	for _, at := range want {
		if at.Digest == image.Digest {
			self = append(self, at)
		}
	}
	require.ElementsMatch(t, self, got, "a manifest depends on its own bytes, and so does what lists it")
	got, err = m.last.Dependents(t.Context(), digest.FromString("never pushed"), store.ManifestAt{}, all)
	require.NoError(t, err)
	require.Empty(t, got, "nothing depends on what nothing refers to")
}
