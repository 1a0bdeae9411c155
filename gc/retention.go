package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// records is how many tags or manifests are asked for at once.
const records = 500

// judgement is one run of a policy over a repository. It decides on all that it sees before anything of it goes, so that what
// goes is what a preview tells: a manifest whose last tag goes is one without tags in the next run. Whoever deletes lets the
// index look again at all that was decided by.
type judgement struct {
	meta       Index
	policy     *policy
	repository string
	now        time.Time
	immutable  func(repository, tag string) bool
	seeTag     func(name string) // is told of every tag, if there are rules for tags
	tag        func(ctx context.Context, expiry store.TagExpiry, reason string) error
	manifest   func(ctx context.Context, expiry store.ManifestExpiry, size int64, reason string) error

	// fail is told of one that cannot be decided on, and returns nil if it is to stay and the others to be decided on. nil: none.
	fail func(err error) error

	decided []func(ctx context.Context) error // what is to be called
}

// mostDecided bounds what a judgement has to remember. Of a repository of which more goes, what goes first counts already in
// what is decided on the rest.
const mostDecided = 10_000

// run calls tag and manifest for each that the policy lets go.
func (j *judgement) run(ctx context.Context) error {
	if err := j.manifests(ctx); err != nil {
		return err
	}
	if err := j.tags(ctx); err != nil {
		return err
	}
	return j.carryOut(ctx)
}

// decide remembers a decision.
func (j *judgement) decide(ctx context.Context, decision func(ctx context.Context) error) error {
	j.decided = append(j.decided, decision)
	if len(j.decided) < mostDecided {
		return nil
	}
	return j.carryOut(ctx)
}

// carryOut does what was decided.
func (j *judgement) carryOut(ctx context.Context) error {
	for _, decision := range j.decided {
		if err := decision(ctx); err != nil {
			return err
		}
	}
	j.decided = j.decided[:0]
	return nil
}

