package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// raceTests prove that events of several replicas at once come out as if one had come after the other.
func raceTests() []metadataTest {
	return []metadataTest{
		{"ClaimsEachGetTheirVersionAndTheLastOneSaves", racingClaims},
		{"ClaimsAtAnOffsetSucceedOnlyBeforeItMoves", racingClaimAndSave},
		{"FinishesOfOneDigestKeepOneKey", racingFinishes},
		{"FinishAndDropAgree", racingFinishAndDrop},
		{"ManifestAndDeletionOfItsLayerExclude", racingManifestAndContent},
		{"IndexAndDeletionOfItsChildExclude", racingIndexAndChild},
		{"SharedLayerStaysACandidateWhenBothManifestsGo", racingDeletesOfSharing},
		{"FirstAndLastLinksOfARepositoryAgree", racingLinks},
		{"ConditionalPutsHaveOneWinner", racingConditions},
		{"LockedTagHasOneCreator", racingLockedTags},
		{"TagsNeverDangle", racingTags},
		{"EqualPushesAllSucceed", racingEqualPushes},
		{"MountAndDeletionOfItsSourceAgree", racingMount},
	}
}

// rounds is how often each race is run: enough to hit, short enough to run always.
const rounds = 50

// typed reports whether err is nil or one that the target matches.
func typed[E error](err error) bool {
	var target E
	return err == nil || errors.As(err, &target)
}

func racingClaims(t *testing.T, m *index) {
	const claims = 8
	for range rounds {
		id := m.create(t)
		got := make([]store.Session, claims)
		each(t, claims, claims, func(i int) (err error) {
			claim := claimOf(id)
			claim.Offset = 0
			got[i], err = m.handle(i).ClaimSession(t.Context(), claim)
			return err
		})
		versions, parts := map[int64]bool{}, map[int32]bool{}
		for _, s := range got {
			versions[s.Version] = true
			parts[s.LastPart] = true
		}
		require.Len(t, versions, claims, "each of several claims at once gets a version of its own")
		require.Len(t, parts, claims, "each of several claims at once gets part numbers of its own")
		errs := make([]error, claims)
		each(t, claims, claims, func(i int) error {
			errs[i] = m.handle(i).SaveSession(t.Context(), store.Save{ID: id, Version: got[i].Version, Progress: store.Progress{Offset: int64(i + 1)}})
			return nil
		})
		for i, err := range errs {
			if got[i].Version == claims {
				require.NoError(t, err, "the last of several claims at once saves")
				require.EqualValues(t, i+1, m.session(t, id).Offset, "only the last claim's save counts")
			} else {
				require.ErrorIs(t, err, store.ErrFenced, "all but the last of several claims at once are fenced off")
			}
		}
	}
}

func racingClaimAndSave(t *testing.T, m *index) {
	var r race
	for range rounds {
		id := m.create(t)
		s := m.claim(t, id)
		var taken store.Session
		errs := r.run(
			func() error {
				return m.first.SaveSession(t.Context(), store.Save{ID: id, Version: s.Version, Progress: store.Progress{Offset: 10}})
			},
			func() (err error) {
				claim := claimOf(id)
				claim.Offset = 0
				taken, err = m.last.ClaimSession(t.Context(), claim)
				return err
			},
		)
		if errs[1] == nil {
			require.ErrorIs(t, errs[0], store.ErrFenced, "a claim at offset 0 that succeeded was before the save that moves it, and fences it")
			require.Zero(t, taken.Offset)
			require.Zero(t, m.session(t, id).Offset, "a save that was fenced off counts nothing")
			continue
		}
		var wrong *store.OffsetError
		require.ErrorAs(t, errs[1], &wrong, "a claim at offset 0 after a save fails with *OffsetError")
		require.EqualValues(t, 10, wrong.Session.Offset, "an *OffsetError carries the session as it stands")
		require.NoError(t, errs[0], "a claim that failed does not fence the save")
		require.EqualValues(t, 10, m.session(t, id).Offset)
	}
}

