package modeltest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

func (r *random) putContent() (string, call) {
	repository, content := r.repository(), inline(r.text())
	return fmt.Sprintf("put content %s %s", repository, content.Inline), func(ctx context.Context, m store.Metadata) string {
		return outcome(m.PutContent(ctx, repository, content))
	}
}

func (r *random) putManifest() (string, call) {
	// A text's number decides what a manifest says, as its bytes do.
	number := r.IntN(9)
	put := manifest(r.repository(), fmt.Sprint("text ", number))
	put.Manifest.ArtifactType = fmt.Sprint("type/", number%2)
	if number%3 == 0 {
		put.Manifest.Subject = digest.FromString("text 1")
		put.Manifest.Annotations = map[string]string{"number": fmt.Sprint(number)}
	}
	for child := range number { // no circles
		if child%2 == 0 {
			put.References = append(put.References, store.Reference{
				Digest: digest.FromString(fmt.Sprint("text ", child)), Manifest: child%4 == 0, Optional: child == 6,
			})
		}
	}
	put.References = append(put.References, put.References...)
	put.AllowMissing = r.IntN(3) == 0
	for range r.IntN(3) {
		put.Tags = append(put.Tags, r.tag())
	}
	switch r.IntN(4) {
	case 0:
		put.Condition.Absent = true
	case 1:
		put.Condition.AnyOf = []digest.Digest{r.digest(), r.digest()}
	case 2:
		put.Locked = func(tag string) bool { return tag == "Z" }
	}
	return fmt.Sprintf("put manifest %+v", put), func(ctx context.Context, m store.Metadata) string {
		return outcome(m.PutManifest(ctx, put))
	}
}

func (r *random) deleteManifest() (string, call) {
	repository, d := r.repository(), r.digest()
	var locked func(string) bool
	if r.IntN(2) == 0 {
		locked = func(tag string) bool { return tag == "Z" }
	}
	return fmt.Sprintf("delete manifest %s %s", repository, d), func(ctx context.Context, m store.Metadata) string {
		return outcome(m.DeleteManifest(ctx, repository, d, locked))
	}
}

func (r *random) deleteContent() (string, call) {
	repository, d := r.repository(), r.digest()
	return fmt.Sprintf("delete content %s %s", repository, d), func(ctx context.Context, m store.Metadata) string {
		return outcome(m.DeleteContent(ctx, repository, d))
	}
}

func (r *random) deleteTag() (string, call) {
	repository, tag := r.repository(), r.tag()
	return fmt.Sprintf("delete tag %s %s", repository, tag), func(ctx context.Context, m store.Metadata) string {
		return outcome(m.DeleteTag(ctx, repository, tag))
	}
}

func (r *random) mount() (string, call) {
	from, to, d := r.repository(), r.repository(), r.digest()
	return fmt.Sprintf("mount %s %s %s", d, from, to), func(ctx context.Context, m store.Metadata) string {
		content, err := m.Mount(ctx, d, from, to)
		return answer(content, err)
	}
}

func (r *random) renew() (string, call) {
	repository, d, grace := r.repository(), r.digest(), time.Duration(r.IntN(60))*time.Minute
	return fmt.Sprintf("renew %s %s %s", repository, d, grace), func(ctx context.Context, m store.Metadata) string {
		content, err := m.RenewContent(ctx, repository, d, grace)
		return answer(content, err)
	}
}

// look asks for everything that can be asked about a few names.
func (r *random) look() (string, call) {
	repository, tag, d, ref := r.repository(), r.tag(), r.digest(), r.ref()
	after, limit := []string{"", "a", "y"}[r.IntN(3)], r.IntN(4)
	page := store.ReferrersPage{Limit: limit}
	if r.IntN(2) == 0 {
		page.ArtifactTypes = []string{"type/0", "absent"}
	}
	if r.IntN(2) == 0 {
		page.After = digest.FromString("text 3")
	}
	age := time.Duration(r.IntN(20)) * time.Minute
	name := fmt.Sprintf("look %s %s %s %+v after %q limit %d page %+v age %s", repository, tag, d, ref, after, limit, page, age)
	return name, func(ctx context.Context, m store.Metadata) string {
		var all []string
		all = append(all, answer(m.Content(ctx, repository, d)))
		all = append(all, answer(m.Manifest(ctx, repository, store.ManifestRef{Tag: tag})))
		all = append(all, answer(m.Manifest(ctx, repository, store.ManifestRef{Digest: d})))
		all = append(all, answer(m.Tags(ctx, repository, after, limit)))
		all = append(all, answer(m.Referrers(ctx, repository, digest.FromString("text 1"), page)))
		all = append(all, answer(m.Repositories(ctx, after, limit)))
		all = append(all, answer(m.Holders(ctx, d, after, limit)))
		all = append(all, answer(m.Session(ctx, ref)))
		all = append(all, answer(m.Candidates(ctx, age, limit*3)))
		all = append(all, answer(m.Garbage(ctx, age, 1000)))
		all = append(all, answer(m.PreviewGarbage(ctx, store.Take{Delay: age, Unfinished: 2 * age, Limit: limit * 3}, store.Garbage{})))
		all = append(all, answer(m.PreviewSessions(ctx, store.Life{Idle: age, Total: 2 * age, Tombstone: age}, store.Outlived{}, limit*3)))
		return strings.Join(all, "\n")
	}
}

// inline is content whose bytes are the text.
func inline(text string) store.Content {
	return store.Content{Digest: digest.FromString(text), Size: int64(len(text)), Inline: []byte(text)}
}

// manifest is a put of a manifest whose bytes are the text.
func manifest(repository, text string) store.ManifestPut {
	return store.ManifestPut{
		Repository: repository,
		Manifest:   store.Manifest{Digest: digest.FromString(text), MediaType: "text/plain", Bytes: []byte(text)},
	}
}
