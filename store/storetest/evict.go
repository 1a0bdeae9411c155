package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// evictTests prove that an eviction takes what was pulled through and nobody wants, and nothing else.
func evictTests() []metadataTest {
	return []metadataTest{
		{"IsADeletionWithTags", evictManifest},
		{"TellsWhatItFrees", evictFreed},
		{"LeavesWhatWasPushed", evictPushed},
		{"WaitsForQuiet", evictQuiet},
		{"OfAManifestThatAnotherOneListsIsRefused", evictReferenced},
		{"OfAnUnknownManifestFails", evictUnknown},
		{"AndAPutExclude", racingEviction},
		{"AndAPullExclude", racingEvictionAndPull},
		{"BesideEvictionsOfTheSameLeavesNothing", racingEvictions},
	}
}

// evict evicts a manifest, and requires that it frees what it says.
func (m *index) evict(t *testing.T, name string, d digest.Digest) int64 {
	t.Helper()
	_, before := m.mirrored(t, all)
	freed, err := m.first.EvictManifest(t.Context(), store.ManifestEviction{Repository: name, Digest: d, Quiet: quiet})
	require.NoError(t, err)
	_, after := m.mirrored(t, all)
	require.Equal(t, before-after, freed, "an eviction frees what does not count any more")
	return freed
}

func evictManifest(t *testing.T, m *index) {
	layer := m.putText(t, hub, "layer")
	put := imageOf(hub, "image", layer)
	d := m.putManifest(t, put, "latest", "v1")
	other := imageOf(hub, "other")
	m.putManifest(t, other, "v2")
	m.clock.Advance(quiet)
	require.EqualValues(t, len("imagelayer"), m.evict(t, hub, d))
	m.requireNoManifest(t, hub, byDigest(d), "a manifest that was evicted is deleted")
	m.requireNoManifest(t, hub, byTag("latest"), "the tags of a manifest go with it")
	m.requireManifest(t, hub, byTag("v2"), other.Manifest, "an eviction leaves other manifests")
	m.requireNoContent(t, hub, d, "the link of a manifest goes with it")
	m.requireCandidate(t, hub, layer, "what a manifest that was evicted referred to is to be reviewed")
	m.requireCandidate(t, hub, d, "a manifest that was evicted is to be reviewed")
	m.clock.Advance(grace)
	require.Equal(t, 2, m.review(t).Contents, "what was evicted is collected by the ordinary way")
}

func evictFreed(t *testing.T, m *index) {
	put := func(name, text string, layers ...string) digest.Digest {
		t.Helper()
		image := imageOf(name, text)
		for _, layer := range layers {
			image.References = append(image.References, store.Reference{Digest: m.putText(t, name, layer)})
		}
		return m.putManifest(t, image)
	}
	first := put(hub, "first", "base", "of the first", "of the first")
	second := put(hub, "second", "base", "of the second")
	third := put(quay, "third", "base", "shared with a push")
	put(repository, "pushed", "base", "shared with a push")
	list := m.putManifest(t, indexOf(quay, "list", third))
	sparse := imageOf(quayApp, "sparse", digest.FromString("base"), digest.FromString("not here"))
	sparse.AllowMissing = true
	absent := m.putManifest(t, sparse)
	m.clock.Advance(quiet)
	require.EqualValues(t, len("firstof the first"), m.evict(t, hub, first), "what another manifest of the repository needs is not freed")
	require.EqualValues(t, len("secondof the second"), m.evict(t, hub, second), "what another mirrored repository needs is not freed")
	require.EqualValues(t, len("list"), m.evict(t, quay, list), "a child that is a manifest is not freed")
	require.EqualValues(t, len("sparse"), m.evict(t, quayApp, absent), "what was not here is not freed")
	require.EqualValues(t, len("thirdbaseshared with a push"), m.evict(t, quay, third), "what only pushed manifests need does not count any more")
	m.requireMirrored(t, "all was evicted")
	m.requireContent(t, repository, text("base"), "what a pushed manifest needs stays")
}

func evictPushed(t *testing.T, m *index) {
	put := imageOf(repository, "image", m.putText(t, repository, "layer"))
	d := m.putManifest(t, put, "latest")
	m.putManifest(t, imageOf(hub, "image", m.putText(t, hub, "layer")))
	m.clock.Advance(quiet)
	touched := m.candidates(t)
	_, err := m.first.EvictManifest(t.Context(), store.ManifestEviction{Repository: repository, Digest: d, Quiet: quiet})
	require.ErrorIs(t, err, store.ErrConditionFailed, "what was pushed is not evicted")
	require.Equal(t, touched, m.candidates(t), "an eviction that failed changes nothing")
	m.evict(t, hub, d)
	m.clock.Advance(grace)
	m.review(t)
	m.requireManifest(t, repository, byTag("latest"), put.Manifest, "what was pushed stays, whatever is evicted")
	m.requireContent(t, repository, text("layer"), "what was pushed stays, whatever is evicted")
}