func racingFinishes(t *testing.T, m *index) {
	const uploads = 4
	for round := range rounds {
		contents := make([]store.Content, uploads)
		sessions := make([]store.Session, uploads)
		for i := range uploads {
			contents[i] = object(fmt.Sprint("round ", round))
			id := m.create(t)
			s, err := m.first.ClaimSession(t.Context(), store.Claim{SessionRef: ref(id), Reserve: store.Reservation{Blob: contents[i].Key}})
			require.NoError(t, err)
			sessions[i] = s
		}
		each(t, uploads, uploads, func(i int) error {
			return m.handle(i).FinishSession(t.Context(), store.Finish{ID: sessions[i].ID, Version: sessions[i].Version, Content: contents[i]})
		})
		got, err := m.last.Content(t.Context(), repository, contents[0].Digest)
		require.NoError(t, err)
		garbage := map[store.Key]bool{}
		for _, key := range m.garbage(t) {
			garbage[key] = true
		}
		kept := 0
		for _, content := range contents {
			if content.Key == got.Key {
				kept++
				require.False(t, garbage[content.Key], "the key that content is under is not garbage")
			} else {
				require.True(t, garbage[content.Key], "of several uploads of one digest, all keys but the content's are garbage, exactly once")
			}
		}
		require.Equal(t, 1, kept, "of several uploads of one digest, one key is the content's")
	}
}

func racingFinishAndDrop(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		id := m.create(t)
		content := object(fmt.Sprint("round ", round))
		s, err := m.first.ClaimSession(t.Context(), store.Claim{SessionRef: ref(id), Reserve: store.Reservation{Blob: content.Key}})
		require.NoError(t, err)
		errs := r.run(
			func() error {
				return m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content})
			},
			func() error { _, err := m.last.DropSession(t.Context(), ref(id)); return err },
		)
		if errs[0] == nil {
			require.ErrorIs(t, errs[1], store.ErrSessionUnknown, "an upload that was finished cannot be dropped")
			m.requireContent(t, repository, content, "an upload that was finished is content")
			require.NotContains(t, m.garbage(t), content.Key, "an upload that was finished keeps its object")
			continue
		}
		require.ErrorIs(t, errs[0], store.ErrFenced, "an upload that was dropped cannot be finished")
		require.NoError(t, errs[1])
		m.requireNoContent(t, repository, content.Digest, "an upload that was dropped is no content")
		require.Contains(t, m.garbage(t), content.Key, "an upload that was dropped leaves its object to the collector")
	}
}

func racingManifestAndContent(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		var layers []digest.Digest
		for i := range 3 {
			layers = append(layers, m.putText(t, repository, fmt.Sprint("layer ", i, " of round ", round)))
		}
		put := imageOf(repository, fmt.Sprint("image of round ", round), layers...)
		put.Tags = []string{"latest"}
		errs := r.run(
			func() error { return m.handle(round).PutManifest(t.Context(), put) },
			func() error { return m.handle(round+1).DeleteContent(t.Context(), repository, layers[round%3]) },
		)
		require.True(t, typed[*store.MissingError](errs[0]), "a manifest beside the deletion of its layer is put, or refused with *MissingError: %v", errs[0])
		require.True(t, typed[*store.ReferencedError](errs[1]), "a deletion beside a manifest that needs the layer succeeds, or is refused with *ReferencedError: %v", errs[1])
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "either the manifest is refused or its layer stays, and no third outcome: put %v, delete %v", errs[0], errs[1])
		if errs[0] == nil {
			for _, layer := range layers {
				_, err := m.last.Content(t.Context(), repository, layer)
				require.NoError(t, err, "all that an accepted manifest refers to is there")
			}
			continue
		}
		m.requireNoManifest(t, repository, byDigest(put.Manifest.Digest), "a manifest that was refused is not there")
	}
}

func racingIndexAndChild(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		child := m.putManifest(t, imageOf(repository, fmt.Sprint("child ", round)))
		put := indexOf(repository, fmt.Sprint("index ", round), child)
		errs := r.run(
			func() error { return m.handle(round).PutManifest(t.Context(), put) },
			func() error { return m.handle(round+1).DeleteManifest(t.Context(), repository, child, nil) },
		)
		require.True(t, typed[*store.MissingError](errs[0]), "an index beside the deletion of its child is put, or refused with *MissingError: %v", errs[0])
		require.True(t, typed[*store.ReferencedError](errs[1]), "a deletion beside an index that lists it succeeds, or is refused with *ReferencedError: %v", errs[1])
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "either the index is refused or its child stays, and no third outcome: put %v, delete %v", errs[0], errs[1])
		_, err := m.last.Manifest(t.Context(), repository, byDigest(child))
		require.Equal(t, errs[0] == nil, err == nil, "the child is there exactly if the index was accepted")
	}
}

