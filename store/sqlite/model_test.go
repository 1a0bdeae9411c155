package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/sqlite"
	"github.com/ocikit/ocikit/store/storetest"
)

// TestAnswersAsTheReferenceDoes sends random events to the reference and to two handles of one file, and compares every
// answer. There are few names, so that most events meet the traces of others.
func TestAnswersAsTheReferenceDoes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			clock := storetest.NewClock()
			path := filepath.Join(t.TempDir(), "index.db")
			options := &sqlite.Options{NoSync: true, Now: clock.Now}
			handles := []store.Metadata{open(t, path, options), open(t, path, options)}
			reference := memory.NewMetadata(&memory.MetadataOptions{Now: clock.Now})
			r := &random{Rand: rand.New(rand.NewPCG(seed, 0)), versions: map[string]int64{}}
			var history []string
			for range 1500 {
				name, event := r.event()
				want := event(t.Context(), reference)
				got := event(t.Context(), handles[r.IntN(2)])
				history = append(history, name+" → "+want)
				require.Equal(t, want, got, "%s\nafter\n%s", name,
					strings.Join(history[max(0, len(history)-40):], "\n"))
				if r.IntN(6) == 0 {
					clock.Advance(time.Duration(r.IntN(3)) * time.Minute)
				}
			}
		})
	}
}

// random makes events.
type random struct {
	*rand.Rand
	sessions int              // how many were created
	versions map[string]int64 // of sessions, as last claimed
}

// call sends an event to an index, and returns the answer as text.
type call func(context.Context, store.Metadata) string

func (r *random) repository() string { return []string{"a", "b/c", "d"}[r.IntN(3)] }
func (r *random) tag() string        { return []string{"x", "y", "Z"}[r.IntN(3)] }
func (r *random) session() string    { return fmt.Sprint("session-", r.sessions-r.IntN(5)) } // a late one
func (r *random) text() string       { return fmt.Sprint("text ", r.IntN(9)) }
func (r *random) digest() digest.Digest {
	return digest.FromString(r.text())
}

// life is short enough for some sessions to end.
var life = store.Life{Idle: 40 * time.Minute, Total: 3 * time.Hour, Tombstone: 3 * time.Minute}

func (r *random) event() (string, call) {
	events := []func() (string, call){
		r.putContent, r.putContent, r.putManifest, r.putManifest, r.putManifest, r.putManifest,
		r.deleteManifest, r.deleteContent, r.deleteTag, r.mount, r.renew,
		r.create, r.claim, r.claim, r.claim, r.save, r.save, r.save, r.save, r.finish, r.drop,
		r.look, r.look, r.look,
	}
	return events[r.IntN(len(events))]()
}

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

func (r *random) create() (string, call) {
	r.sessions++
	id, repository := fmt.Sprint("session-", r.sessions), []string{"a", "a", "a", "d"}[r.IntN(4)]
	return fmt.Sprintf("create %s %s", id, repository), func(ctx context.Context, m store.Metadata) string {
		return outcome(m.CreateSession(ctx, id, repository, digest.SHA512))
	}
}

func (r *random) ref() store.SessionRef {
	return store.SessionRef{ID: r.session(), Repository: []string{"a", "a", "a", "a", "d"}[r.IntN(5)], Life: life}
}

func (r *random) claim() (string, call) {
	claim := store.Claim{SessionRef: r.ref(), Offset: []int64{-1, -1, -1, 0, 10}[r.IntN(5)], Finish: r.IntN(2) == 0,
		PartCount: int32(r.IntN(3)), Parts: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		claim.Reserve = store.Reservation{Blob: store.NewBlobKey(), Tail: store.NewUploadKey(claim.ID)}
	}
	return fmt.Sprintf("claim %+v", claim), func(ctx context.Context, m store.Metadata) string {
		session, err := m.ClaimSession(ctx, claim)
		if err == nil {
			r.versions[claim.ID] = session.Version
		}
		return answer(session, err)
	}
}

// version is mostly the right one.
func (r *random) version(id string) int64 { return r.versions[id] - int64(r.IntN(5)/4) }

func (r *random) save() (string, call) {
	id := r.session()
	save := store.Save{ID: id, Version: r.version(id), Joined: r.IntN(3) == 0, Complete: r.IntN(20) == 0}
	save.Progress = store.Progress{
		Offset: int64(r.IntN(3)) * 10, PartsEnd: int64(r.IntN(2)) * 10, Hash: []byte{1, byte(r.IntN(9))}, PartsHash: []byte{2},
		PartSize: 10, LastPart: int32(r.IntN(9)), Inline: []byte{byte(r.IntN(9))},
	}
	if r.IntN(2) == 0 {
		save.Multipart = store.Multipart{Key: store.NewBlobKey(), ID: "m"}
	}
	if r.IntN(2) == 0 {
		save.Tail = &store.Tail{Key: store.NewUploadKey(id), Size: 7}
	}
	if r.IntN(2) == 0 {
		save.Reserved.Tail = store.NewUploadKey(id)
	}
	for range r.IntN(3) {
		n := int32(1 + r.IntN(5))
		save.Parts = append(save.Parts, store.Part{Number: n, Offset: int64(n) * 10, Size: 10, Tag: fmt.Sprint(r.IntN(3))})
	}
	return fmt.Sprintf("save %+v", save), func(ctx context.Context, m store.Metadata) string {
		return outcome(m.SaveSession(ctx, save))
	}
}

func (r *random) finish() (string, call) {
	id, text := r.session(), r.text()
	finish := store.Finish{ID: id, Version: r.version(id), Content: inline(text)}
	if r.IntN(3) > 0 {
		finish.Content.Key, finish.Content.Inline = store.NewBlobKey(), nil
	}
	return fmt.Sprintf("finish %+v", finish), func(ctx context.Context, m store.Metadata) string {
		return outcome(m.FinishSession(ctx, finish))
	}
}

func (r *random) drop() (string, call) {
	ref := r.ref()
	return fmt.Sprintf("drop %+v", ref), func(ctx context.Context, m store.Metadata) string {
		session, err := m.DropSession(ctx, ref)
		return answer(session, err)
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
		return strings.Join(all, "\n")
	}
}

// answer is a result, or what a caller may tell of an error.
func answer[T any](result T, err error) string {
	if err != nil {
		return outcome(err)
	}
	return fmt.Sprintf("%+v", result)
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	typed := []error{store.ErrSessionUnknown, store.ErrContentUnknown, store.ErrManifestUnknown,
		store.ErrRepositoryUnknown, store.ErrConditionFailed, store.ErrFenced}
	if i := slices.IndexFunc(typed, func(target error) bool { return errors.Is(err, target) }); i >= 0 {
		return typed[i].Error()
	}
	var offset *store.OffsetError
	if errors.As(err, &offset) {
		return fmt.Sprintf("%+v", offset.Session)
	}
	var missing *store.MissingError
	if errors.As(err, &missing) {
		return fmt.Sprintf("missing %v", missing.Digests)
	}
	var referenced *store.ReferencedError
	if errors.As(err, &referenced) {
		return "referenced by " + string(referenced.By)
	}
	var locked *store.TagLockedError
	if errors.As(err, &locked) {
		return "locked " + locked.Tag
	}
	return "untyped: " + err.Error()
}
