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
	"github.com/stretchr/testify/assert"
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
		time.Sleep(5 * day)
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

func TestPatternThatMatchesNothingIsSaidOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{text: "a"})
		var log bytes.Buffer
		opts := with(gc.Policy{Repositories: []string{"team/**", "taem/**"}, UntaggedOlderThan: 100 * day})
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		w.once(t, opts)
		require.Equal(t, 1, strings.Count(log.String(), "WARN"))
		require.Contains(t, log.String(), "taem/**")
		found, _ := w.preview(t, opts)
		require.Equal(t, []gc.Finding{{Kind: gc.FindPattern, Repository: "taem/**", Reason: "it matches no repository"}}, found)
	})
}

func TestPartsOfPoliciesThatMatchNothingAreSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.put(t, manifest{text: "a", tags: []string{"v1", "pr-1"}})
		w.put(t, manifest{repository: "other/app", text: "a", tags: []string{"mian"}})
		var log bytes.Buffer
		opts := with(
			gc.Policy{Repositories: []string{"team/**"}, Keep: []string{"v*", "main"}, Tags: []gc.TagRule{
				{Match: []string{"pr-*", "br-*"}, KeepLast: 1}, {Match: []string{"v*"}, KeepLast: 1},
			}},
			gc.Policy{Repositories: []string{"team/app"}, Tags: []gc.TagRule{{Match: []string{"never"}, KeepLast: 1}}},
			gc.Policy{Repositories: []string{"none/*"}, Tags: []gc.TagRule{{Match: []string{"x"}, KeepLast: 1}}},
			gc.Policy{Repositories: []string{"other/*"}, Keep: []string{"main"}},
		)
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		w.once(t, opts)
		require.Equal(t, 1, strings.Count(log.String(), "WARN"))
		found, _ := w.preview(t, opts)
		var lines []string
		for _, f := range found {
			lines = append(lines, f.String())
			require.Contains(t, log.String(), f.String(), "what a preview finds is logged")
		}
		require.Equal(t, []string{
			"pattern none/*: it matches no repository",
			"pattern team/** main: policies[0].keep[1] matches no tag",
			"pattern team/** br-*: policies[0].tags[0].match[1] matches no tag",
			"pattern team/app: policies before policies[1] match every repository that it matches",
		}, lines)
	})
}

func TestPolicyThatFailsGoesOnWithTheSameRepository(t *testing.T) {
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
				return errors.New("away")
			}
			return nil
		})
		opts := with(gc.Policy{Repositories: []string{"**"}, UntaggedOlderThan: day})
		_, err := gc.Once(t.Context(), w.index(), w.hookedObjects(), opts)
		require.ErrorContains(t, err, "team/0")
		require.Equal(t, 5, w.once(t, opts).Manifests)
	})
}

func TestPolicyThatCouldDeleteEverythingIsRefusedUnlessSaidTwice(t *testing.T) {
	t.Parallel()
	rule := func(r gc.TagRule) []gc.Policy {
		return []gc.Policy{{Repositories: []string{"**"}, Tags: []gc.TagRule{r}}}
	}
	for want, policies := range map[string][]gc.Policy{
		"policies[0].tags[0].everything: the rule could":         rule(gc.TagRule{Match: []string{"**"}, OlderThan: day}),
		"policies[0].tags[0].everything: the":                    rule(gc.TagRule{Match: []string{"v*", "*"}, OlderThan: day}),
		"policies[0].tags[0].everything":                         rule(gc.TagRule{Match: []string{"pr-*"}}),
		"policies[0].tags[0].match: no pattern":                  rule(gc.TagRule{KeepLast: 1}),
		`policies[0].tags[0].match[1]: pattern "a["`:             rule(gc.TagRule{Match: []string{"b", "a["}, KeepLast: 1}),
		"policies[0].tags[0].keepLast: -1":                       rule(gc.TagRule{Match: []string{"b"}, KeepLast: -1}),
		"policies[0].tags[0].olderThan: -1ns":                    rule(gc.TagRule{Match: []string{"b"}, OlderThan: -1}),
		"policies[0].repositories: no pattern":                   {{UntaggedOlderThan: day}},
		"policies[0].repositories[0]: pattern":                   {{Repositories: []string{"***"}}},
		"policies[0].keep[0]: pattern":                           {{Repositories: []string{"a"}, Keep: []string{""}}},
		"policies[0].untaggedOlderThan: -1ns":                    {{Repositories: []string{"a"}, UntaggedOlderThan: -1}},
		"policies[0].everything: untaggedOlderThan could delete": {{Repositories: []string{"**"}, UntaggedOlderThan: day - 1}},
		"policies[1].keepPulledWithin: -1ns":                     {{Repositories: []string{"a"}}, {Repositories: []string{"a"}, KeepPulledWithin: -1}},
	} {
		assert.ErrorContains(t, gc.ValidatePolicies(policies), want)
	}
	for _, r := range []gc.TagRule{
		{Match: []string{"**"}, OlderThan: day, Everything: true}, {Match: []string{"pr-*"}, Everything: true},
		{Match: []string{"**"}, KeepLast: 1}, {Match: []string{"pr-*"}, OlderThan: day},
	} {
		assert.NoError(t, gc.ValidatePolicies(rule(r)))
	}
	assert.NoError(t, gc.ValidatePolicies([]gc.Policy{{Repositories: []string{"**"}, UntaggedOlderThan: time.Second, Everything: true}}))
}