func racingDeletesOfSharing(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		shared := m.putText(t, repository, fmt.Sprint("shared ", round))
		one := m.putManifest(t, imageOf(repository, fmt.Sprint("one ", round), shared))
		two := m.putManifest(t, imageOf(repository, fmt.Sprint("two ", round), shared))
		for _, err := range r.run(
			func() error { return m.first.DeleteManifest(t.Context(), repository, one, nil) },
			func() error { return m.last.DeleteManifest(t.Context(), repository, two, nil) },
		) {
			require.NoError(t, err)
		}
		m.requireCandidate(t, repository, shared, "a layer whose manifests are deleted at the same time is to be reviewed, though each saw the other's edge")
		require.NoError(t, m.first.DeleteContent(t.Context(), repository, shared))
	}
}

func racingLinks(t *testing.T, m *index) {
	const name, workers = "team/flapping", 6
	each(t, workers, workers, func(i int) error {
		content := text(fmt.Sprint("content ", i/2)) // each with two workers
		for range rounds {
			if err := m.handle(i).PutContent(t.Context(), name, content); err != nil {
				return fmt.Errorf("put: %w", err)
			}
			if _, err := m.handle(i+1).Tags(t.Context(), name, "", all); err != nil && !errors.Is(err, store.ErrRepositoryUnknown) {
				return fmt.Errorf("tags: %w", err)
			}
			if err := m.handle(i+1).DeleteContent(t.Context(), name, content.Digest); err != nil && !errors.Is(err, store.ErrContentUnknown) {
				return fmt.Errorf("delete: %w", err)
			}
		}
		return nil
	})
	require.NotContains(t, m.repositories(t), name, "a repository goes with its last link, whoever links and unlinks at the same time")
	for i := range workers {
		m.requireNoContent(t, name, text(fmt.Sprint("content ", i/2)).Digest, "each link was deleted after it was made")
	}

	each(t, workers, workers, func(i int) error {
		return m.handle(i).PutContent(t.Context(), name, text(fmt.Sprint("content ", i)))
	})
	require.Contains(t, m.repositories(t), name, "several first links at once make one repository")
	for i := range workers {
		m.requireContent(t, name, text(fmt.Sprint("content ", i)), "several first links at once are all there")
	}
}

func racingConditions(t *testing.T, m *index) {
	const writers = 4
	var r race
	for round := range rounds {
		var winner int
		puts := make([]store.ManifestPut, writers)
		calls := make([]func() error, writers)
		for i := range writers {
			puts[i] = imageOf(repository, fmt.Sprint("writer ", i, " of round ", round))
			puts[i].Tags, puts[i].Condition.Absent = []string{fmt.Sprint("tag-", round)}, true
			calls[i] = func() error { return m.handle(i).PutManifest(t.Context(), puts[i]) }
		}
		won := 0
		for i, err := range r.run(calls...) {
			if err == nil {
				won, winner = won+1, i
				continue
			}
			require.ErrorIs(t, err, store.ErrConditionFailed, "of several puts of an absent tag, all but one fail with ErrConditionFailed")
			m.requireNoManifest(t, repository, byDigest(puts[i].Manifest.Digest), "a put whose condition failed stores nothing")
		}
		require.Equal(t, 1, won, "of several puts of an absent tag, exactly one wins")
		m.requireManifest(t, repository, byTag(puts[0].Tags[0]), puts[winner].Manifest, "the tag points to the winner's manifest")
	}
}

func racingLockedTags(t *testing.T, m *index) {
	const writers = 4
	var r race
	for round := range rounds {
		calls := make([]func() error, writers)
		for i := range writers {
			put := imageOf(repository, fmt.Sprint("writer ", i, " of round ", round))
			put.Tags, put.Locked = []string{fmt.Sprint("v", round)}, func(string) bool { return true }
			calls[i] = func() error { return m.handle(i).PutManifest(t.Context(), put) }
		}
		won := 0
		for _, err := range r.run(calls...) {
			if err == nil {
				won++
			}
			require.True(t, typed[*store.TagLockedError](err), "of several puts of a locked tag, all but the first fail with *TagLockedError: %v", err)
		}
		require.Equal(t, 1, won, "of several puts of a locked tag, exactly one creates it")
	}
}

