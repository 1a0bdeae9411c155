package auth_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/auth"
)

func TestPolicyGrantsWhatARuleSaysAndNothingElse(t *testing.T) {
	t.Parallel()
	policy := newPolicy(t, `
rules:
  - users: [anonymous]
    repositories: ["public/**", "demo-*"]
    actions: [pull]
  - users: ["*"]
    repositories: [shared/app]
    actions: [pull]
  - users: [ci, 007]
    repositories: ["team/*"]
    actions: [pull, push]
  - users: [ci]
    repositories: [team/old]
    actions: [delete]
`)
	const pull, push, remove, list = registry.ActionPull, registry.ActionPush, registry.ActionDelete, registry.ActionList
	for _, test := range []struct {
		user       string
		action     registry.Action
		repository string
		want       bool
	}{
		{"", pull, "public/app", true},
		{"", pull, "public/a/b/c", true},
		{"", pull, "public", false},
		{"", pull, "publicity/app", false},
		{"", pull, "other/public/app", false},
		{"", pull, "demo-1", true},
		{"", pull, "demo-1/app", false},
		{"", push, "public/app", false},
		{"", remove, "public/app", false},
		{"", pull, "shared/app", false},
		{"", pull, "team/app", false},
		{"", list, "", false},
		{"eve", pull, "public/app", true}, // who logs in loses nothing
		{"eve", pull, "shared/app", true},
		{"eve", pull, "shared/app2", false},
		{"eve", push, "shared/app", false},
		{"eve", pull, "team/app", false},
		{"eve", list, "", true},
		{"ci", pull, "team/app", true},
		{"ci", push, "team/app", true},
		{"ci", push, "team/app/cache", false},
		{"ci", remove, "team/app", false},
		{"ci", remove, "team/old", true},
		{"ci", push, "public/app", false},
		{"CI", push, "team/app", false},
		{"007", push, "team/app", true},
		{"7", push, "team/app", false},
		{"anonymous", pull, "team/app", false},
		{"*", push, "team/app", false},
	} {
		got := policy.Allows(test.user, registry.Access{Repository: test.repository, Action: test.action})
		assert.Equal(t, test.want, got, "user %q may %s in %q", test.user, test.action, test.repository)
	}
}

func TestPolicyIsReadInEveryFormThatYAMLHas(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"flow":     `rules: [{users: [ci], repositories: ["team/**"], actions: [pull]}]`,
		"JSON":     `{"rules": [{"users": ["ci"], "repositories": ["team/**"], "actions": ["pull"]}]}`,
		"block":    "---\nrules:\n- actions:\n  - pull\n  users:\n  - ci # the robot\n  repositories:\n  - 'team/**'\n...\n",
		"aliases":  "rules:\n- &r {users: &u [ci], repositories: [\"team/**\"], actions: [pull]}\n- *r\n- {users: *u, repositories: [x], actions: [pull]}\n",
		"CRLF":     "rules:\r\n- users: [ci]\r\n  repositories: [\"team/**\"]\r\n  actions: [pull]\r\n",
		"BOM":      "\ufeffrules: [{users: [ci], repositories: [\"team/**\"], actions: [pull]}]",
		"repeated": "rules:\n- {users: [ci, ci], repositories: [\"team/**\", \"team/**\"], actions: [pull, pull]}\n",
	} {
		policy, err := auth.ParsePolicy([]byte(text))
		require.NoError(t, err, name)
		assert.True(t, policy.Allows("ci", registry.Access{Repository: "team/app", Action: registry.ActionPull}), name)
		assert.False(t, policy.Allows("", registry.Access{Repository: "team/app", Action: registry.ActionPull}), name)
	}
	policy := newPolicy(t, "rules: []")
	assert.False(t, policy.Allows("ci", registry.Access{Repository: "team/app", Action: registry.ActionPull}), "no rule allows nothing")
}

