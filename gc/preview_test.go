package gc_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

// preview returns what would go.
func (w *world) preview(t *testing.T, opts *gc.Options) ([]gc.Finding, gc.Stats) {
	t.Helper()
	var found []gc.Finding
	before := w.calls
	w.calls = map[string]int{}
	stats, err := gc.Preview(t.Context(), w.index(), opts, func(f gc.Finding) error {
		found = append(found, f)
		return nil
	})
	require.NoError(t, err)
	for _, method := range []string{
		"ReviewCandidates", "SettleCandidate", "TakeGarbage", "ForgetGarbage", "EndSessions", "DrainRepositories", "ExpireManifest", "ExpireTag",
	} {
		require.Zero(t, w.calls[method], "a preview changes nothing")
	}
	w.calls = before
	return found, stats
}

func TestPreviewTellsWhatWouldGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		shared := w.push(t, repository, "shared by two")
		_, err := w.meta.Mount(ctx, shared.Digest, repository, "team/second")
		require.NoError(t, err)
		kept := w.push(t, repository, "kept elsewhere")
		_, err = w.meta.Mount(ctx, kept.Digest, repository, "team/keeper")
		require.NoError(t, err)
		w.put(t, manifest{repository: "team/keeper", text: "keeper", layers: []digest.Digest{kept.Digest}})
		w.push(t, repository, "alone")
		d := w.put(t, manifest{text: "deleted image"})
		require.NoError(t, w.meta.DeleteManifest(ctx, repository, d, nil))
		w.push(t, "team/gone", "of a deleted repository")
		require.NoError(t, w.meta.DeleteRepository(ctx, "team/gone"))
		w.once(t, nil)
		found, stats := w.preview(t, nil)
		require.Empty(t, found, "what has its grace stays")
		require.Zero(t, stats)

		time.Sleep(24 * time.Hour)
		for _, batch := range []int{1, 2, 1000} {
			found, stats = w.preview(t, &gc.Options{Batch: batch})
			contents := map[digest.Digest]int{}
			for _, f := range found {
				if f.Kind == gc.FindContent {
					contents[f.Digest]++
				}
				assert.NotEmpty(t, f.Reason)
			}
			assert.Equal(t, map[digest.Digest]int{
				shared.Digest: 1, digest.FromString("alone"): 1, d: 1, digest.FromString("of a deleted repository"): 1,
			}, contents, "each content that would go is told of once")
			assert.Contains(t, found, gc.Finding{
				Kind: gc.FindLink, Repository: repository, Digest: kept.Digest, Reason: "no manifest of the repository refers to it",
			})
		}
		done := w.once(t, nil)
		assert.Equal(t, done.Contents, stats.Contents, "a preview counts what then goes")
		assert.Equal(t, done.Bytes, stats.Bytes, "a preview counts what then goes")
		assert.Equal(t, done.Links, stats.Links, "a preview counts what then goes")
	})
}

func TestPreviewTellsOfDeletedRepositories(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for _, name := range []string{"team/first", "team/second"} {
			w.push(t, name, "in "+name)
			require.NoError(t, w.meta.DeleteRepository(t.Context(), name))
		}
		found, stats := w.preview(t, nil)
		require.Equal(t, []gc.Finding{{
			Kind: gc.FindRepository, Reason: "what is left of deleted ones would be taken apart; what only they had goes when its grace is over",
		}}, found, "told once")
		require.Zero(t, stats)
		require.Positive(t, w.once(t, nil).Drained)
		found, _ = w.preview(t, nil)
		require.Empty(t, found, "nothing of them is left")
	})
}

func TestPreviewEndsWithTheCallersError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.push(t, repository, "a")
		time.Sleep(24 * time.Hour)
		full := errors.New("disk is full")
		_, err := gc.Preview(t.Context(), w.index(), nil, func(gc.Finding) error { return full })
		require.ErrorIs(t, err, full)
		_, err = gc.Preview(t.Context(), w.index(), &gc.Options{Grace: -1}, nil)
		require.ErrorContains(t, err, "Grace")
	})
}

func TestFindingIsALine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "content team/app sha256:12 (7 bytes): why", gc.Finding{
		Kind: gc.FindContent, Repository: repository, Digest: "sha256:12", Size: 7, Reason: "why",
	}.String())
	require.Equal(t, "tag team/app v1 sha256:12: why", gc.Finding{
		Kind: gc.FindTag, Repository: repository, Digest: "sha256:12", Tag: "v1", Reason: "why",
	}.String())
	require.Equal(t, "upload team/app 1234 (7 bytes): why", gc.Finding{
		Kind: gc.FindUpload, Repository: repository, ID: "1234", Size: 7, Reason: "why",
	}.String())
	require.Equal(t, "object blobs/x (7 bytes): why", gc.Finding{Kind: gc.FindObject, Key: "blobs/x", Size: 7, Reason: "why"}.String())
	require.Equal(t, "repository: why", gc.Finding{Kind: gc.FindRepository, Reason: "why"}.String())
}

var cascading = &gc.Options{Policies: []gc.Policy{{Repositories: []string{"team/*"}, Cascade: true}}}

