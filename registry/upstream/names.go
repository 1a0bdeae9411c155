package upstream

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ocikit/ocikit/registry"
)

// Names says which of a registry's repositories are an upstream's, and what they are called there. The zero value takes all
// of them, by the names that they have here.
type Names struct {
	// Prefix is cut off, in whole path segments: with "hub", hub/library/alpine is the upstream's library/alpine. What does not begin
	// with it is not the upstream's.
	Prefix string

	// Rewrite changes what is left. The first rule that fits decides; where none does, the name stays.
	Rewrite []Rewrite

	// Allow says which of the upstream's names may be pulled through: those that one of the patterns matches. None allow all.
	Allow []registry.Pattern

	rules []rule
}

// Rewrite is a rule that changes names. From is a pattern, as [registry.ParsePattern] has it, and To the name instead, in which the
// stars stand for what those of From matched, in their order: from "*" to "library/*", from "k8s/**" to "**".
type Rewrite struct {
	From, To string
}

type rule struct {
	Rewrite
	pattern registry.Pattern
	expr    *regexp.Regexp
}

var stars = regexp.MustCompile(`\*\*?`)

// compile reads the rules. Its errors name the rule.
func (n *Names) compile() error {
	if n.Prefix != "" && !registry.ValidRepository(n.Prefix) {
		return fmt.Errorf("prefix %q is not a repository's name", n.Prefix)
	}
	n.rules = nil
	for _, rewrite := range n.Rewrite {
		pattern, err := registry.ParsePattern(rewrite.From)
		if err != nil {
			return fmt.Errorf("rewrite from: %w", err)
		}
		from, to := stars.FindAllString(rewrite.From, -1), stars.FindAllString(rewrite.To, -1)
		if len(from) != len(to) {
			return fmt.Errorf("rewrite from %q to %q: want as many stars in one as in the other", rewrite.From, rewrite.To)
		}
		if example := stars.ReplaceAllString(rewrite.To, "x"); !registry.ValidRepository(example) {
			return fmt.Errorf("rewrite from %q to %q: that makes no repository's name, %q for instance", rewrite.From, rewrite.To, example)
		}
		for _, earlier := range n.rules {
			if earlier.covers(rewrite.From) {
				return fmt.Errorf("rewrite from %q is never reached: the rule from %q before it takes the same names; put it first, or leave it out",
					rewrite.From, earlier.From)
			}
		}
		text := strings.ReplaceAll(regexp.QuoteMeta(rewrite.From), `\*\*`, `(.*)`)
		expr, err := regexp.Compile(`^` + strings.ReplaceAll(text, `\*`, `([^/]*)`) + `$`)
		if err != nil {
			return fmt.Errorf("rewrite from %q: %w", rewrite.From, err)
		}
		n.rules = append(n.rules, rule{rewrite, pattern, expr})
	}
	return nil
}

// covers reports whether the rule takes all that another pattern does: what its stars may stand for is tried.
func (r rule) covers(pattern string) bool {
	for _, text := range []string{"x", "0", "xx/x"} {
		name := stars.ReplaceAllStringFunc(pattern, func(star string) string {
			if star == "*" {
				return strings.ReplaceAll(text, "/", "")
			}
			return text
		})
		if !r.pattern.Match(name) {
			return false
		}
	}
	return true
}

// upstream returns what a repository is called upstream, if it may be pulled through.
func (n *Names) upstream(repository string) (string, bool) {
	if n.Prefix != "" {
		var ok bool
		if repository, ok = strings.CutPrefix(repository, n.Prefix+"/"); !ok {
			return "", false
		}
	}
	for _, rule := range n.rules {
		if match := rule.expr.FindStringSubmatch(repository); match != nil {
			next := 0
			repository = stars.ReplaceAllStringFunc(rule.To, func(string) string {
				next++
				return match[next]
			})
			break
		}
	}
	if !registry.ValidRepository(repository) {
		return "", false
	}
	if len(n.Allow) == 0 {
		return repository, true
	}
	for _, pattern := range n.Allow {
		if pattern.Match(repository) {
			return repository, true
		}
	}
	return "", false
}

// here returns a name that a repository of the upstream has here, if it has one.
func (n *Names) here(name string) (string, bool) {
	if n.Prefix != "" {
		name = n.Prefix + "/" + name
	}
	back, ok := n.upstream(name)
	return name, ok && (n.Prefix == "" && back == name || back == strings.TrimPrefix(name, n.Prefix+"/"))
}
