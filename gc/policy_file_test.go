package gc_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
)

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
		{Match: []string{"**"}, KeepLast: 1}, {Match: []string{"pr-*"}, OlderThan: day}, {Match: []string{"pr-*"}, OlderThan: time.Second, Everything: true},
	} {
		assert.NoError(t, gc.ValidatePolicies(rule(r)))
	}
	assert.NoError(t, gc.ValidatePolicies([]gc.Policy{{Repositories: []string{"**"}, UntaggedOlderThan: time.Second, Everything: true}}))
	for _, age := range []time.Duration{time.Second, day - 1} {
		hasty := rule(gc.TagRule{Match: []string{"v*"}, OlderThan: age})
		hasty[0].KeepPulledWithin = 30 * day
		assert.ErrorContains(t, gc.ValidatePolicies(hasty),
			"policies[0].tags[0].everything: the rule could delete everything that it matches: let olderThan be a day at least", age)
	}
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
		"policies: [{repositories: [a], untaggedOlderthan: 3d}]":                "untaggedOlderthan",
		"policies: [{repositories: [a], untaggedOlderThan: 3}]":                 `policies[0].untaggedOlderThan: age "3"`,
		"policies: [{repositories: [a], keepPulledWithin: 3 days}]":             `policies[0].keepPulledWithin: age "3 days"`,
		"policies: [{repositories: [a], untaggedOlderThan: 1s}]":                "policies[0].everything: untaggedOlderThan could",
		"policies: [{repositories: [a], keepPulledWithin: -3d}]":                `policies[0].keepPulledWithin: age "-3d"`,
		"policies: [{repositories: [a], tags: [{match: [a], olderThan: x}]":     "",
		"policies: [{repositories: [a], tags: [{match: [a], olderThan: x}]}]":   `policies[0].tags[0].olderThan: age "x"`,
		"policies: [{repositories: [a], tags: [{match: [a]}]}]":                 "policies[0].tags[0].everything",
		"policies: [{repositories: [a], tags: [{match: [v*], olderThan: 1s}]}]": "policies[0].tags[0].everything: the rule could",
		"policies: [{repositories: [a], tags: [{match: [a], keepLast: 5d}]}]":   `policies[0].tags[0].keepLast: want a whole number, not "5d"`,
		"policies: [{repositories: [a], tags: [{match: [a], keepLast: [1]}]}]":  `policies[0].tags[0].keepLast: want a whole number, not a list`,
		"policies: [{repositories: [a]}, {untaggedOlderThan: [3d]}]":            "policies[1].untaggedOlderThan: want an age such as 30d, not a list",
		"policies: [{repositories: [a], keepPulledWithin: {days: 3}}]":          "policies[0].keepPulledWithin: want an age such as 30d, not a mapping",
		"policies: [{repositories: a}]":                                         `policies[0].repositories: want a list of patterns, not "a"`,
		"policies: [{repositories: [[a]]}]":                                     "policies[0].repositories[0]: want a pattern, not a list",
		"policies: [{repositories: [a], cascade: sometimes}]":                   `policies[0].cascade: want true or false, not "sometimes"`,
		"policies: [{repositories: [a], tags: {match: [a]}}]":                   "policies[0].tags: want a list of rules, not a mapping",
		"policies: [{repositories: [a], tags: [v*]}]":                           `policies[0].tags[0]: want a rule for tags, with match and so on, not "v*"`,
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