func evictQuiet(t *testing.T, m *index) {
	put := imageOf(hub, "image")
	d := m.putManifest(t, put, "latest")
	evict := func(message string) {
		t.Helper()
		_, err := m.first.EvictManifest(t.Context(), store.ManifestEviction{Repository: hub, Digest: d, Quiet: quiet})
		require.ErrorIs(t, err, store.ErrConditionFailed, message)
		m.requireManifest(t, hub, byTag("latest"), put.Manifest, message)
	}
	m.clock.Advance(quiet - time.Second)
	evict("a manifest that was put within Quiet is not evicted")
	m.putManifest(t, put)
	m.clock.Advance(quiet - time.Second)
	evict("a manifest that was put again within Quiet is not evicted")
	require.NoError(t, m.first.RecordPulls(t.Context(), []store.Pull{{Repository: hub, Digest: d}}))
	m.clock.Advance(quiet - time.Second)
	evict("a manifest that was pulled within Quiet is not evicted")
	require.Empty(t, m.candidates(t), "an eviction that failed changes nothing")
	m.clock.Advance(time.Second)
	m.evict(t, hub, d)
}

func evictReferenced(t *testing.T, m *index) {
	image := imageOf(hub, "image")
	d := m.putManifest(t, image)
	list := m.putManifest(t, indexOf(hub, "index", d))
	m.clock.Advance(quiet)
	_, err := m.first.EvictManifest(t.Context(), store.ManifestEviction{Repository: hub, Digest: d, Quiet: quiet})
	requireReferenced(t, err, list, "a manifest that an index lists is not evicted")
	m.requireManifest(t, hub, byDigest(d), image.Manifest, "an eviction that failed changes nothing")
	m.evict(t, hub, list)
	m.evict(t, hub, d)
}

func evictUnknown(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(hub, "image"))
	for name, eviction := range map[string]store.ManifestEviction{
		"never there":              {Repository: hub, Digest: digest.FromString("none")},
		"of another repository":    {Repository: quay, Digest: d},
		"of an unknown repository": {Repository: "~none", Digest: d},
		"that is a blob":           {Repository: hub, Digest: m.putText(t, hub, "blob")},
	} {
		_, err := m.first.EvictManifest(t.Context(), eviction)
		require.ErrorIs(t, err, store.ErrManifestUnknown, "a manifest that is not there is not evicted: %s", name)
	}
}

func racingEviction(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		put := imageOf(hub, fmt.Sprint("image ", round))
		d := m.putManifest(t, put, "latest")
		m.clock.Advance(quiet)
		put.Tags = []string{"latest"}
		errs := r.run(
			func() error { return m.handle(round).PutManifest(t.Context(), put) },
			func() error {
				_, err := m.handle(round+1).EvictManifest(t.Context(), store.ManifestEviction{Repository: hub, Digest: d, Quiet: quiet})
				return err
			},
		)
		require.NoError(t, errs[0], "a manifest can be put while it is evicted")
		require.True(t, errs[1] == nil || errors.Is(errs[1], store.ErrConditionFailed), "an eviction beside a put succeeds before it, or fails with ErrConditionFailed: %v", errs[1])
		m.requireManifest(t, hub, byTag("latest"), put.Manifest, "a manifest that was put is there, whatever was evicted at the same time")
	}
}

func racingEvictionAndPull(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		put := imageOf(hub, fmt.Sprint("image ", round), m.putText(t, hub, fmt.Sprint("layer ", round)))
		d := m.putManifest(t, put)
		m.clock.Advance(quiet)
		errs := r.run(
			func() error {
				return m.handle(round).RecordPulls(t.Context(), []store.Pull{{Repository: hub, Digest: d}})
			},
			func() error {
				_, err := m.handle(round+1).EvictManifest(t.Context(), store.ManifestEviction{Repository: hub, Digest: d, Quiet: quiet})
				return err
			},
		)
		require.NoError(t, errs[0], "a pull can be recorded while the manifest is evicted")
		if errs[1] == nil {
			m.requireNoManifest(t, hub, byDigest(d), "an eviction that comes before a pull takes the manifest")
			continue
		}
		require.ErrorIs(t, errs[1], store.ErrConditionFailed, "an eviction that comes after a pull fails")
		m.requireManifest(t, hub, byDigest(d), put.Manifest, "a manifest that was pulled stays")
	}
}

func racingEvictions(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		var evictions []func() error
		for i, name := range []string{hub, quay, hub} {
			put := imageOf(name, fmt.Sprint("image ", i/2, " of ", round), m.putText(t, name, fmt.Sprint("a ", round)), m.putText(t, name, fmt.Sprint("b ", round)))
			d := m.putManifest(t, put)
			evictions = append(evictions, func() error {
				_, err := m.handle(i).EvictManifest(t.Context(), store.ManifestEviction{Repository: name, Digest: d, Quiet: quiet})
				return err
			})
		}
		m.clock.Advance(quiet)
		for _, err := range r.run(evictions...) {
			require.NoError(t, err, "manifests that share layers can be evicted at once")
		}
		m.requireMirrored(t, "all was evicted at once")
	}
	m.clock.Advance(grace)
	m.review(t)
	names, err := m.last.Repositories(t.Context(), "", all)
	require.NoError(t, err)
	require.Empty(t, names, "a repository whose manifests were all evicted goes with its last link")
}
