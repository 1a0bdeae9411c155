package upstream

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ocikit/ocikit/registry"
)

// Names says which repositories may be pulled through, and what they are called upstream. The zero value takes all of them, by the
// names that they have here.
type Names struct {
	// Rewrite changes names. The first rule that fits decides; where none does, the name stays.
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

// Check reads the rules, and tells what is wrong with them. [New] does it, too.
func (n *Names) Check() error {
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
			if earlier.To == rewrite.To && earlier.From != rewrite.From {
				return fmt.Errorf("rewrite from %q collides with the rule from %q: both make %q, so one repository would have two names; leave one out, "+
					"or give it another name to make", rewrite.From, earlier.From, rewrite.To)
			}
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

// Upstream returns what a repository is called upstream, if it may be pulled through. Check has to have been called.
func (n *Names) Upstream(repository string) (string, bool) {
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

// isHere reports whether a repository of the upstream has the same name here.
func (n *Names) isHere(name string) bool {
	there, ok := n.Upstream(name)
	return ok && there == name
}
