package gc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ocikit/ocikit/store"
)

// policyStep runs the policies over all repositories once in a while, some repositories at a time, so that the other work goes
// on meanwhile. Of the collectors that run the same ones, one does it for all.
type policyStep struct {
	*collector
	claim claim
	next  time.Time  // to begin
	page  []string   // repositories to look at
	after string     // the last one of the page
	left  *unmatched // nil: not begun
	stuck string     // the last repository of which the index said that it is away
	said  string     // what was said to match nothing
}

func (s *policyStep) due() bool {
	return len(s.policies) > 0 && (s.left != nil || !time.Now().Before(s.next))
}

// run runs them over some repositories. One that fails is left to the next run, so that those behind it are met; it is told when
// the batch is over. While the index is away, all of them would fail: then it stays where it is.
func (s *policyStep) run(ctx context.Context, done *Stats) (got gain, err error) {
	if s.shares {
		if mine, err := s.claim.take(ctx); !mine {
			s.left = nil
			if err == nil {
				s.next = time.Now().Add(jitter(s.options.PolicyPause / 4))
			}
			return nothing, err
		}
	}
	if s.left == nil {
		s.left, s.page, s.after = s.policies.unmatched(), nil, ""
	}
	var failed []error
	for began := time.Now(); time.Since(began) < turn; {
		if len(s.page) == 0 {
			if s.page, err = s.meta.Repositories(ctx, s.after, records); err != nil {
				return gainSoFar(done.Tags+done.Manifests, failed), errors.Join(fmt.Errorf("list repositories: %w", err), firstOf("policies", failed))
			}
			if len(s.page) == 0 {
				s.end(ctx)
				return some, inPart(firstOf("policies", failed))
			}
			s.after = s.page[len(s.page)-1]
		}
		repository := s.page[0]
		if store.IsMirror(repository) { // and so are all that come after it
			s.end(ctx)
			return some, inPart(firstOf("policies", failed))
		}
		err := s.enforce(ctx, repository, s.left.see(repository), done)
		if ctx.Err() != nil || s.away(repository, err) {
			s.stuck = repository
			return gainSoFar(done.Tags+done.Manifests, failed), errors.Join(err, firstOf("policies", failed))
		}
		if err != nil {
			failed = append(failed, err)
			s.left.miss(repository)
		}
		s.page = s.page[1:]
	}
	return filled, inPart(firstOf("policies", failed))
}

// away reports whether an error of a repository says that the index is away. If it does so twice of the same one, although the index
// was there at the last look, it is something of the repository that takes too long, and would each time.
func (s *policyStep) away(repository string, err error) bool {
	return errors.Is(err, store.ErrUnavailable) && (!s.reached || s.stuck != repository)
}

// end ends a run over all repositories, and says what of the policies has matched nothing.
func (s *policyStep) end(ctx context.Context) {
	s.next = time.Now().Add(jitter(s.options.PolicyPause))
	if s.shares {
		if err := s.claim.rest(ctx, s.options.PolicyPause); err != nil {
			s.options.Logger.DebugContext(ctx, "others may run the policies again", "error", err)
		}
	}
	var found []string
	for _, finding := range s.left.findings() {
		found = append(found, finding.String())
	}
	said := strings.Join(found, "; ")
	if said != "" && said != s.said {
		s.options.Logger.WarnContext(ctx, "parts of the policies match nothing", "parts", said)
	}
	s.said, s.left, s.stuck = said, nil, ""
}

// enforce deletes what the policy of a repository lets go. A tag or manifest that fails is left to the next run, so that those
// behind it go, unless the index is away.
func (s *policyStep) enforce(ctx context.Context, repository string, seeTag func(string), done *Stats) error {
	policy := s.policies.of(repository)
	if policy == nil {
		return nil
	}
	var failed []error
	fail := func(err error) error {
		if ctx.Err() != nil || s.away(repository, err) {
			return err
		}
		failed = append(failed, err)
		return nil
	}
	count := func(what string, err error, n *int) error {
		switch {
		case err == nil:
			*n++
		case !refused(err):
			return fail(fmt.Errorf("expire %s of %s: %w", what, repository, err))
		}
		return nil
	}
	j := judgement{
		meta: s.meta, policy: policy, repository: repository, now: time.Now(), immutable: s.options.Immutable, seeTag: seeTag,
		fail: fail,
		tag: func(ctx context.Context, expiry store.TagExpiry, _ string) error {
			return count("tag "+expiry.Tag, s.meta.ExpireTag(ctx, expiry), &done.Tags)
		},
		manifest: func(ctx context.Context, expiry store.ManifestExpiry, _ int64, _ string) error {
			return count("manifest "+expiry.Digest.String(), s.meta.ExpireManifest(ctx, expiry), &done.Manifests)
		},
	}
	return errors.Join(j.run(ctx), firstOf("expire", failed))
}
