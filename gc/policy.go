package gc

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// Policy says what may be deleted of the repositories that its patterns match, apart from what nothing refers to. In a
// pattern, a star stands for any characters within one path segment, two stars for any characters at all, and everything
// else for itself; it has to match the whole name. Of several policies, the first that matches a repository is its only
// one, so one without rules exempts what it matches from those after it.
//
// Whatever it says, these stay: a manifest that another one refers to, one that has a tag, a referrer whose subject is
// here, an immutable tag, and a tag by which the referrers of a subject that is here are found (sha256-…, as older clients make them). What is
// deleted becomes garbage like anything that a client deletes, after the same grace and delay.
type Policy struct {
	// Repositories are patterns for names of repositories. At least one.
	Repositories []string

	// Cascade takes the referrers of a manifest that was deleted along, by whomever, after the grace: signatures and the like.
	// Those that have a tag stay, and those that were pushed since then: a subject may come later. Without it, referrers
	// outlive their subject.
	Cascade bool

	// UntaggedOlderThan deletes manifests without a tag that were last pushed longer ago. 0: none. It counts from the push,
	// not from when the tag went; one whose last tag a run of the policy deletes is left to the next run.
	UntaggedOlderThan time.Duration

	// Everything says again that what was pushed by digest may go as soon as UntaggedOlderThan says. It is needed below a day: to tag
	// something, or to refer to it, may take somebody as long.
	Everything bool

	// Tags are rules by which tags are deleted; the manifest of one stays, without it. A tag that no rule matches stays. One that
	// several rules match goes only if each of them lets it go.
	Tags []TagRule

	// KeepPulledWithin keeps tags and manifests that were pulled less long ago. It knows pulls from when [Pulls] was put to
	// use: give it as much time before relying on it. Pulls are a sample: for two hours after one that is recorded, something
	// counts as being pulled still, so that it is kept for up to so much longer. The first pull for long is known after some minutes.
	// 0: pulls do not matter.
	KeepPulledWithin time.Duration

	// Keep are patterns for tags that are never deleted.
	Keep []string
}

// TagRule deletes tags that were last pushed longer than OlderThan ago and are not among the KeepLast that were last pushed,
// of those that it matches.
type TagRule struct {
	// Match are patterns for tags. At least one.
	Match []string

	// KeepLast is how many to keep, whatever their age. Those of [Policy.Keep], and immutable ones, are not counted.
	KeepLast int

	// OlderThan is how old a tag has to be, since its last push. 0: any age.
	OlderThan time.Duration

	// Everything says again that all tags that the rule matches may go. It is needed with KeepLast 0, if the rule matches every
	// tag or OlderThan is less than a day, whatever [Policy].KeepPulledWithin says: what was just pushed may not have been pulled.
	Everything bool
}

// mostLast bounds what a rule has to remember.
const mostLast = 10_000

// leastAge is an age of manifests without tags, and of tags, that need not be said twice.
const leastAge = 24 * time.Hour

// ValidatePolicies checks policies as [Run] does. Its errors name the field, and tell all that is wrong.
func ValidatePolicies(all []Policy) error {
	_, err := compilePolicies(all)
	return err
}

// policies are policies with their patterns.
type policies []*policy

type policy struct {
	Policy
	repositories, keep patterns
	rules              []tagRule
}

type tagRule struct {
	TagRule
	match patterns
}

// keepPulled is how long after the last pull that is recorded something is kept.
func (p *policy) keepPulled() time.Duration {
	if p.KeepPulledWithin == 0 {
		return 0
	}
	return p.KeepPulledWithin + pullLag
}

func compilePolicies(all []Policy) (policies, error) {
	compiled := make(policies, len(all))
	var errs []error
	for i := range all {
		var err error
		if compiled[i], err = compilePolicy(fmt.Sprintf("policies[%d]", i), all[i]); err != nil {
			errs = append(errs, err)
		}
	}
	return compiled, errors.Join(errs...)
}

func compilePolicy(field string, from Policy) (*policy, error) {
	p := &policy{Policy: from}
	var errs []error
	check := func(ok bool, name, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s.%s: %s", field, name, fmt.Sprintf(format, args...)))
		}
	}
	compile := func(name string, texts []string) patterns {
		compiled, err := compilePatterns(field+"."+name, texts)
		if err != nil {
			errs = append(errs, err)
		}
		return compiled
	}
	check(len(from.Repositories) > 0, "repositories", "no pattern")
	p.repositories = compile("repositories", from.Repositories)
	p.keep = compile("keep", from.Keep)
	check(from.UntaggedOlderThan >= 0, "untaggedOlderThan", "%v is negative", from.UntaggedOlderThan)
	hasty := from.UntaggedOlderThan > 0 && from.UntaggedOlderThan < leastAge
	check(from.Everything || !hasty, "everything",
		"untaggedOlderThan could delete everything that was pushed by digest: let it be a day at least, or say so with everything: true")
	check(from.KeepPulledWithin >= 0, "keepPulledWithin", "%v is negative", from.KeepPulledWithin)
	p.rules = make([]tagRule, len(from.Tags))
	for i, rule := range from.Tags {
		name := func(of string) string { return fmt.Sprintf("tags[%d].%s", i, of) }
		check(len(rule.Match) > 0, name("match"), "no pattern")
		check(rule.KeepLast >= 0 && rule.KeepLast <= mostLast, name("keepLast"), "%d is not between 0 and %d", rule.KeepLast, mostLast)
		check(rule.OlderThan >= 0, name("olderThan"), "%v is negative", rule.OlderThan)
		match := compile(name("match"), rule.Match)
		all := slices.ContainsFunc(match, pattern.matchesAll)
		check(rule.Everything || rule.KeepLast != 0 || !all, name("everything"),
			"the rule could delete everything: keep some with keepLast, or say so with everything: true")
		check(rule.Everything || rule.KeepLast != 0 || all || rule.OlderThan >= leastAge, name("everything"),
			"the rule could delete everything that it matches: let olderThan be a day at least, keep some with keepLast, or say so with everything: true")
		p.rules[i] = tagRule{rule, match}
	}
	return p, errors.Join(errs...)
}

// of returns the policy of a repository, or nil: a mirrored one has none.
func (p policies) of(repository string) *policy {
	if store.IsMirror(repository) {
		return nil
	}
	for _, policy := range p {
		if policy.repositories.match(repository) {
			return policy
		}
	}
	return nil
}

// claim is claimed by who runs them: others that have the same ones need not run them as well. It is the digest of what they say.
func (p policies) claim() digest.Digest {
	said := make([]Policy, len(p))
	for i, policy := range p {
		said[i] = policy.Policy
	}
	return digest.FromString(fmt.Sprintf("policies %+v", said))
}

// hold returns what a review asks whether a repository cascades, or nil if none does.
func (p policies) hold() func(repository string) bool {
	if !slices.ContainsFunc(p, func(policy *policy) bool { return policy.Cascade }) {
		return nil
	}
	return func(repository string) bool {
		policy := p.of(repository)
		return policy != nil && policy.Cascade
	}
}