func racingTags(t *testing.T, m *index) {
	const manifests, writers = 3, 4
	puts := make([]store.ManifestPut, manifests)
	for i := range puts {
		puts[i] = imageOf(repository, fmt.Sprint("manifest ", i))
		puts[i].Tags = []string{"latest", "stable"}
	}
	writer := func(i int) func() error {
		return func() error {
			for round := range rounds {
				put := puts[(i+round)%manifests]
				if err := m.handle(i).PutManifest(t.Context(), put); err != nil {
					return fmt.Errorf("put: %w", err)
				}
				other := puts[(i+round+1)%manifests].Manifest.Digest
				if err := m.handle(i).DeleteManifest(t.Context(), repository, other, nil); err != nil && !errors.Is(err, store.ErrManifestUnknown) {
					return fmt.Errorf("delete: %w", err)
				}
			}
			return nil
		}
	}
	reader := func(i int) func() error {
		return func() error {
			for range 3 * rounds {
				got, err := m.handle(i).Manifest(t.Context(), repository, byTag("latest"))
				if errors.Is(err, store.ErrManifestUnknown) {
					continue
				}
				if err != nil {
					return fmt.Errorf("get: %w", err)
				}
				if digest.FromBytes(got.Bytes) != got.Digest {
					return fmt.Errorf("a manifest has another one's bytes: %s", got.Digest)
				}
			}
			return nil
		}
	}
	calls := []func() error{reader(0), reader(1)}
	for i := range writers {
		calls = append(calls, writer(i))
	}
	for _, err := range together(calls...) {
		require.NoError(t, err)
	}
	tags, err := m.last.Tags(t.Context(), repository, "", all)
	if !errors.Is(err, store.ErrRepositoryUnknown) {
		require.NoError(t, err)
	}
	for _, tag := range tags {
		_, err := m.last.Manifest(t.Context(), repository, byTag(tag))
		require.NoError(t, err, "a tag never points to a manifest that is not there, whoever deletes at the same time (%s)", tag)
	}
	for _, put := range puts {
		_, err := m.last.Manifest(t.Context(), repository, byDigest(put.Manifest.Digest))
		_, linked := m.last.Content(t.Context(), repository, put.Manifest.Digest)
		require.Equal(t, err == nil, linked == nil, "a manifest is there together with its link")
	}
}

func racingEqualPushes(t *testing.T, m *index) {
	const pushers, layers = 6, 4
	for round := range rounds / 4 {
		bodies := make([]string, layers)
		digests := make([]digest.Digest, layers)
		for i := range bodies {
			bodies[i] = fmt.Sprint("layer ", i, " of round ", round)
			digests[i] = digest.FromString(bodies[i])
		}
		image := imageOf(repository, fmt.Sprint("image of round ", round), digests...)
		image.Tags = []string{"latest"}
		each(t, pushers, pushers, func(i int) error {
			for j := range bodies { // each pusher in another order
				if err := m.handle(i).PutContent(t.Context(), repository, text(bodies[(i+j)%layers])); err != nil {
					return fmt.Errorf("put layer: %w", err)
				}
			}
			mine := image
			mine.References = nil
			for j := range digests {
				mine.References = append(mine.References, image.References[(i+j)%layers])
			}
			if err := m.handle(i).PutManifest(t.Context(), mine); err != nil {
				return fmt.Errorf("put manifest: %w", err)
			}
			list := indexOf(repository, fmt.Sprint("index ", i, " of round ", round), image.Manifest.Digest)
			if err := m.handle(i+1).PutManifest(t.Context(), list); err != nil {
				return fmt.Errorf("put index: %w", err)
			}
			return nil
		})
		m.requireManifest(t, repository, byTag("latest"), image.Manifest, "equal pushes at once all succeed, and leave one image")
		for _, body := range bodies {
			m.requireContent(t, repository, text(body), "equal pushes at once leave every layer")
		}
		var referenced *store.ReferencedError
		require.ErrorAs(t, m.first.DeleteManifest(t.Context(), repository, image.Manifest.Digest, nil), &referenced, "each of the indexes is an edge")
	}
	m.requireGarbage(t, "equal pushes of inline content condemn nothing")
}

func racingMount(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		body := fmt.Sprint("layer of round ", round)
		d := m.putText(t, repository, body)
		errs := r.run(
			func() error {
				_, err := m.handle(round).Mount(t.Context(), d, repository, "team/target")
				return err
			},
			func() error { return m.handle(round+1).DeleteContent(t.Context(), repository, d) },
		)
		require.NoError(t, errs[1], "a mount does not keep its source")
		if errs[0] != nil {
			require.ErrorIs(t, errs[0], store.ErrContentUnknown, "a mount beside the deletion of its source succeeds, or fails with ErrContentUnknown")
			m.requireNoContent(t, "team/target", d, "a mount that failed makes no link")
			continue
		}
		m.requireContent(t, "team/target", text(body), "a mount that succeeded has its content, whatever became of its source")
		_, isCandidate := m.candidates(t)[place{"team/target", d}]
		require.True(t, isCandidate, "a mount that succeeded is a candidate")
	}
}
