package gc

import (
	"fmt"
	"regexp"
	"strings"
)

// pattern matches whole names, of repositories or of tags. A star stands for any characters within one path segment, two stars
// for any characters at all.
type pattern struct {
	text string
	expr *regexp.Regexp
}

const patternCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/*"

func compilePattern(text string) (pattern, error) {
	if text == "" || strings.Contains(text, "***") || strings.Trim(text, patternCharacters) != "" {
		return pattern{}, fmt.Errorf("pattern %q: want letters, digits, '.', '_', '-', '/', and '*' or '**'", text)
	}
	quoted := strings.ReplaceAll(regexp.QuoteMeta(text), `\*\*`, `.*`)
	expr, err := regexp.Compile(`^(?:` + strings.ReplaceAll(quoted, `\*`, `[^/]*`) + `)$`)
	if err != nil {
		return pattern{}, fmt.Errorf("pattern %q: %w", text, err)
	}
	return pattern{text, expr}, nil
}

// matchesAll reports whether it matches every tag.
func (p pattern) matchesAll() bool { return strings.Trim(p.text, "*") == "" }

type patterns []pattern

// compilePatterns names the field in its errors.
func compilePatterns(field string, texts []string) (patterns, error) {
	compiled := make(patterns, len(texts))
	for i, text := range texts {
		var err error
		if compiled[i], err = compilePattern(text); err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", field, i, err)
		}
	}
	return compiled, nil
}

func (p patterns) match(name string) bool {
	for i := range p {
		if p[i].expr.MatchString(name) {
			return true
		}
	}
	return false
}
