package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/registry"
)

// Bounds of a list that is read from the upstream, and of those that are remembered.
const (
	mostPages   = 200
	mostEntries = 100_000
	maxPage     = 8 << 20
	maxList     = 16 << 20         // bytes, as they came
	maxKept     = 1 << 20          // of a list that is remembered
	listLife    = 30 * time.Second // at most; a list is no fresher than a tag
	keptPage    = 1000
)

// remembered is a list that the upstream gave a moment ago: a client that reads it by pages does not cost a whole one for each.
type remembered struct {
	tags      []string
	referrers []ocispec.Descriptor
	bytes     int // of the pages that it was read from
	until     time.Time
}

// Tags implements [registry.Lister]: the upstream's tags, which are read whole and remembered for a moment, and those that are
// kept. While the upstream does not answer, it is the kept ones.
func (r *Registry) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	name, ok := r.options.Names.Upstream(repository)
	if !ok {
		return nil, registry.ErrNameUnknown
	}
	list, err := r.list(ctx, "tags "+name, func(ctx context.Context) (remembered, error) { return r.allTags(ctx, name) })
	if err != nil {
		kept, unknown := r.keptTags(ctx, name)
		if unknown != nil || len(kept) == 0 {
			return nil, err
		}
		r.observe(Event{Kind: KindManifest, Outcome: Stale, Err: err})
		list.tags = kept
	}
	at, found := slices.BinarySearch(list.tags, after)
	if found {
		at++
	}
	return slices.Clone(list.tags[at:min(len(list.tags), at+max(limit, 0))]), nil
}

// list returns a list that is remembered, or reads it for all who want it now.
func (r *Registry) list(ctx context.Context, key string, read func(context.Context) (remembered, error)) (remembered, error) {
	last, known := r.lists.Get(key)
	if known && time.Now().Before(last.until) {
		return last, nil
	}
	if known && !r.remote.pause.mayConfirm() {
		return last, nil
	}
	return fly(ctx, r, key, func(ctx context.Context) (remembered, error) {
		list, err := read(ctx)
		if err != nil && known && !errors.Is(err, registry.ErrDenied) && !errors.Is(err, registry.ErrNameUnknown) {
			r.observe(Event{Kind: KindManifest, Outcome: Stale, Err: err})
			return last, nil
		}
		if err == nil && list.bytes <= maxKept {
			list.until = time.Now().Add(min(r.options.TagAge, listLife))
			r.lists.Add(key, list)
		}
		return list, err
	})
}

func (r *Registry) allTags(ctx context.Context, name string) (remembered, error) {
	kept, err := r.keptTags(ctx, name)
	if err != nil && !errors.Is(err, registry.ErrNameUnknown) {
		r.notKept(ctx, "list of tags of "+name, err)
	}
	tags := kept
	size, err := r.pages(ctx, name, "tags/list", url.Values{"n": {"1000"}}, func(page []byte) (int, error) {
		var document struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(page, &document); err != nil {
			return 0, wrong("a list of tags that is none: %v", err)
		}
		for _, tag := range document.Tags {
			if registry.ValidTag(tag) {
				tags = append(tags, tag)
			}
		}
		return len(document.Tags), nil
	})
	if errors.Is(err, errMissing) && len(kept) == 0 {
		return remembered{}, fmt.Errorf("%w: %w", registry.ErrNameUnknown, err)
	}
	if err != nil && !errors.Is(err, errMissing) {
		return remembered{}, err
	}
	slices.Sort(tags)
	return remembered{tags: slices.Compact(tags), bytes: size}, nil
}

// keptTags returns all tags that are kept.
func (r *Registry) keptTags(ctx context.Context, name string) ([]string, error) {
	var all []string
	for after := ""; ; {
		page, err := r.kept.Tags(ctx, r.keptName(name), after, keptPage)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < keptPage || len(all) >= mostEntries {
			return all, nil
		}
		after = page[len(page)-1]
	}
}

// Referrers implements [registry.Lister]: the upstream's, from its API or from the index that stands under the fallback tag, and those
// that are kept. While the upstream does not answer, it is the kept ones.
func (r *Registry) Referrers(ctx context.Context, repository string, subject digest.Digest, page registry.ReferrersPage) ([]ocispec.Descriptor, error) {
	name, ok := r.options.Names.Upstream(repository)
	if !ok {
		return nil, nil
	}
	list, err := r.list(ctx, "referrers "+name+"@"+subject.String(), func(ctx context.Context) (remembered, error) {
		return r.allReferrers(ctx, name, subject)
	})
	if err != nil {
		kept, unknown := r.keptReferrers(ctx, name, subject)
		if unknown != nil || len(kept) == 0 {
			return nil, err
		}
		r.observe(Event{Kind: KindManifest, Outcome: Stale, Err: err})
		list.referrers = kept
	}
	var found []ocispec.Descriptor
	for _, entry := range list.referrers {
		if entry.Digest > page.After && len(found) < page.Limit && (page.ArtifactTypes == nil || slices.Contains(page.ArtifactTypes, entry.ArtifactType)) {
			found = append(found, entry)
		}
	}
	return found, nil
}