// tags looks at all tags twice: first for the newest of each rule, then at each of them.
func (j *judgement) tags(ctx context.Context) error {
	if len(j.policy.rules) == 0 {
		return nil
	}
	last := make([]newest, len(j.policy.rules))
	err := j.eachTag(ctx, func(t store.TagRecord) error {
		j.seeTag(t.Name)
		if subjectOf(t.Name) == "" && !j.keeps(t.Name) {
			for i, rule := range j.policy.rules {
				if rule.match.match(t.Name) {
					last[i].add(t, rule.KeepLast)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return j.eachTag(ctx, func(t store.TagRecord) error {
		reason, floors := j.tagReason(t, last)
		if reason == "" {
			return nil
		}
		if kept, err := j.hasSubject(ctx, subjectOf(t.Name)); kept || err != nil {
			return j.goPast(err)
		}
		expiry := store.TagExpiry{
			Repository: j.repository, Tag: t.Name, Digest: t.Digest, Quiet: quiet(j.now, t.Pushed, t.Pulled, floors),
		}
		return j.decide(ctx, func(ctx context.Context) error { return j.tag(ctx, expiry, reason) })
	})
}

// goPast ends the judgement with the error of a tag or manifest, if there is one, or goes on past it.
func (j *judgement) goPast(err error) error {
	if err == nil || j.fail == nil {
		return err
	}
	return j.fail(err)
}

// keeps reports whether a tag stays, whatever the rules say.
func (j *judgement) keeps(tag string) bool {
	return j.policy.keep.match(tag) || j.immutable(j.repository, tag)
}

// tagReason tells why a tag may go, or "", and the ages that it was decided by.
func (j *judgement) tagReason(t store.TagRecord, last []newest) (reason string, floors []time.Duration) {
	if j.keeps(t.Name) || j.pulledLately(t.Pulled) {
		return "", nil
	}
	floors = []time.Duration{j.policy.keepPulled()}
	var reasons []string
	age := j.now.Sub(t.Pushed)
	for i, rule := range j.policy.rules {
		if !rule.match.match(t.Name) {
			continue
		}
		if age < rule.OlderThan || subjectOf(t.Name) == "" && last[i].has(t, rule.KeepLast) {
			return "", nil
		}
		floors = append(floors, rule.OlderThan)
		why := fmt.Sprintf("pushed %s ago", ago(age))
		if rule.OlderThan > 0 {
			why += fmt.Sprintf(", more than %s", ago(rule.OlderThan))
		}
		if rule.KeepLast > 0 {
			why += fmt.Sprintf(", and not among the last %d", rule.KeepLast)
		}
		reasons = append(reasons, fmt.Sprintf("%s of %s", why, strings.Join(rule.Match, ", ")))
	}
	return strings.Join(reasons, "; "), floors
}

// manifests looks at those that no tag and no manifest needs.
func (j *judgement) manifests(ctx context.Context) error {
	least := j.policy.UntaggedOlderThan
	if least == 0 {
		return nil
	}
	return j.eachManifest(ctx, func(m store.ManifestRecord) error {
		age := j.now.Sub(m.Pushed)
		if m.Tagged || m.Parent || age < least || j.pulledLately(m.Pulled) {
			return nil
		}
		if kept, err := j.hasSubject(ctx, m.Subject); kept || err != nil {
			return j.goPast(err)
		}
		expiry := store.ManifestExpiry{
			Repository: j.repository, Digest: m.Digest, Orphan: true,
			Quiet: quiet(j.now, m.Pushed, m.Pulled, []time.Duration{least, j.policy.keepPulled()}),
		}
		reason := fmt.Sprintf("no tag, and pushed %s ago, more than %s", ago(age), ago(least))
		return j.decide(ctx, func(ctx context.Context) error { return j.manifest(ctx, expiry, m.Size, reason) })
	})
}

func (j *judgement) pulledLately(pulled time.Time) bool {
	return !pulled.IsZero() && j.now.Sub(pulled) < j.policy.keepPulled()
}

// hasSubject reports whether a subject, which may be "", is here.
func (j *judgement) hasSubject(ctx context.Context, subject digest.Digest) (bool, error) {
	if subject == "" {
		return false, nil
	}
	_, err := j.meta.Manifest(ctx, j.repository, store.ManifestRef{Digest: subject})
	if errors.Is(err, store.ErrManifestUnknown) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for subject %s in %s: %w", subject, j.repository, err)
	}
	return true, nil
}

func (j *judgement) eachTag(ctx context.Context, do func(store.TagRecord) error) error {
	after := ""
	for {
		page, err := j.meta.TagRecords(ctx, j.repository, after, records)
		if err != nil {
			return fmt.Errorf("list tags of %s: %w", j.repository, err)
		}
		for _, t := range page {
			if err := do(t); err != nil {
				return err
			}
			after = t.Name
		}
		if len(page) < records {
			return nil
		}
	}
}

func (j *judgement) eachManifest(ctx context.Context, do func(store.ManifestRecord) error) error {
	var after digest.Digest
	for {
		page, err := j.meta.ManifestRecords(ctx, j.repository, after, records)
		if err != nil {
			return fmt.Errorf("list manifests of %s: %w", j.repository, err)
		}
		for _, m := range page {
			if err := do(m); err != nil {
				return err
			}
			after = m.Digest
		}
		if len(page) < records {
			return nil
		}
	}
}

// newest are the tags that were last pushed, the last one first.
type newest []store.TagRecord

func compareNewest(a, b store.TagRecord) int {
	return cmp.Or(b.Pushed.Compare(a.Pushed), strings.Compare(a.Name, b.Name))
}

func (n *newest) add(t store.TagRecord, most int) {
	at, _ := slices.BinarySearchFunc(*n, t, compareNewest)
	if at < most {
		*n = slices.Insert(*n, at, t)
		*n = (*n)[:min(len(*n), most)]
	}
}

// has also says yes to what was pushed since.
func (n newest) has(t store.TagRecord, most int) bool {
	return most > 0 && (len(n) < most || compareNewest(t, n[len(n)-1]) <= 0)
}

var subjectTag = regexp.MustCompile(`^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})([.-].*)?$`)

// subjectOf returns the subject that a tag names whose referrers it lists, or "": what clients did before there was an API, and
// some still do.
func subjectOf(tag string) digest.Digest {
	found := subjectTag.FindStringSubmatch(tag)
	if found == nil {
		return ""
	}
	return digest.Digest(strings.Replace(found[1], "-", ":", 1))
}

// quiet is for how long nothing must have happened to a record, by the index's own clock, when it is deleted: for as long as
// each age asks that it was judged by, and else for half as long as nothing had. So what was pushed or pulled since it was looked
// at stays, and clocks may differ by as much.
func quiet(now, pushed, pulled time.Time, floors []time.Duration) time.Duration {
	last := pushed
	if pulled.After(last) {
		last = pulled
	}
	age := max(now.Sub(last), 0)
	least := age / 2
	for _, floor := range floors {
		if floor <= age {
			least = max(least, floor)
		}
	}
	return least
}

// ago tells a duration as people do.
func ago(d time.Duration) string {
	if days := d / (24 * time.Hour); days > 0 {
		return fmt.Sprintf("%dd", days)
	}
	return d.Round(time.Second).String()
}
