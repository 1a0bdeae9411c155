package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/store"
)

// Finish adds a last chunk, which may be empty, and makes the upload content of its repository, if its bytes have the
// digest d; it returns their number.
//
// Finishing costs at most one read of a tail, one part and one completion, whatever the size; an upload that fits a part
// and came in one request costs no object request at all here, or one if its bytes came with this very call. Only when
// the digest's algorithm was not the one hashed (sha512 that nobody announced, beyond the first part), or when the saved
// hash cannot be read, the content is read back.
//
// Finishing again with the same digest succeeds, as long as the content is still there, on any replica. Errors are those
// of [Stage.Append], with what it says of the bytes that came when the body fails; [cas.ErrDigest]; and
// [*cas.MismatchError]: nothing is visible then, the last chunk is dropped as far as it was not saved on the way, and the
// upload can be continued or finished with another digest.
func (s *Stage) Finish(ctx context.Context, repository, id string, chunk Chunk, d digest.Digest) (size int64, err error) {
	if _, err := cas.ParseDigest(string(d)); err != nil {
		return 0, fmt.Errorf("finish upload: %w", err)
	}
	size, err = s.finish(ctx, repository, id, chunk, d)
	if errors.Is(err, store.ErrFenced) {
		// Whoever took over may have finished with the same digest: two answers to one closing request, sent twice.
		if session, unknown := s.meta.Session(ctx, s.ref(repository, id)); unknown == nil && session.State == store.SessionFinished {
			size, err = s.finished(ctx, session, d)
		} else {
			err = s.explain(ctx, repository, id, err)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("finish upload: %w", err)
	}
	return size, nil
}

func (s *Stage) finish(ctx context.Context, repository, id string, chunk Chunk, d digest.Digest) (int64, error) {
	session, claimed, err := s.open(ctx, repository, id, chunk.At, true)
	switch {
	case err != nil:
		return 0, err
	case session.State == store.SessionFinished:
		return s.finished(ctx, session, d)
	}
	w := s.newWriter(ctx, session, d.Algorithm())
	defer w.close()
	w.finishing = true
	if claimed {
		w.own(session)
	}
	if session.State == store.SessionCompleting {
		return session.Offset, w.complete(d)
	}
	if err := w.receive(ctx, chunk); err != nil {
		return 0, errors.Join(err, w.settle(true))
	}
	size := w.received()
	if err := w.finish(d); err != nil {
		return 0, err
	}
	return size, nil
}

// finished answers for an upload that is content already.
func (s *Stage) finished(ctx context.Context, tombstone store.Session, d digest.Digest) (int64, error) {
	if tombstone.Digest != d {
		return 0, store.ErrSessionUnknown
	}
	content, err := s.meta.Content(ctx, tombstone.Repository, d)
	if errors.Is(err, store.ErrContentUnknown) {
		err = store.ErrSessionUnknown
	}
	return content.Size, err
}

// finish makes content of all that has come. When it fails before the parts are completed, the claim is ended, and what
// the last chunk brought is dropped unless it was saved on the way.
func (w *writer) finish(d digest.Digest) error {
	if err := w.prepare(d); err != nil {
		return errors.Join(err, w.end(false))
	}
	if w.inParts() {
		return w.complete(d)
	}
	content, err := w.single()
	if err != nil {
		return errors.Join(err, w.end(false))
	}
	content.Digest = d
	return w.publish(content)
}

// prepare compares the digest and, of an upload in parts, stores the last one.
func (w *writer) prepare(d digest.Digest) error {
	got, err := w.sum(d.Algorithm())
	if err != nil {
		return err
	}
	if got != "" && got != d {
		return &cas.MismatchError{Want: d, Got: got}
	}
	if !w.inParts() {
		return nil
	}
	if err := w.claim(); err != nil {
		return err
	}
	if w.rest()+w.current.size > 0 {
		if err := w.send(&w.current, func() {}); err != nil {
			return err
		}
	}
	if err := w.collect(); err != nil {
		return err
	}
	w.current.release(false)
	// The claim is over, whatever comes of this: the last part may be too small to be followed by another, so that it
	// must not be counted by a session that is not completing.
	w.ended, w.session.Digest = true, got
	return w.record(store.Save{Complete: true, Digest: got})
}

// sum returns the digest of all that has come, or "" when that is not known before the parts are completed.
func (w *writer) sum(a digest.Algorithm) (digest.Digest, error) {
	w.catchUp()
	w.hashes.writeRest(w.session.Inline)
	w.current.each(w.hashes.writeRest)
	if got := w.hashes.sum(a); got != "" || w.session.PartsEnd > 0 || len(w.sending) > 0 {
		return got, nil
	}
	if err := w.rehash(a); err != nil {
		return "", err
	}
	return w.hashes.sum(a), nil
}

// rehash hashes anew, by the algorithm, what is in no part. What is read back later is then held against that.
func (w *writer) rehash(a digest.Algorithm) error {
	known := newHashes(a)
	content := w.body(&buffer{})
	_, err := io.Copy(known.first, content)
	if err == nil {
		err = content.verified()
	}
	if err := errors.Join(err, content.Close()); err != nil {
		return err
	}
	w.session.Hash = known.state()
	w.current.each(known.write)
	w.hashes = known
	return nil
}

// inParts reports whether the content will be made of parts. An upload that was begun for a part that failed has none.
func (w *writer) inParts() bool { return w.begun() && w.received() > 0 }

// single is the content of an upload that has no parts.
func (w *writer) single() (store.Content, error) {
	size := w.received()
	switch {
	case len(w.session.Tails) == 0 && size <= max(w.stage.options.InlineLimit, 0):
		return store.Content{Size: size, Inline: w.inline()}, nil
	case len(w.session.Tails) == 1 && w.session.Tails[0].Size == size && strings.HasPrefix(string(w.session.Tails[0].Key), store.BlobPrefix):
		return store.Content{Size: size, Key: w.session.Tails[0].Key}, nil
	}
	if err := w.claim(); err != nil {
		return store.Content{}, err
	}
	key, content := w.session.Reserved.Blob, w.body(&w.current)
	w.writeTo(key)
	err := w.put(content, func(ctx context.Context) error {
		return w.stage.objects.Put(ctx, key, content, content.size)
	})
	if err != nil {
		return store.Content{}, fmt.Errorf("store content: %w", err)
	}
	return store.Content{Size: size, Key: key}, nil
}

// complete makes content of an upload whose bytes are all in parts. It can be done again, by whoever claims the upload
// next.
func (w *writer) complete(d digest.Digest) error {
	compared := w.session.Digest
	if compared != "" && compared != d && compared.Algorithm() == d.Algorithm() {
		return &cas.MismatchError{Want: d, Got: compared}
	}
	ctx, cancel := context.WithTimeout(w.work, w.stage.options.WriteTimeout)
	defer cancel()
	err := w.stage.objects.Complete(ctx, w.session.Multipart, w.session.Parts)
	if errors.Is(err, store.ErrInvalidPart) || errors.Is(err, store.ErrMultipartUnknown) {
		return w.lost(err)
	}
	if err != nil {
		return fmt.Errorf("complete upload: %w", err)
	}
	if compared != d {
		if err := w.readBack(d); err != nil {
			return err
		}
	}
	return w.publish(store.Content{Digest: d, Size: w.session.Offset, Key: w.session.Multipart.Key})
}

// lost ends an upload whose parts the store does not have any more: better no content than wrong content.
func (w *writer) lost(err error) error {
	dropped, failed := w.stage.meta.DropSession(w.work, w.stage.ref(w.session.Repository, w.session.ID))
	if failed != nil {
		return errors.Join(err, failed)
	}
	w.stage.abort(w.work, &dropped)
	return fmt.Errorf("%w: %w", store.ErrSessionUnknown, err)
}

// readBack compares the completed object with a digest of another algorithm than was hashed.
func (w *writer) readBack(d digest.Digest) error {
	r, err := w.stage.objects.Open(w.work, w.session.Multipart.Key, 0, -1)
	if err != nil {
		return fmt.Errorf("read content back: %w", err)
	}
	defer r.Close()
	verifier := d.Verifier()
	if _, err := io.Copy(verifier, r); err != nil {
		return fmt.Errorf("read content back: %w", err)
	}
	if !verifier.Verified() {
		return &cas.MismatchError{Want: d}
	}
	return nil
}

// publish makes the content known, and ends the upload.
func (w *writer) publish(content store.Content) error {
	err := w.stage.meta.FinishSession(w.work, store.Finish{ID: w.session.ID, Version: w.session.Version, Unused: w.unwritten, Content: content})
	if err != nil {
		return fmt.Errorf("record content: %w", err)
	}
	w.ended = true
	return nil
}