func TestPoliciesAreParsedStrictly(t *testing.T) {
	t.Parallel()
	want := []gc.Policy{{
		Repositories: []string{"team/**"}, Cascade: true, UntaggedOlderThan: 30 * day, Everything: true, KeepPulledWithin: 12 * time.Hour, Keep: []string{"latest"},
		Tags: []gc.TagRule{{Match: []string{"pr-*"}, KeepLast: 5, OlderThan: 7 * day}, {Match: []string{"*"}, Everything: true}},
	}}
	for _, text := range []string{`
policies:
  - repositories: [team/**]
    cascade: true
    untaggedOlderThan: 30d
    everything: true
    keepPulledWithin: 12h
    keep: [latest]
    tags:
      - {match: [pr-*], keepLast: 5, olderThan: 168h}
      - {match: ["*"], everything: true}
`, `{"policies": [{"repositories": ["team/**"], "cascade": true, "untaggedOlderThan": "30d", "everything": true, "keepPulledWithin": "12h", "keep": ["latest"],
"tags": [{"match": ["pr-*"], "keepLast": 5, "olderThan": "7d"}, {"match": ["*"], "everything": true}]}]}`} {
		got, err := gc.ParsePolicies([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	none, err := gc.ParsePolicies(nil)
	require.NoError(t, err)
	require.Empty(t, none)
	for text, want := range map[string]string{
		"policies: [{repositories: [a], untaggedOlderthan: 3d}]":               "untaggedOlderthan",
		"policies: [{repositories: [a], untaggedOlderThan: 3}]":                `policies[0].untaggedOlderThan: age "3"`,
		"policies: [{repositories: [a], keepPulledWithin: 3 days}]":            `policies[0].keepPulledWithin: age "3 days"`,
		"policies: [{repositories: [a], untaggedOlderThan: 1s}]":               "policies[0].everything: untaggedOlderThan could",
		"policies: [{repositories: [a], keepPulledWithin: -3d}]":               `policies[0].keepPulledWithin: age "-3d"`,
		"policies: [{repositories: [a], tags: [{match: [a], olderThan: x}]":    "",
		"policies: [{repositories: [a], tags: [{match: [a], olderThan: x}]}]":  `policies[0].tags[0].olderThan: age "x"`,
		"policies: [{repositories: [a], tags: [{match: [a]}]}]":                "policies[0].tags[0].everything",
		"policies: [{repositories: [a], tags: [{match: [a], keepLast: 5d}]}]":  `policies[0].tags[0].keepLast: want a whole number, not "5d"`,
		"policies: [{repositories: [a], tags: [{match: [a], keepLast: [1]}]}]": `policies[0].tags[0].keepLast: want a whole number, not a list`,
		"policies: [{repositories: [a]}, {untaggedOlderThan: [3d]}]":           "policies[1].untaggedOlderThan: want an age such as 30d, not a list",
		"policies: [{repositories: [a], keepPulledWithin: {days: 3}}]":         "policies[0].keepPulledWithin: want an age such as 30d, not a mapping",
		"policies: [{repositories: a}]":                                        `policies[0].repositories: want a list of patterns, not "a"`,
		"policies: [{repositories: [[a]]}]":                                    "policies[0].repositories[0]: want a pattern, not a list",
		"policies: [{repositories: [a], cascade: sometimes}]":                  `policies[0].cascade: want true or false, not "sometimes"`,
		"policies: [{repositories: [a], tags: {match: [a]}}]":                  "policies[0].tags: want a list of rules, not a mapping",
		"policies: [{repositories: [a], tags: [v*]}]":                          `policies[0].tags[0]: want a rule for tags, with match and so on, not "v*"`,
		"[]":                            "the file: want a mapping with the key policies, not a list",
		"policies: {repositories: [a]}": "policies: want a list of policies, not a mapping",
		"policies: [{repositories: [a], keeep: [a], tags: &t 5}, {tags: *t}]": "policies[1].tags: want a list of rules",
		"policies: [{repositories: [a], keeep: [a], cascade: perhaps}]":       "keeep",
		"a: 1":                              "field a not found",
		"policies: []\n---\npolicies: []\n": "more than one document",
	} {
		_, err := gc.ParsePolicies([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzParsePolicies(f *testing.F) {
	f.Add([]byte("policies: [{repositories: [a], untaggedOlderThan: 3d, tags: [{match: [a*], keepLast: 3}]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		policies, err := gc.ParsePolicies(text)
		if err == nil {
			require.NoError(t, gc.ValidatePolicies(policies), "what is parsed is valid")
		}
	})
}

func TestPullsAreRecordedOffThePathAndBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		pulls := gc.NewPulls(3)
		opts := &gc.Options{Pulls: pulls}
		w.put(t, manifest{text: "a", tags: []string{"v1"}})
		time.Sleep(day)
		for range 100 {
			pulls.Record(repository, digest.FromString("a"), "v1")
		}
		stats := w.once(t, opts)
		require.Equal(t, 1, stats.Pulls, "a manifest that is pulled often is recorded once")
		require.Zero(t, stats.DroppedPulls)
		tags, err := w.meta.TagRecords(t.Context(), repository, "", 10)
		require.NoError(t, err)
		require.True(t, tags[0].Pulled.Equal(time.Now()))

		pulls.Record(repository, digest.FromString("a"), "v1")
		require.Zero(t, w.once(t, opts).Pulls, "it was recorded a moment ago")
		for i := range 10 {
			pulls.Record(repository, digest.FromString(text(i)), "")
		}
		stats = w.once(t, opts)
		require.Equal(t, 3, stats.Pulls)
		require.Equal(t, 7, stats.DroppedPulls, "what comes when it is full is dropped, and counted")
		time.Sleep(time.Hour)
		w.once(t, opts)
		pulls.Record(repository, digest.FromString(text(0)), "")
		time.Sleep(time.Hour)
		require.Equal(t, 1, w.once(t, opts).Pulls)
		pulls.Record(repository, digest.FromString(text(0)), "")
		require.Equal(t, 1, w.once(t, opts).Pulls, "it is recorded again after an hour")
	})
}

func TestPullsWaitWhileTheIndexIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		pulls := gc.NewPulls(0)
		pulls.Record(repository, "sha256:a", "")
		w.failOn(func(string) error { return store.ErrUnavailable })
		_, err := pulls.Flush(t.Context(), w.index())
		require.ErrorIs(t, err, store.ErrUnavailable)
		w.failOn(nil)
		stats, err := pulls.Flush(t.Context(), w.index())
		require.NoError(t, err)
		require.Equal(t, 1, stats.Pulls)
	})
}

func TestPullsAreRecordedWhereNobodyCollects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		d := w.put(t, manifest{text: "a", tags: []string{"v1", "v2"}})
		w.push(t, repository, "garbage")
		time.Sleep(2 * day)
		pulls := gc.NewPulls(0)
		ctx, cancel := context.WithCancel(t.Context())
		var seen gc.Stats
		ended := make(chan error)
		go func() {
			ended <- pulls.Run(ctx, w.index(), &gc.Options{Observe: func(e gc.Event) { seen.Add(e.Stats) }})
		}()
		pulled := func(tag string) bool {
			records, err := w.meta.TagRecords(t.Context(), repository, "", 10)
			require.NoError(t, err)
			return slices.ContainsFunc(records, func(r store.TagRecord) bool { return r.Name == tag && !r.Pulled.IsZero() })
		}
		w.failOn(func(string) error { return store.ErrUnavailable })
		pulls.Record(repository, d, "v1")
		time.Sleep(5 * time.Minute)
		require.False(t, pulled("v1"))
		w.failOn(nil)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.True(t, pulled("v1"), "what could not be recorded is recorded later")
		require.Equal(t, gc.Stats{Pulls: 1}, seen, "nothing but pulls is done")
		pulls.Record(repository, d, "v2")
		cancel()
		require.NoError(t, <-ended)
		require.True(t, pulled("v2"), "the last pulls are not forgotten with the process")
		require.ErrorContains(t, pulls.Run(t.Context(), w.index(), &gc.Options{Pause: -1}), "Pause")
	})
}

func TestStepsAreNamedInTheirOrder(t *testing.T) {
	t.Parallel()
	steps := gc.Steps()
	require.Less(t, slices.Index(steps, gc.StepCandidates), slices.Index(steps, gc.StepGarbage))
	require.Equal(t, gc.StepLook, steps[0])
}
