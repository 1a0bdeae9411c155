package upstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
)

// keptPage is how many entries are read at once of what is kept.
const keptPage = 1000

// Tags implements [registry.Lister]: the upstream's tags, which are read whole and remembered for a moment, and those that are
// kept. While the upstream does not answer, it is the kept ones. ErrUnsupported for more than can be passed on whole.
func (r *Registry) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	name, ok := r.options.Names.Upstream(repository)
	if !ok {
		return nil, registry.ErrNameUnknown
	}
	list, err := r.list(ctx, name, "tags "+name, r.allTags)
	if isAnswer(err) {
		return nil, err
	}
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

func (r *Registry) allTags(ctx context.Context, l *reading) (remembered, error) {
	name := l.name
	kept, err := r.keptTags(ctx, name)
	if err != nil && !errors.Is(err, registry.ErrNameUnknown) {
		r.notKept(ctx, "list of tags of "+name, err)
	}
	tags, bytes := kept, 0
	for _, tag := range kept {
		bytes += costOfTag(tag)
	}
	err = l.each(ctx, "tags/list", "tags", url.Values{"n": {strconv.Itoa(keptPage)}}, func(entry []byte) error {
		var tag string
		if err := json.Unmarshal(entry, &tag); err != nil {
			return noList(err)
		}
		if !registry.ValidTag(tag) {
			return l.add(0)
		}
		tags = append(tags, tag)
		return l.add(costOfTag(tag))
	})
	if errors.Is(err, errMissing) && len(kept) == 0 {
		return remembered{}, fmt.Errorf("%w: %w", registry.ErrNameUnknown, err)
	}
	if err != nil && !errors.Is(err, errMissing) {
		return remembered{}, err
	}
	slices.Sort(tags)
	return remembered{tags: slices.Compact(tags), bytes: bytes + l.bytes}, nil
}

// costOfTag is how much memory a tag takes, about.
func costOfTag(tag string) int { return 32 + len(tag) }

// keptTags returns all tags that are kept.
func (r *Registry) keptTags(ctx context.Context, name string) ([]string, error) {
	var all []string
	for after := ""; ; {
		page, err := r.kept.Tags(ctx, r.keptName(name), after, keptPage)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < keptPage {
			return all, nil
		}
		if len(all) >= mostEntries {
			return nil, errTooLong
		}
		after = page[len(page)-1]
	}
}

// Referrers implements [registry.Lister]: the upstream's, from its API or from the index that stands under the fallback tag, and those
// that are kept. While the upstream does not answer, it is the kept ones. ErrUnsupported for more than can be passed on whole.
func (r *Registry) Referrers(ctx context.Context, repository string, subject digest.Digest, page registry.ReferrersPage) ([]ocispec.Descriptor, error) {
	name, ok := r.options.Names.Upstream(repository)
	if !ok || !validDigest(subject) {
		return nil, nil
	}
	list, err := r.list(ctx, name, "referrers "+name+"@"+subject.String(), func(ctx context.Context, l *reading) (remembered, error) {
		return r.allReferrers(ctx, l, subject)
	})
	if isAnswer(err) {
		return nil, err
	}
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

func (r *Registry) allReferrers(ctx context.Context, l *reading, subject digest.Digest) (remembered, error) {
	all, err := r.keptReferrers(ctx, l.name, subject)
	if err != nil {
		r.notKept(ctx, "list of referrers in "+l.name, err)
	}
	keptBytes := 0
	for _, entry := range all {
		keptBytes += costOfReferrer(entry)
	}
	add := func(data []byte) error {
		entry, err := readReferrer(data)
		if err != nil {
			return noList(err)
		}
		if !validDigest(entry.Digest) || entry.Size < 0 {
			return l.add(0)
		}
		all = append(all, entry)
		return l.add(costOfReferrer(entry))
	}
	err = l.each(ctx, "referrers/"+subject.String(), "manifests", nil, add)
	if errors.Is(err, errMissing) { // an upstream without the API
		var fallback registry.Manifest
		if fallback, err = l.fallback(ctx, registry.Reference{Tag: fallbackTag(subject)}); err == nil {
			err = eachEntry(bytes.NewReader(fallback.Bytes), "manifests", add)
		}
	}
	if err != nil && !errors.Is(err, errMissing) {
		return remembered{}, err
	}
	slices.SortStableFunc(all, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	all = slices.CompactFunc(all, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest })
	return remembered{referrers: all, bytes: keptBytes + l.bytes}, nil
}

// fallback gets the index that stands for a list.
func (l *reading) fallback(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	got, err := l.registry.askManifest(ctx, l.name, ref)
	if err != nil {
		return registry.Manifest{}, err
	}
	defer got.close()
	done, err := l.turn(ctx)
	if err != nil {
		return registry.Manifest{}, err
	}
	defer done()
	return l.registry.receiveManifest(ctx, l.name, ref, got)
}

// readReferrer reads an entry of a list of referrers: what the distribution specification says that such a list has, and no more.
func readReferrer(data []byte) (ocispec.Descriptor, error) {
	var entry struct {
		MediaType    string            `json:"mediaType"`
		Digest       digest.Digest     `json:"digest"`
		Size         int64             `json:"size"`
		ArtifactType string            `json:"artifactType"`
		Annotations  map[string]string `json:"annotations"`
	}
	err := json.Unmarshal(data, &entry)
	return ocispec.Descriptor{
		MediaType: entry.MediaType, Digest: entry.Digest, Size: entry.Size, ArtifactType: entry.ArtifactType, Annotations: entry.Annotations,
	}, err
}

// costOfReferrer is how much memory an entry takes, about.
func costOfReferrer(d ocispec.Descriptor) int {
	cost := 160 + len(d.MediaType) + len(d.Digest) + len(d.ArtifactType)
	for key, value := range d.Annotations {
		cost += 80 + len(key) + len(value)
	}
	return cost
}

// fallbackTag is the tag of the index of a subject's referrers (distribution-spec, "Referrers Tag Schema").
func fallbackTag(subject digest.Digest) string {
	algorithm, encoded, _ := strings.Cut(subject.String(), ":")
	return algorithm[:min(len(algorithm), 32)] + "-" + encoded[:min(len(encoded), 64)]
}

// keptReferrers returns all referrers that are kept.
func (r *Registry) keptReferrers(ctx context.Context, name string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	page := registry.ReferrersPage{Limit: keptPage / 10} // an entry may be large
	var all []ocispec.Descriptor
	for {
		found, err := r.kept.Referrers(ctx, r.keptName(name), subject, page)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
		if len(found) < page.Limit {
			return all, nil
		}
		if len(all) >= mostEntries {
			return nil, errTooLong
		}
		page.After = found[len(found)-1].Digest
	}
}

// Repositories implements [registry.Lister]. It lists what is kept: nobody can list a whole Docker Hub.
func (r *Registry) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	var names []string
	for from := r.prefix + after; len(names) < limit; {
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
			if len(names) < limit && r.options.Names.isHere(upstream) {
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
