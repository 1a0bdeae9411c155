package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/stretchr/testify/require"
)

// The ledger judges the server, so it must not be wrong itself: of several requests for one tag that all failed, any may have been
// carried out, and the server is right whichever it was.
func TestLedgerAcceptsAnyOfTheTagsThatWereAskedForInVain(t *testing.T) {
	t.Parallel()
	lost, never := faulttest.Fault{LoseAnswer: true}, faulttest.Fault{Cut: true}
	for name, faults := range map[string][]faulttest.Fault{
		"none":      {never, never, never},
		"the first": {lost, never, never},
		"another":   {never, lost, never},
		"the last":  {never, never, lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := faulttest.NewHTTP(t, servertest.Start(t, "--database", "memory:", "--objects", "memory:").URL())
			p := newPusher(newPushClient(proxy.URL()), 1, 1)
			p.tagNames = 1
			var puts atomic.Int64
			proxy.Intercept(func(r *http.Request) faulttest.Fault {
				if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
					return faulttest.Fault{}
				}
				return faults[puts.Add(1)-1]
			})
			for range faults {
				var unanswered *lostError
				require.ErrorAs(t, p.pushImage(t.Context()), &unanswered)
			}
			require.EqualValues(t, len(faults), puts.Load())
			require.NoError(t, p.verify(t.Context()))
		})
	}
}

// verify compares the server with the ledger. What was acknowledged must be
// there and whole. What was not, because its answer was lost, may be there, and
// then whole; from then on it must stay, so it counts as acknowledged.
func (p *pusher) verify(ctx context.Context) error {
	var errs []error
	for name, acknowledged := range p.blobs {
		found, err := p.verifyContent(ctx, p.repository+"/blobs/"+name.String(), name, acknowledged)
		p.blobs[name] = found
		errs = append(errs, err)
	}
	for name, manifest := range p.manifests {
		found, err := p.verifyContent(ctx, p.repository+"/manifests/"+name.String(), name, manifest.acknowledged)
		errs = append(errs, err)
		manifest.acknowledged = found
		if !found {
			continue
		}
		for _, blob := range manifest.blobs {
			if !p.blobs[blob] {
				errs = append(errs, fmt.Errorf("the manifest %s is there, but its blob %s is not", name, blob))
			}
		}
	}
	for name, tag := range p.tags {
		errs = append(errs, p.verifyTag(ctx, name, tag))
	}
	errs = append(errs, p.verifyTagList(ctx))
	return errors.Join(errs...)
}

// verifyContent reports whether content is there, and fails if it must be and is
// not, or if it has other bytes than its name says.
func (p *pusher) verifyContent(ctx context.Context, path string, name imagetest.Digest, required bool) (found bool, err error) {
	content, err := p.client.get(ctx, path)
	var status *statusError
	if errors.As(err, &status) && status.status == http.StatusNotFound && !required {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("acknowledged: %t: %w", required, err)
	}
	if got := name.Algorithm().FromBytes(content); got != name {
		return false, fmt.Errorf("%s has %d bytes that are %s", path, len(content), got)
	}
	return true, nil
}

func (p *pusher) verifyTag(ctx context.Context, name string, tag *pushedTag) error {
	content, err := p.client.get(ctx, p.repository+"/manifests/"+name)
	var status *statusError
	if errors.As(err, &status) && status.status == http.StatusNotFound && tag.acknowledged == "" {
		tag.pending = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("the tag should point to %s: %w", tag.acknowledged, err)
	}
	for _, candidate := range append(tag.pending, tag.acknowledged) {
		if candidate != "" && candidate.Algorithm().FromBytes(content) == candidate {
			*tag = pushedTag{acknowledged: candidate}
			if !p.manifests[candidate].acknowledged {
				return fmt.Errorf("the tag %s points to %s, which is not there by digest", name, candidate)
			}
			return nil
		}
	}
	return fmt.Errorf("the tag %s should point to %q or one of %q, but its manifest is %s", name, tag.acknowledged, tag.pending, content)
}

func (p *pusher) verifyTagList(ctx context.Context) error {
	var want []string
	for name, tag := range p.tags {
		if tag.acknowledged != "" {
			want = append(want, name)
		}
	}
	content, err := p.client.get(ctx, p.repository+"/tags/list")
	var status *statusError
	if errors.As(err, &status) && status.status == http.StatusNotFound && len(want) == 0 {
		return nil // nothing was pushed yet
	}
	if err != nil {
		return err
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal(content, &list); err != nil {
		return fmt.Errorf("parse %s: %w", content, err)
	}
	slices.Sort(want)
	if !slices.Equal(want, list.Tags) {
		return fmt.Errorf("the tags of %s should be %v, not %v", p.repository, want, list.Tags)
	}
	return nil
}
