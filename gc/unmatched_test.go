package gc_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
)

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