func TestBadPolicyIsRefusedWithLineAndKey(t *testing.T) {
	t.Parallel()
	const good = "rules:\n  - users: [ci]\n    repositories: [x]\n"
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"empty":                    {"", []string{"line 1", "empty", "rules: []"}},
		"a comment":                {"# nothing\n", []string{"line 1", "empty"}},
		"null":                     {"null\n", []string{"line 1", "rules"}},
		"a list":                   {"- users: [ci]\n", []string{"line 1", "rules"}},
		"no rules":                 {"{}\n", []string{"line 1", `no "rules"`}},
		"rules without a list":     {"rules:\n", []string{"line 1", "rules", "list"}},
		"an unknown key":           {"rules: []\nusers: [ci]\n", []string{"line 2", `unknown key "users"`, "want rules"}},
		"an unknown key in a rule": {good + "    action: [pull]\n", []string{"line 4", `unknown key "action"`, "users, repositories, actions"}},
		"a key twice":              {good + "    users: [bob]\n", []string{"line 4", `second "users"`}},
		"a merge":                  {"rules:\n  - &a {users: [ci], repositories: [x], actions: [pull]}\n  - <<: *a\n", []string{"line 3", `unknown key "<<"`}},
		"a missing key":            {good, []string{"line 2", `no "actions"`}},
		"a rule that is text":      {"rules:\n  - pull\n", []string{"line 2", "a rule", "users"}},
		"a user that is no list":   {"rules:\n  - users: ci\n    repositories: [x]\n    actions: [pull]\n", []string{"line 2", "users", "list"}},
		"an empty list":            {good + "    actions: []\n", []string{"line 4", "actions", "empty"}},
		"a list in a list":         {good + "    actions: [[pull]]\n", []string{"line 4", "actions", "want text"}},
		"nothing in a list":        {good + "    actions: [~]\n", []string{"line 4", "actions", "want text"}},
		"an unknown action":        {good + "    actions:\n      - pull\n      - write\n", []string{"line 6", "actions", `"write"`, "pull, push or delete"}},
		"listing":                  {good + "    actions: [list]\n", []string{"line 4", `"list"`}},
		"push without pull":        {good + "    actions: [push]\n", []string{"line 4", "[pull, push]"}},
		"an unquoted star":         {"rules:\n  - users: [ci]\n    repositories: [**]\n    actions: [pull]\n", []string{"line ", "quotes"}},
		"a pattern that is none":   {"rules:\n  - users: [ci]\n    repositories: [\"a b\"]\n    actions: [pull]\n", []string{"line 3", "repositories", `"a b"`}},
		"a name in capitals":       {"rules:\n  - users: [ci]\n    repositories: [\"Team/**\"]\n    actions: [pull]\n", []string{"line 3", "repositories", `"Team/**"`, "lower-case"}},
		"a slash at the end":       {"rules:\n  - users: [ci]\n    repositories: [team/]\n    actions: [pull]\n", []string{"line 3", "repositories", `"team/"`}},
		"a user with a colon":      {"rules:\n  - users: [\"a:b\"]\n    repositories: [x]\n    actions: [pull]\n", []string{"line 2", "users", `"a:b"`, "colon"}},
		"a user without a name":    {"rules:\n  - users: [\"\"]\n    repositories: [x]\n    actions: [pull]\n", []string{"line 2", "users", "empty"}},
		"a second document":        {"rules: []\n---\nrules: []\n", []string{"line 2", "second document"}},
		"what is not YAML":         {"rules: [\n", []string{"line "}},
		"a tab":                    {"rules:\n\t- users: [ci]\n", []string{"line 2", "indented with spaces"}},
		"binary":                   {"rules: \x00\x01", []string{"control characters"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := auth.ParsePolicy([]byte(test.text))
			require.Error(t, err)
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
			path := t.TempDir() + "/policy.yaml"
			write(t, path, test.text, 0)
			_, err = auth.LoadPolicy(path, nil)
			require.ErrorContains(t, err, path+": ")
		})
	}
}

// Whatever a file holds, parsing it ends, and whom it lets push it lets pull.
func FuzzParsePolicy(f *testing.F) {
	for _, seed := range []string{rules, "rules: []", "rules: [{users: [ci], repositories: ['**'], actions: [pull]}]", "a: &a [*a]", "rules: &r [*r]", "- - -"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		policy, err := auth.ParsePolicy(text)
		if err != nil {
			require.Regexp(t, `^parse policy: `, err.Error())
			return
		}
		push := registry.Access{Repository: "team/app", Action: registry.ActionPush}
		if policy.Allows("ci", push) {
			push.Action = registry.ActionPull
			require.True(t, policy.Allows("ci", push), "who may push may pull")
		}
	})
}