func TestReferrersGoWithTheirSubjectWhereThePolicyCascades(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		deleted := map[string]digest.Digest{}
		referrers := map[string]map[string]digest.Digest{}
		for _, name := range []string{repository, "other/app"} {
			d := w.put(t, manifest{repository: name, text: "image"})
			deleted[name] = d
			signature := w.put(t, manifest{repository: name, text: "signature", subject: d})
			parent := w.put(t, manifest{repository: name, text: "needed", subject: d})
			referrers[name] = map[string]digest.Digest{
				"signature": signature,
				"tagged":    w.put(t, manifest{repository: name, text: "tagged", subject: d, tags: []string{"sbom"}}),
				"needed":    parent,
				"nested":    w.put(t, manifest{repository: name, text: "nested", subject: signature}),
			}
			w.put(t, manifest{repository: name, text: "index", tags: []string{"index"}, children: []digest.Digest{parent}})
			require.NoError(t, w.meta.DeleteManifest(ctx, name, d, nil))
		}
		time.Sleep(time.Hour)
		late := w.put(t, manifest{text: "late", subject: deleted[repository]})
		time.Sleep(22 * time.Hour)
		w.once(t, cascading)
		has := func(name, which string) bool {
			_, err := w.meta.Manifest(ctx, name, store.ManifestRef{Digest: referrers[name][which]})
			return err == nil
		}
		require.True(t, has(repository, "signature"), "referrers have the grace that their subject has")
		time.Sleep(time.Hour)

		found, stats := w.preview(t, cascading)
		require.Equal(t, 1, stats.Manifests)
		require.Contains(t, found, gc.Finding{
			Kind: gc.FindManifest, Repository: repository, Digest: referrers[repository]["signature"], Size: int64(len("signature")),
			Reason: "its subject " + deleted[repository].String() + " was deleted",
		})
		require.Equal(t, 1, w.once(t, cascading).Manifests)
		require.False(t, has(repository, "signature"), "a referrer without a tag goes with its subject")
		require.False(t, w.has(t, repository, deleted[repository]), "the subject is collected")
		require.True(t, has(repository, "tagged"), "a referrer with a tag stays")
		require.True(t, has(repository, "needed"), "a referrer that a manifest refers to stays")
		require.True(t, has(repository, "nested"))
		require.True(t, w.has(t, repository, late), "a referrer that was pushed since its subject was deleted stays")
		for which := range referrers["other/app"] {
			require.True(t, has("other/app", which), "where nothing says cascade, referrers stay")
		}
		time.Sleep(24 * time.Hour)
		require.Equal(t, 1, w.once(t, cascading).Manifests)
		require.False(t, has(repository, "nested"), "referrers of referrers follow")
	})
}

func TestReferrersPushedAfterADeletionStayWhoeverRenewsTheContent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx := t.Context()
		d := w.put(t, manifest{text: "image"})
		early := w.put(t, manifest{text: "early", subject: d})
		require.NoError(t, w.meta.DeleteManifest(ctx, repository, d, nil))
		time.Sleep(time.Hour)
		late := w.put(t, manifest{text: "late", subject: d})
		time.Sleep(time.Hour)
		require.NoError(t, w.meta.PutContent(ctx, repository, store.Content{Digest: d, Size: 5, Inline: []byte("image")}))
		time.Sleep(23 * time.Hour)
		require.Zero(t, w.once(t, cascading).Manifests, "referrers have the grace that their subject's content has")
		time.Sleep(time.Hour)

		found, _ := w.preview(t, cascading)
		var told []digest.Digest
		for _, f := range found {
			if f.Kind == gc.FindManifest {
				told = append(told, f.Digest)
			}
		}
		require.Equal(t, []digest.Digest{early}, told)
		require.Equal(t, 1, w.once(t, cascading).Manifests)
		require.False(t, w.has(t, repository, d), "the content that was renewed is collected in the end")
		require.True(t, w.has(t, repository, late), "a referrer that was pushed since its subject was deleted stays")
	})
}

func TestCascadeThatFailsKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for _, name := range []string{"first", "second"} {
			d := w.put(t, manifest{text: name})
			w.put(t, manifest{text: "of " + name, subject: d})
			require.NoError(t, w.meta.DeleteManifest(t.Context(), repository, d, nil))
			time.Sleep(time.Second)
		}
		time.Sleep(24 * time.Hour)
		asked := 0
		w.failOn(func(method string) error {
			if method != "Referrers" {
				return nil
			}
			if asked++; asked == 2 { // the second's; before and after it, the first's
				return nil
			}
			return store.ErrUnavailable
		})
		stats, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), cascading)
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorContains(t, err, digest.FromString("first").String(), "the error names the subject")
		require.Equal(t, 1, stats.Manifests)
		require.True(t, w.has(t, repository, digest.FromString("of first")))
		w.failOn(nil)
		require.Equal(t, 1, w.once(t, cascading).Manifests, "what failed is done the next time")
	})
}

func TestReferrersStayWhoseSubjectIsBackOrWasNeverHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		d := w.put(t, manifest{text: "image"})
		w.put(t, manifest{text: "signature", subject: d})
		w.put(t, manifest{text: "early", subject: digest.FromString("comes later")})
		require.NoError(t, w.meta.DeleteManifest(t.Context(), repository, d, nil))
		w.put(t, manifest{text: "image"})
		time.Sleep(100 * time.Hour)
		require.Zero(t, w.once(t, cascading).Manifests)
		for _, text := range []string{"image", "signature", "early"} {
			require.True(t, w.has(t, repository, digest.FromString(text)), text)
		}
	})
}
