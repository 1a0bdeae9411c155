package gc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// unmatched is what of the policies has met nothing yet, in one run over all repositories: as a rule, somebody has mistyped it.
type unmatched struct {
	policies     policies
	repositories map[string]pattern // that no repository matches
	met          []met              // by policy
}

// met is what a policy has met.
type met struct {
	matches bool               // a repository
	rules   bool               // a repository that no earlier policy matches
	tags    map[string]pattern // that no tag of those matches, by field
}

func (p policies) unmatched() *unmatched {
	left := &unmatched{policies: p, repositories: map[string]pattern{}, met: make([]met, len(p))}
	for i, policy := range p {
		for _, pattern := range policy.repositories {
			left.repositories[pattern.text] = pattern
		}
		left.met[i].tags = map[string]pattern{}
		if len(policy.rules) == 0 {
			continue // no tag is looked at
		}
		for j, pattern := range policy.keep {
			left.met[i].tags[fmt.Sprintf("policies[%d].keep[%d]", i, j)] = pattern
		}
		for j, rule := range policy.rules {
			for k, pattern := range rule.match {
				left.met[i].tags[fmt.Sprintf("policies[%d].tags[%d].match[%d]", i, j, k)] = pattern
			}
		}
	}
	return left
}

// see takes off what matches a repository, and returns what is to see the repository's tags.
func (u *unmatched) see(repository string) (seeTag func(name string)) {
	takeOff(u.repositories, repository)
	seeTag = func(string) {}
	ruled := false
	for i, policy := range u.policies {
		if !policy.repositories.match(repository) {
			continue
		}
		u.met[i].matches = true
		if !ruled {
			ruled, u.met[i].rules = true, true
			seeTag = func(name string) { takeOff(u.met[i].tags, name) }
		}
	}
	return seeTag
}

// miss takes off what might have matched tags of a repository, which could not be looked at.
func (u *unmatched) miss(repository string) {
	for i, policy := range u.policies {
		if policy.repositories.match(repository) {
			clear(u.met[i].tags)
			return
		}
	}
}

// takeOff deletes the patterns that match a name.
func takeOff(left map[string]pattern, name string) {
	maps.DeleteFunc(left, func(_ string, p pattern) bool { return p.expr.MatchString(name) })
}

// findings tells what has met nothing. What is inside a policy that has met nothing is not told beside that.
func (u *unmatched) findings() []Finding {
	var found []Finding
	for _, text := range slices.Sorted(maps.Keys(u.repositories)) {
		found = append(found, Finding{Kind: FindPattern, Repository: text, Reason: "it matches no repository"})
	}
	for i, met := range u.met {
		if met.matches && !met.rules {
			found = append(found, Finding{
				Kind: FindPattern, Repository: strings.Join(u.policies[i].Repositories, ", "),
				Reason: fmt.Sprintf("policies before policies[%d] match every repository that it matches", i),
			})
		}
		if !met.rules {
			continue
		}
		for _, field := range slices.Sorted(maps.Keys(met.tags)) {
			found = append(found, Finding{
				Kind: FindPattern, Repository: strings.Join(u.policies[i].Repositories, ", "), Tag: met.tags[field].text,
				Reason: field + " matches no tag",
			})
		}
	}
	return found
}
