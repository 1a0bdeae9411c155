package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// collectorAgainTests prove that what the collector does can be done again, and ends with its context.
func collectorAgainTests() []metadataTest {
	return []metadataTest{
		{"AfterLostAnswersOfReviews", againReview},
		{"AfterLostAnswersOfGarbage", againGarbage},
		{"AfterLostAnswersOfEnds", againEnd},
		{"AfterLostAnswersOfDeletions", againDelete},
		{"AfterLostAnswersOfAudits", againAudit},
		{"AfterLostAnswersOfLooks", againLooks},
		{"AfterAContextThatEnded", againCancelled},
	}
}

func againReview(t *testing.T, m *index) {
	flaky := m.flaky()
	content := object("x")
	m.push(t, repository, content)
	d := m.putManifest(t, imageOf("team/held", "image"))
	require.NoError(t, m.first.DeleteManifest(t.Context(), "team/held", d, nil))
	m.clock.Advance(grace)
	var done store.Reviewed
	again(t, "ReviewCandidates", func() (err error) {
		done, err = flaky.ReviewCandidates(t.Context(), store.Review{Grace: grace, Limit: all, Hold: func(string) bool { return true }})
		return err
	})
	require.Len(t, done.Held, 1, "a review that is sent again returns what is held back again")
	require.Zero(t, done.Contents, "a review that is sent again finds done what the first one has done")
	require.Contains(t, m.garbage(t), content.Key, "a review whose answer was lost has condemned the key")
	again(t, "SettleCandidate", func() error { return flaky.SettleCandidate(t.Context(), done.Held[0]) })
	require.Equal(t, 1, m.review(t).Contents)
	require.Empty(t, m.candidates(t))
}

func againGarbage(t *testing.T, m *index) {
	flaky := m.flaky()
	keys := m.condemn(t, 2)
	m.clock.Advance(delay)
	var taken []store.Garbage
	again(t, "TakeGarbage", func() (err error) { taken, err = flaky.TakeGarbage(t.Context(), takeOf(all)); return err })
	require.Empty(t, taken, "garbage whose taker got no answer is put off, too")
	m.clock.Advance(5 * time.Minute)
	taken = m.take(t, all)
	require.ElementsMatch(t, keys, takenKeys(taken), "garbage whose taker got no answer is taken again")
	require.Equal(t, 2, taken[0].Tries)
	again(t, "ForgetGarbage", func() error { return flaky.ForgetGarbage(t.Context(), keys) })
	m.requireGarbage(t, "what was forgotten twice is no garbage")
}

func againEnd(t *testing.T, m *index) {
	flaky := m.flaky()
	id := m.create(t)
	s := m.claim(t, id)
	m.clock.Advance(sessionLife.Idle)
	again(t, "EndSessions", func() error { _, err := flaky.EndSessions(t.Context(), sessionLife, all); return err })
	m.requireGarbage(t, "sessions whose end had no answer have left their keys to the collector", s.Keys()...)
}

func againDelete(t *testing.T, m *index) {
	ctx, flaky := t.Context(), m.flaky()
	layer := m.putText(t, repository, "layer")
	put := imageOf(repository, "image", layer)
	d := m.putManifest(t, put, "latest")
	again(t, "RecordPulls", func() error {
		return flaky.RecordPulls(ctx, []store.Pull{{Repository: repository, Digest: d, Tag: "latest"}})
	})
	for _, event := range []struct {
		name string
		send func() error
		want error
	}{
		{"ExpireTag", func() error {
			return flaky.ExpireTag(ctx, store.TagExpiry{Repository: repository, Tag: "latest", Digest: d})
		}, store.ErrManifestUnknown},
		{"ExpireManifest", func() error {
			return flaky.ExpireManifest(ctx, store.ManifestExpiry{Repository: repository, Digest: d})
		}, store.ErrManifestUnknown},
		{"DeleteRepository", func() error { return flaky.DeleteRepository(ctx, repository) }, store.ErrRepositoryUnknown},
	} {
		require.ErrorIs(t, event.send(), errLost)
		require.ErrorIs(t, event.send(), event.want, "%s that is sent again finds that nothing is left to delete", event.name)
	}
	again(t, "DrainRepositories", func() error { _, err := flaky.DrainRepositories(ctx, all); return err })
	m.drain(t)
	m.requireCandidate(t, "", layer, "a drain whose answer was lost has left what is to be reviewed")
	m.clock.Advance(grace)
	require.Equal(t, 2, m.review(t).Contents)
}

func againAudit(t *testing.T, m *index) {
	flaky := m.flaky()
	content, orphan := object("x"), store.NewBlobKey()
	m.push(t, repository, content)
	again(t, "CondemnKeys", func() error { _, err := flaky.CondemnKeys(t.Context(), []store.Key{orphan}); return err })
	require.Contains(t, m.garbage(t), orphan)
	again(t, "MarkContent", func() error {
		_, err := flaky.MarkContent(t.Context(), content.Digest, content.Key, true)
		return err
	})
	m.requireNoContent(t, repository, content.Digest, "content whose mark had no answer reads as absent")
}

