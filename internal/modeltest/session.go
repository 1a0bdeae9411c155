package modeltest

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

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
