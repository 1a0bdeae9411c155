package staging

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocikit/ocikit/store"
)

// Append adds a chunk to an upload.
//
// However it ends, what arrived before is kept, as far as that can be done within Options.Linger, also when ctx ended
// because the client vanished; Status tells how much. It returns only after the last Read of the body has: whoever
// cancels ctx has to unblock the body.
//
// Errors: [store.ErrSessionUnknown]; [*OffsetError] when the chunk does not begin where the upload stands, in which
// case nothing has changed, or when another writer took over; [*BodyError]; [*SizeError]; [ErrBusy]. After any other the
// upload goes on from where Status says.
func (s *Stage) Append(ctx context.Context, repository, id string, chunk Chunk) (Upload, error) {
	session, claimed, err := s.open(ctx, repository, id, chunk.At, false)
	if err == nil && session.State == store.SessionFinished {
		err = store.ErrSessionUnknown
	}
	if err != nil {
		return Upload{}, fmt.Errorf("append to upload: %w", err)
	}
	w := s.newWriter(ctx, session, session.Algorithm)
	defer w.close()
	if claimed {
		w.own(session)
	}
	if err := errors.Join(w.receive(ctx, chunk), w.settle(true)); err != nil {
		return Upload{}, fmt.Errorf("append to upload: %w", s.explain(ctx, repository, id, err))
	}
	return s.upload(&w.session), nil
}

// open returns a session to write to. One that nobody is writing to need not be claimed yet: a chunk that its row can
// hold is claimed by the very save that records it, and an upload that is whole by its end.
func (s *Stage) open(ctx context.Context, repository, id string, at int64, finish bool) (_ store.Session, claimed bool, _ error) {
	session, err := s.meta.Session(ctx, s.ref(repository, id))
	switch {
	case err != nil || session.State == store.SessionFinished:
		return session, false, err
	case session.State == store.SessionOpen && at >= 0 && at != session.Offset:
		return session, false, s.offsetError(&session)
	case session.State == store.SessionOpen && session.Released():
		return session, false, nil
	}
	session, err = s.claim(ctx, repository, id, at, finish)
	return session, true, err
}

// claim makes the caller the upload's only writer.
func (s *Stage) claim(ctx context.Context, repository, id string, at int64, finish bool) (store.Session, error) {
	session, err := s.meta.ClaimSession(ctx, store.Claim{
		SessionRef: s.ref(repository, id),
		Offset:     max(at, -1),
		Finish:     finish,
		Reserve:    s.reservation(id),
		PartCount:  s.partsPerSave(),
		Parts:      finish,
	})
	var offset *store.OffsetError
	if errors.As(err, &offset) {
		return session, s.offsetError(&offset.Session)
	}
	return session, err
}

// reservation mints the keys that a claim may write under until its next save.
func (s *Stage) reservation(id string) store.Reservation {
	return store.Reservation{Blob: store.NewBlobKey(), Tail: store.NewUploadKey(id)}
}

// partsPerSave is how many part numbers may be needed between two saves: for the parts that are saved, for those that
// are on their way then, and for a rest. When that was not enough, more are reserved.
func (s *Stage) partsPerSave() int32 {
	return int32(min(s.options.SaveBytes/s.options.PartSize, 64)) + int32(min(s.options.PartsInFlight, 16)) + 2 //nolint:gosec // few
}

// explain turns a writer's having been fenced off into where the upload stands now.
func (s *Stage) explain(ctx context.Context, repository, id string, err error) error {
	if !errors.Is(err, store.ErrFenced) {
		return err
	}
	upload, unknown := s.Status(ctx, repository, id)
	switch {
	case errors.Is(unknown, store.ErrSessionUnknown):
		return store.ErrSessionUnknown
	case unknown != nil:
		return errors.Join(err, unknown)
	}
	return &OffsetError{Upload: upload}
}
