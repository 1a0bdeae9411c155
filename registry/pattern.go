package registry

import (
	"fmt"
	"regexp"
	"strings"
)

// Pattern matches repository names, or tags. A star stands for any characters within one path segment, two stars for any
// characters at all; everything else stands for itself: "team/*" matches team/app but not team/app/cache, which "team/**" does.
type Pattern struct {
	text string
	expr *regexp.Regexp
}

// ParsePattern checks and returns a pattern. It may hold what names and tags may, and stars.
func ParsePattern(text string) (Pattern, error) {
	if text == "" || strings.Contains(text, "***") || strings.Trim(text, patternCharacters) != "" {
		return Pattern{}, fmt.Errorf("pattern %q: want letters, digits, '.', '_', '-', '/', and '*' or '**'", text)
	}
	quoted := strings.ReplaceAll(regexp.QuoteMeta(text), `\*\*`, `.*`)
	expr, err := regexp.Compile(`^(?:` + strings.ReplaceAll(quoted, `\*`, `[^/]*`) + `)$`)
	if err != nil {
		return Pattern{}, fmt.Errorf("pattern %q: %w", text, err)
	}
	return Pattern{text, expr}, nil
}

const patternCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/*"

// String returns the pattern's text.
func (p Pattern) String() string { return p.text }

// Match reports whether the whole of name is what the pattern describes. The zero Pattern matches nothing.
func (p Pattern) Match(name string) bool { return p.expr != nil && p.expr.MatchString(name) }

// ParseTagPatterns returns what [LocalOptions.Immutable] takes. Each pattern is one for tags ("v*"), or one for
// repositories and one for their tags with a colon between ("team/**:v*").
func ParseTagPatterns(texts ...string) (func(repository, tag string) bool, error) {
	type pair struct{ repository, tag Pattern }
	var pairs []pair
	for _, text := range texts {
		repository, tag, ok := strings.Cut(text, ":")
		if !ok {
			repository, tag = "**", text
		}
		r, err := ParsePattern(repository)
		if err != nil {
			return nil, err
		}
		t, err := ParsePattern(tag)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{r, t})
	}
	return func(repository, tag string) bool {
		for _, p := range pairs {
			if p.tag.Match(tag) && p.repository.Match(repository) {
				return true
			}
		}
		return false
	}, nil
}