func (r *Registry) allReferrers(ctx context.Context, name string, subject digest.Digest) (remembered, error) {
	all, err := r.keptReferrers(ctx, name, subject)
	if err != nil {
		r.notKept(ctx, "list of referrers in "+name, err)
	}
	add := func(page []byte) (int, error) {
		var index ocispec.Index
		if err := json.Unmarshal(page, &index); err != nil {
			return 0, wrong("a list of referrers that is none: %v", err)
		}
		for _, entry := range index.Manifests {
			if _, err := cas.ParseDigest(entry.Digest.String()); err == nil && entry.Size >= 0 {
				all = append(all, entry)
			}
		}
		return len(index.Manifests), nil
	}
	size, err := r.pages(ctx, name, "referrers/"+subject.String(), nil, add)
	if errors.Is(err, errMissing) { // an upstream without the API
		fallback, missing := r.download(ctx, name, registry.Reference{Tag: fallbackTag(subject)})
		if err = missing; err == nil {
			size = len(fallback.Bytes)
			_, err = add(fallback.Bytes)
		}
	}
	if err != nil && !errors.Is(err, errMissing) {
		return remembered{}, err
	}
	slices.SortStableFunc(all, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return remembered{referrers: slices.CompactFunc(all, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }), bytes: size}, nil
}

// fallbackTag is the tag of the index of a subject's referrers (distribution-spec, "Referrers Tag Schema").
func fallbackTag(subject digest.Digest) string {
	algorithm, encoded, _ := strings.Cut(subject.String(), ":")
	return algorithm[:min(len(algorithm), 32)] + "-" + encoded[:min(len(encoded), 64)]
}

// keptReferrers returns all referrers that are kept.
func (r *Registry) keptReferrers(ctx context.Context, name string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	page := registry.ReferrersPage{Limit: keptPage}
	var all []ocispec.Descriptor
	for {
		found, err := r.kept.Referrers(ctx, r.keptName(name), subject, page)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
		if len(found) < keptPage || len(all) >= mostEntries {
			return all, nil
		}
		page.After = found[len(found)-1].Digest
	}
}

// pages reads a list, page by page, as the upstream links them, and returns how many bytes that were. add is given each, and returns
// how many entries it has.
func (r *Registry) pages(ctx context.Context, name, path string, query url.Values, add func(page []byte) (int, error)) (size int, err error) {
	entries := 0
	for range mostPages {
		page, next, err := r.page(ctx, name, path, query)
		if err != nil {
			return size, err
		}
		n, err := add(page)
		if err != nil {
			return size, err
		}
		entries += n
		size += len(page)
		if next == nil || n == 0 || entries >= mostEntries || size >= maxList {
			return size, nil
		}
		query = next
	}
	return size, nil
}

// page reads one, and returns the query of the next one; nil if there is none. Only the query is taken from a link, so that it leads
// nowhere else.
func (r *Registry) page(ctx context.Context, name, path string, query url.Values) (page []byte, next url.Values, err error) {
	got, err := r.remote.ask(ctx, question{method: http.MethodGet, repository: name, path: path, query: query})
	if err != nil {
		return nil, nil, err
	}
	defer got.close()
	page, err = io.ReadAll(io.LimitReader(got.body, maxPage+1))
	if err != nil {
		return nil, nil, r.remote.failed(ctx, fmt.Errorf("receive list: %w", err))
	}
	if len(page) > maxPage {
		return nil, nil, wrong("a list of more than %d bytes", maxPage)
	}
	link, parameters, _ := strings.Cut(got.Header.Get("Link"), ">")
	if link, ok := strings.CutPrefix(strings.TrimSpace(link), "<"); ok && strings.Contains(parameters, "next") {
		if u, err := url.Parse(link); err == nil {
			next = u.Query()
		}
	}
	return page, next, nil
}

// Repositories implements [registry.Lister]. It lists what is kept: nobody can list a whole Docker Hub.
func (r *Registry) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	var names []string
	for from := r.prefix; len(names) < limit; {
		page, err := r.meta.Repositories(ctx, from, keptPage)
		if err != nil {
			return nil, fmt.Errorf("list what is kept: %w", err)
		}
		for _, kept := range page {
			from = kept
			upstream, ok := strings.CutPrefix(kept, r.prefix)
			if !ok {
				return names, nil
			}
			if upstream > after && len(names) < limit && r.options.Names.isHere(upstream) {
				names = append(names, upstream)
			}
		}
		if len(page) < keptPage {
			return names, nil
		}
	}
	return names, nil
}

// Holders implements [registry.Lister]: nothing can be mounted from here.
func (r *Registry) Holders(context.Context, digest.Digest, string, int) ([]string, error) {
	return nil, nil
}