// collectorLooks returns a call of each method of the collector that only reads.
func collectorLooks(m store.Metadata) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Due": func(ctx context.Context) error { _, err := m.Due(ctx, store.Deadlines{}); return err },
		"PreviewCandidates": func(ctx context.Context) error {
			_, err := m.PreviewCandidates(ctx, 0, store.Candidate{}, all)
			return err
		},
		"PreviewGarbage": func(ctx context.Context) error {
			_, err := m.PreviewGarbage(ctx, takeOf(all), store.Garbage{})
			return err
		},
		"PreviewSessions": func(ctx context.Context) error {
			_, err := m.PreviewSessions(ctx, sessionLife, store.Outlived{}, all)
			return err
		},
		"UnknownKeys": func(ctx context.Context) error {
			_, err := m.UnknownKeys(ctx, []store.Key{store.NewBlobKey()})
			return err
		},
		"StoredContents": func(ctx context.Context) error { _, err := m.StoredContents(ctx, "", all); return err },
		"Dependents": func(ctx context.Context) error {
			_, err := m.Dependents(ctx, digest.FromString("x"), store.ManifestAt{}, all)
			return err
		},
		"ManifestRecords": func(ctx context.Context) error { _, err := m.ManifestRecords(ctx, repository, "", all); return err },
		"TagRecords":      func(ctx context.Context) error { _, err := m.TagRecords(ctx, repository, "", all); return err },
	}
}

func againLooks(t *testing.T, m *index) {
	for method, look := range collectorLooks(m.flaky()) {
		again(t, method, func() error { return look(t.Context()) })
	}
	for method, look := range collectorLooks(m.last) {
		require.Error(t, look(ended(t)), "%s honours its context: one that has ended fails it", method)
	}
}

func againCancelled(t *testing.T, m *index) {
	content := object("x")
	m.push(t, repository, content)
	id := m.create(t)
	s := m.claim(t, id)
	held := m.putManifest(t, imageOf(repository, "held"))
	require.NoError(t, m.first.DeleteManifest(t.Context(), repository, held, nil))
	m.putText(t, "team/deleted", "y")
	d := m.putManifest(t, imageOf(repository, "image"))
	m.putManifest(t, imageOf(repository, "tagged"), "latest")
	require.NoError(t, m.first.DeleteRepository(t.Context(), "team/deleted"))
	garbage, touched := m.garbage(t), m.candidates(t)
	m.clock.Advance(10 * grace)
	candidates, err := m.last.Candidates(t.Context(), 0, all)
	require.NoError(t, err)

	ctx := ended(t)
	_, errReview := m.first.ReviewCandidates(ctx, store.Review{Limit: all})
	_, errTake := m.first.TakeGarbage(ctx, takeOf(all))
	_, errEnd := m.first.EndSessions(ctx, sessionLife, all)
	_, errDrain := m.first.DrainRepositories(ctx, all)
	_, errCondemn := m.first.CondemnKeys(ctx, []store.Key{store.NewBlobKey()})
	_, errMark := m.first.MarkContent(ctx, content.Digest, content.Key, true)
	for method, err := range map[string]error{
		"ReviewCandidates":  errReview,
		"TakeGarbage":       errTake,
		"ForgetGarbage":     m.first.ForgetGarbage(ctx, garbage),
		"EndSessions":       errEnd,
		"DrainRepositories": errDrain,
		"DeleteRepository":  m.first.DeleteRepository(ctx, repository),
		"SettleCandidate":   m.first.SettleCandidate(ctx, candidates[0]),
		"CondemnKeys":       errCondemn,
		"MarkContent":       errMark,
		"RecordPulls":       m.first.RecordPulls(ctx, []store.Pull{{Repository: repository, Digest: d}}),
		"ExpireManifest":    m.first.ExpireManifest(ctx, store.ManifestExpiry{Repository: repository, Digest: d}),
		"ExpireTag":         m.first.ExpireTag(ctx, store.TagExpiry{Repository: repository, Tag: "latest", Digest: digest.FromString("tagged")}),
	} {
		require.Error(t, err, "%s honours its context: one that has ended fails it", method)
	}
	const message = "an event whose context had ended before it began changes nothing"
	m.requireContent(t, repository, content, message)
	m.requireManifest(t, repository, byDigest(d), imageOf(repository, "image").Manifest, message)
	require.Equal(t, []string{"latest"}, m.tags(t, repository), message)
	require.True(t, m.manifestRecord(t, d).Pulled.IsZero(), message)
	require.Equal(t, s.Version, m.session(t, id).Version, message)
	require.Len(t, m.candidates(t), len(touched), message)
	m.requireGarbage(t, message, garbage...)
	work, err := m.last.Due(t.Context(), store.Deadlines{Life: sessionLife})
	require.NoError(t, err)
	require.Equal(t, store.Work{Candidates: true, Garbage: true, Sessions: true, Repositories: true}, work, message)
	require.True(t, work.Any(), "work of each kind is work")
}
