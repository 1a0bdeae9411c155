package gc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

const day = 24 * time.Hour

func with(policies ...gc.Policy) *gc.Options {
	return &gc.Options{Policies: policies, Grace: 1000 * day}
}

func (w *world) tags(t *testing.T, name string) []string {
	t.Helper()
	tags, err := w.meta.Tags(t.Context(), name, "", 1<<20)
	require.NoError(t, err)
	return tags
}

func (w *world) hasManifest(t *testing.T, name, text string) bool {
	t.Helper()
	_, err := w.meta.Manifest(t.Context(), name, store.ManifestRef{Digest: digest.FromString(text)})
	return err == nil
}

func (w *world) pull(t *testing.T, text, tag string) {
	t.Helper()
	pull := store.Pull{Repository: repository, Digest: digest.FromString(text), Tag: tag}
	require.NoError(t, w.meta.RecordPulls(t.Context(), []store.Pull{pull}))
}

// requireForetold runs policies, after a preview that has to tell the same, with a reason for each.
func (w *world) requireForetold(t *testing.T, opts *gc.Options) gc.Stats {
	t.Helper()
	found, want := w.preview(t, opts)
	for _, f := range found {
		require.NotEmpty(t, f.Reason)
	}
	stats := w.once(t, opts)
	require.Equal(t, want.Tags, stats.Tags, "the preview told how many tags go: %v", found)
	require.Equal(t, want.Manifests, stats.Manifests, "the preview told how many manifests go: %v", found)
	return stats
}

func TestTagsGoThatAreOldAndNotAmongTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 6 {
			w.put(t, manifest{text: text(i), tags: []string{fmt.Sprint("pr-", i), fmt.Sprint("v", i)}})
			time.Sleep(day)
		}
		w.put(t, manifest{repository: "other/app", text: "other", tags: []string{"pr-0"}})
		opts := with(gc.Policy{Repositories: []string{"team/*"}, Keep: []string{"pr-0"}, Tags: []gc.TagRule{{Match: []string{"pr-*"}, KeepLast: 2, OlderThan: 4 * day}}})
		found, _ := w.preview(t, opts)
		require.Equal(t, "tag team/app pr-1 "+digest.FromString(text(1)).String()+": pushed 5d ago, more than 4d, and not among the last 2 of pr-*", found[0].String())
		require.Equal(t, 2, w.requireForetold(t, opts).Tags)
		require.Equal(t, []string{"pr-0", "pr-3", "pr-4", "pr-5", "v0", "v1", "v2", "v3", "v4", "v5"}, w.tags(t, repository),
			"what is kept, what is young, and what no rule matches stays")
		time.Sleep(100 * day)
		w.requireForetold(t, opts)
		require.Equal(t, []string{"pr-0", "pr-4", "pr-5"}, w.tags(t, repository)[:3], "the last two stay, whatever their age")
		require.Equal(t, []string{"pr-0"}, w.tags(t, "other/app"), "a repository that no pattern matches is left alone")
		require.True(t, w.hasManifest(t, repository, text(1)), "the manifest of a tag that goes stays")
	})
}

func TestNothingGoesWithoutAPolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{text: "untagged"})
		w.put(t, manifest{text: "tagged", tags: []string{"v1"}})
		time.Sleep(10_000 * day)
		stats := w.once(t, nil)
		require.Zero(t, stats.Manifests+stats.Tags)
		require.True(t, w.hasManifest(t, repository, "untagged"))
	})
}

func TestUntaggedManifestsGoThatNothingNeeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		child := w.put(t, manifest{text: "child"})
		kept := w.put(t, manifest{text: "index", children: []digest.Digest{child}, tags: []string{"v1"}})
		w.put(t, manifest{text: "signature", subject: kept})
		w.put(t, manifest{text: "orphan", subject: digest.FromString("never here")})
		w.put(t, manifest{text: "untagged"})
		w.put(t, manifest{text: "pulled"})
		time.Sleep(25 * day)
		w.pull(t, "pulled", "")
		w.put(t, manifest{text: "young"})
		time.Sleep(5 * day)
		opts := with(gc.Policy{Repositories: []string{"**"}, UntaggedOlderThan: 30 * day, KeepPulledWithin: 10 * day})
		require.Equal(t, 2, w.requireForetold(t, opts).Manifests)
		for text, stays := range map[string]bool{
			"child": true, "index": true, "signature": true, "pulled": true, "young": true, "orphan": false, "untagged": false,
		} {
			require.Equal(t, stays, w.hasManifest(t, repository, text), "whether %s stays", text)
		}
		time.Sleep(5*day + 2*time.Hour - time.Second)
		w.requireForetold(t, opts)
		require.True(t, w.hasManifest(t, repository, "pulled"), "a pull may have come up to two hours later than is recorded")
		time.Sleep(time.Second)
		w.requireForetold(t, opts)
		require.False(t, w.hasManifest(t, repository, "pulled"), "a pull counts for as long as the policy says")
	})
}

func TestPoliciesDecideBeforeAnythingGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 4 {
			w.put(t, manifest{text: text(i), tags: []string{fmt.Sprint("v", i)}})
			subject := w.put(t, manifest{text: fmt.Sprint("subject ", i)})
			w.put(t, manifest{text: fmt.Sprint("referrer ", i), subject: subject})
			w.put(t, manifest{text: fmt.Sprint("listed ", i), tags: []string{strings.Replace(subject.String(), ":", "-", 1)}})
			time.Sleep(day)
		}
		time.Sleep(10 * day)
		opts := with(gc.Policy{Repositories: []string{"**"}, UntaggedOlderThan: 2 * day, Tags: []gc.TagRule{{Match: []string{"**"}, KeepLast: 1}}})
		first := w.requireForetold(t, opts)
		require.Equal(t, 3, first.Tags)
		require.Equal(t, 4, first.Manifests, "the subjects")
		second := w.requireForetold(t, opts)
		require.Equal(t, 4, second.Tags, "those that list referrers of what is gone")
		require.Equal(t, 7, second.Manifests, "what has lost its last tag, or its subject, in the run before")
		require.Equal(t, 4, w.requireForetold(t, opts).Manifests)
		require.Equal(t, []string{"v3"}, w.tags(t, repository))
		require.True(t, w.hasManifest(t, repository, text(3)))
	})
}

func TestReferrerThatGoesForTwoReasonsIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		d := w.put(t, manifest{text: "image"})
		w.put(t, manifest{text: "signature", subject: d})
		require.NoError(t, w.meta.DeleteManifest(t.Context(), repository, d, nil))
		time.Sleep(10 * day)
		opts := with(gc.Policy{Repositories: []string{"**"}, Cascade: true, UntaggedOlderThan: 2 * day})
		require.Equal(t, 1, w.requireForetold(t, opts).Manifests)
	})
}

func TestPulledTagsStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{text: "a", tags: []string{"used", "unused"}})
		time.Sleep(40 * day)
		w.pull(t, "a", "used")
		time.Sleep(day)
		w.requireForetold(t, with(gc.Policy{
			Repositories: []string{"**"}, KeepPulledWithin: 7 * day,
			Tags: []gc.TagRule{{Match: []string{"*"}, OlderThan: 30 * day, Everything: true}},
		}))
		require.Equal(t, []string{"used"}, w.tags(t, repository))
	})
}

func TestTagsThatListReferrersStayWithTheirSubject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		here := w.put(t, manifest{text: "here", tags: []string{"latest"}})
		name := func(d digest.Digest) string { return strings.Replace(d.String(), ":", "-", 1) + ".sig" }
		gone := digest.FromString("gone")
		w.put(t, manifest{text: "signature", tags: []string{name(here), name(gone)}})
		time.Sleep(day)
		for i := range 3 {
			w.put(t, manifest{text: text(i), tags: []string{fmt.Sprint("v", i)}})
		}
		time.Sleep(day)
		w.requireForetold(t, with(gc.Policy{
			Repositories: []string{"**"}, Keep: []string{"latest"}, Tags: []gc.TagRule{{Match: []string{"**"}, KeepLast: 3}},
		}))
		require.ElementsMatch(t, []string{"latest", "v0", "v1", "v2", name(here)}, w.tags(t, repository))
	})
}

func TestImmutableTagsStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 4 {
			for _, name := range []string{repository, "team/other"} {
				w.put(t, manifest{repository: name, text: text(i), tags: []string{fmt.Sprint("v", i)}})
			}
			time.Sleep(day)
		}
		opts := with(gc.Policy{Repositories: []string{"**"}, Tags: []gc.TagRule{{Match: []string{"**"}, KeepLast: 1}}})
		opts.Immutable = func(name, tag string) bool { return name == repository && (tag == "v1" || tag == "v3") }
		require.Equal(t, 4, w.requireForetold(t, opts).Tags)
		require.Equal(t, []string{"v1", "v2", "v3"}, w.tags(t, repository), "immutable tags stay, and are not counted among the last")
		require.Equal(t, []string{"v3"}, w.tags(t, "team/other"))
	})
}

func TestEveryRuleThatMatchesATagHasToLetItGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{text: "a", tags: []string{"pr-1", "pr-1-final"}})
		time.Sleep(10 * day)
		w.requireForetold(t, with(gc.Policy{Repositories: []string{"**"}, Tags: []gc.TagRule{
			{Match: []string{"pr-*"}, OlderThan: 7 * day}, {Match: []string{"*-final"}, OlderThan: 30 * day},
		}}))
		require.Equal(t, []string{"pr-1-final"}, w.tags(t, repository))
	})
}

func TestFirstPolicyThatMatchesIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{repository: "team/safe", text: "a"})
		w.put(t, manifest{repository: "team/app", text: "a"})
		w.put(t, manifest{repository: "team/app/cache", text: "a"})
		time.Sleep(10 * day)
		w.requireForetold(t, with(
			gc.Policy{Repositories: []string{"team/safe"}}, gc.Policy{Repositories: []string{"team/*"}, UntaggedOlderThan: day},
		))
		repositories, err := w.meta.Repositories(t.Context(), "", 10)
		require.NoError(t, err)
		require.False(t, w.hasManifest(t, "team/app", "a"))
		require.True(t, w.hasManifest(t, "team/safe", "a"))
		require.True(t, w.hasManifest(t, "team/app/cache", "a"), "a star stays within its segment: %v", repositories)
	})
}

func TestWhatIsPushedOrPulledSinceItWasJudgedStays(t *testing.T) {
	t.Parallel()
	for _, event := range []string{"push", "pull"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.put(t, manifest{text: "tagged", tags: []string{"v1"}})
			w.put(t, manifest{text: "untagged"})
			time.Sleep(10 * day)
			change := func(text string, tags ...string) {
				if event == "push" {
					w.put(t, manifest{text: text, tags: tags})
				} else {
					w.pull(t, text, strings.Join(tags, ""))
				}
			}
			w.failOn(func(method string) error { // right before it is deleted
				switch method {
				case "ExpireTag":
					change("tagged", "v1")
				case "ExpireManifest":
					change("untagged")
				}
				return nil
			})
			stats := w.once(t, with(gc.Policy{
				Repositories: []string{"**"}, UntaggedOlderThan: day, KeepPulledWithin: day,
				Tags: []gc.TagRule{{Match: []string{"**"}, Everything: true}},
			}))
			require.Equal(t, 1, w.count("ExpireTag"))
			require.Equal(t, 1, w.count("ExpireManifest"))
			require.Zero(t, stats.Tags+stats.Manifests, event)
		})
	}
}

func TestPoliciesGoOnPastARepositoryThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 5 {
			w.put(t, manifest{repository: fmt.Sprint("team/", i), text: "a", tags: []string{"v1"}})
			w.put(t, manifest{repository: fmt.Sprint("team/", i), text: "b"})
		}
		time.Sleep(10 * day)
		listed := 0
		broken := func(method string) error {
			if method == "ManifestRecords" {
				if listed++; listed == 2 || listed == 4 {
					return errors.New("a row that cannot be read")
				}
			}
			return nil
		}
		w.failOn(broken)
		opts := with(gc.Policy{
			Repositories: []string{"**"}, UntaggedOlderThan: day, Tags: []gc.TagRule{{Match: []string{"v*"}, OlderThan: 100 * day}},
		})
		stats, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), opts)
		require.ErrorContains(t, err, "team/1: ", "the error names a repository that failed")
		require.ErrorContains(t, err, "2 failed", "the error says how many did")
		require.Equal(t, 3, stats.Manifests)
		for i := range 5 {
			require.Equal(t, i == 1 || i == 3, w.hasManifest(t, fmt.Sprint("team/", i), "b"), i)
		}

		ctx, cancel := context.WithCancel(t.Context())
		listed = 0
		opts.PolicyPause, opts.Pause = time.Hour, time.Minute
		ended := make(chan error)
		go func() { ended <- gc.Run(ctx, w.index(), w.hookedObjects(), opts) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, 5, listed, "a run meets each repository once")
		require.True(t, w.hasManifest(t, "team/3", "b"))
		w.failOn(nil)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.False(t, w.hasManifest(t, "team/1", "b"), "the next run meets what failed again")
		require.False(t, w.hasManifest(t, "team/3", "b"), "the next run meets what failed again")
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestTagsOfARepositoryThatFailsAreNotSaidToMatchNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{repository: "team/app", text: "a", tags: []string{"v1"}})
		w.failOn(func(method string) error {
			if method == "TagRecords" {
				return errors.New("a row that cannot be read")
			}
			return nil
		})
		var log bytes.Buffer
		opts := with(gc.Policy{Repositories: []string{"team/*"}, Tags: []gc.TagRule{{Match: []string{"v*"}, KeepLast: 1}}})
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		_, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), opts)
		require.ErrorContains(t, err, "team/app")
		require.NotContains(t, log.String(), "match nothing")
	})
}

func TestPoliciesStayWithARepositoryWhileTheIndexIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 5 {
			w.put(t, manifest{repository: fmt.Sprint("team/", i), text: "a"})
		}
		time.Sleep(10 * day)
		failures := 0
		w.failOn(func(method string) error {
			if method == "ExpireManifest" && failures < 1 {
				failures++
				return store.ErrUnavailable
			}
			return nil
		})
		opts := with(gc.Policy{Repositories: []string{"**"}, UntaggedOlderThan: day})
		stats, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), opts)
		require.ErrorContains(t, err, "team/0")
		require.Equal(t, 5, stats.Manifests)
	})
}

func TestStepsAreNamedInTheirOrder(t *testing.T) {
	t.Parallel()
	steps := gc.Steps()
	require.Less(t, slices.Index(steps, gc.StepCandidates), slices.Index(steps, gc.StepGarbage))
	require.Equal(t, gc.StepLook, steps[0])
}
