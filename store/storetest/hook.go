package storetest

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// Hook steps in before and after each call of a store that takes a context. A nil function does nothing. Both get the name of
// the method, such as "PutPart", and are called on the caller's goroutine, concurrently where the store is.
type Hook struct {
	// Before may delay the call by not returning yet. If it returns an error, the call does not happen, and the caller gets
	// that error: a request that was lost on its way.
	Before func(ctx context.Context, method string) error

	// After gets the call's error, and returns the one that the caller gets instead: err itself to change nothing, or
	// another one for an answer that was lost. With an error the caller gets no result, whatever the store returned.
	After func(ctx context.Context, method string, err error) error
}

// HookObjects returns o with h around each call. The reader that Open returns is the store's own.
func HookObjects(o store.Objects, h Hook) store.Objects { return &hookedObjects{o, h} }

// HookMetadata returns m with h around each call.
func HookMetadata(m store.Metadata, h Hook) store.Metadata { return &hookedMetadata{m, h} }

// do makes a call that returns nothing but an error.
func (h Hook) do(ctx context.Context, method string, call func() error) error {
	_, err := hooked(ctx, h, method, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// hooked makes a call that returns a result.
func hooked[T any](ctx context.Context, h Hook, method string, call func() (T, error)) (T, error) {
	var none T
	if h.Before != nil {
		if err := h.Before(ctx, method); err != nil {
			return none, err
		}
	}
	result, err := call()
	if h.After != nil {
		err = h.After(ctx, method, err)
	}
	if err != nil {
		if c, ok := any(result).(io.Closer); ok {
			_ = c.Close() // nobody else could
		}
		return none, err
	}
	return result, nil
}

// The wrappers name every method instead of embedding the store, so that a method that is new in a contract does not
// compile until it is hooked.

type hookedObjects struct {
	store store.Objects
	hook  Hook
}

func (o *hookedObjects) Limits() store.Limits { return o.store.Limits() }

func (o *hookedObjects) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	return o.hook.do(ctx, "Put", func() error { return o.store.Put(ctx, key, r, size) })
}

func (o *hookedObjects) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	return hooked(ctx, o.hook, "Open", func() (io.ReadCloser, error) { return o.store.Open(ctx, key, offset, length) })
}

func (o *hookedObjects) Delete(ctx context.Context, keys []store.Key) error {
	return o.hook.do(ctx, "Delete", func() error { return o.store.Delete(ctx, keys) })
}

func (o *hookedObjects) Begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	return hooked(ctx, o.hook, "Begin", func() (store.Multipart, error) { return o.store.Begin(ctx, key) })
}

func (o *hookedObjects) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	return hooked(ctx, o.hook, "PutPart", func() (store.Part, error) { return o.store.PutPart(ctx, m, fence, part, r) })
}

func (o *hookedObjects) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	return o.hook.do(ctx, "Complete", func() error { return o.store.Complete(ctx, m, parts) })
}

func (o *hookedObjects) Abort(ctx context.Context, m store.Multipart) error {
	return o.hook.do(ctx, "Abort", func() error { return o.store.Abort(ctx, m) })
}

func (o *hookedObjects) Begun(ctx context.Context, key store.Key) ([]store.Multipart, error) {
	return hooked(ctx, o.hook, "Begun", func() ([]store.Multipart, error) { return o.store.Begun(ctx, key) })
}

func (o *hookedObjects) List(ctx context.Context, prefix string, after store.Key, limit int) ([]store.Object, error) {
	return hooked(ctx, o.hook, "List", func() ([]store.Object, error) { return o.store.List(ctx, prefix, after, limit) })
}

type hookedMetadata struct {
	store store.Metadata
	hook  Hook
}

func (m *hookedMetadata) CreateSession(ctx context.Context, id, repository string, algorithm digest.Algorithm) error {
	return m.hook.do(ctx, "CreateSession", func() error { return m.store.CreateSession(ctx, id, repository, algorithm) })
}

func (m *hookedMetadata) Session(ctx context.Context, ref store.SessionRef) (store.Session, error) {
	return hooked(ctx, m.hook, "Session", func() (store.Session, error) { return m.store.Session(ctx, ref) })
}

func (m *hookedMetadata) ClaimSession(ctx context.Context, claim store.Claim) (store.Session, error) {
	return hooked(ctx, m.hook, "ClaimSession", func() (store.Session, error) { return m.store.ClaimSession(ctx, claim) })
}

func (m *hookedMetadata) SaveSession(ctx context.Context, save store.Save) error {
	return m.hook.do(ctx, "SaveSession", func() error { return m.store.SaveSession(ctx, save) })
}

func (m *hookedMetadata) FinishSession(ctx context.Context, finish store.Finish) error {
	return m.hook.do(ctx, "FinishSession", func() error { return m.store.FinishSession(ctx, finish) })
}

func (m *hookedMetadata) DropSession(ctx context.Context, ref store.SessionRef) (store.Session, error) {
	return hooked(ctx, m.hook, "DropSession", func() (store.Session, error) { return m.store.DropSession(ctx, ref) })
}

func (m *hookedMetadata) Content(ctx context.Context, repository string, d digest.Digest) (store.Content, error) {
	return hooked(ctx, m.hook, "Content", func() (store.Content, error) { return m.store.Content(ctx, repository, d) })
}

func (m *hookedMetadata) RenewContent(ctx context.Context, repository string, d digest.Digest, grace time.Duration) (store.Content, error) {
	return hooked(ctx, m.hook, "RenewContent", func() (store.Content, error) {
		return m.store.RenewContent(ctx, repository, d, grace)
	})
}

func (m *hookedMetadata) PutContent(ctx context.Context, repository string, content store.Content) error {
	return m.hook.do(ctx, "PutContent", func() error { return m.store.PutContent(ctx, repository, content) })
}

func (m *hookedMetadata) PutManifest(ctx context.Context, put store.ManifestPut) error {
	return m.hook.do(ctx, "PutManifest", func() error { return m.store.PutManifest(ctx, put) })
}

func (m *hookedMetadata) Manifest(ctx context.Context, repository string, ref store.ManifestRef) (store.Manifest, error) {
	return hooked(ctx, m.hook, "Manifest", func() (store.Manifest, error) { return m.store.Manifest(ctx, repository, ref) })
}

func (m *hookedMetadata) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	return hooked(ctx, m.hook, "Tags", func() ([]string, error) { return m.store.Tags(ctx, repository, after, limit) })
}

func (m *hookedMetadata) Referrers(ctx context.Context, repository string, subject digest.Digest, page store.ReferrersPage) ([]ocispec.Descriptor, error) {
	return hooked(ctx, m.hook, "Referrers", func() ([]ocispec.Descriptor, error) {
		return m.store.Referrers(ctx, repository, subject, page)
	})
}

func (m *hookedMetadata) Repositories(ctx context.Context, after string, limit int) ([]string, error) {
	return hooked(ctx, m.hook, "Repositories", func() ([]string, error) { return m.store.Repositories(ctx, after, limit) })
}

func (m *hookedMetadata) Holders(ctx context.Context, d digest.Digest, after string, limit int) ([]string, error) {
	return hooked(ctx, m.hook, "Holders", func() ([]string, error) { return m.store.Holders(ctx, d, after, limit) })
}

func (m *hookedMetadata) Mount(ctx context.Context, d digest.Digest, from, to string) (store.Content, error) {
	return hooked(ctx, m.hook, "Mount", func() (store.Content, error) { return m.store.Mount(ctx, d, from, to) })
}

func (m *hookedMetadata) DeleteTag(ctx context.Context, repository, tag string) error {
	return m.hook.do(ctx, "DeleteTag", func() error { return m.store.DeleteTag(ctx, repository, tag) })
}

func (m *hookedMetadata) DeleteManifest(ctx context.Context, repository string, d digest.Digest, locked func(tag string) bool) error {
	return m.hook.do(ctx, "DeleteManifest", func() error { return m.store.DeleteManifest(ctx, repository, d, locked) })
}

func (m *hookedMetadata) DeleteContent(ctx context.Context, repository string, d digest.Digest) error {
	return m.hook.do(ctx, "DeleteContent", func() error { return m.store.DeleteContent(ctx, repository, d) })
}

func (m *hookedMetadata) Candidates(ctx context.Context, idle time.Duration, limit int) ([]store.Candidate, error) {
	return hooked(ctx, m.hook, "Candidates", func() ([]store.Candidate, error) { return m.store.Candidates(ctx, idle, limit) })
}

func (m *hookedMetadata) Garbage(ctx context.Context, age time.Duration, limit int) ([]store.Garbage, error) {
	return hooked(ctx, m.hook, "Garbage", func() ([]store.Garbage, error) { return m.store.Garbage(ctx, age, limit) })
}
