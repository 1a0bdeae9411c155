package staging

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
)

// writer is one claim of one upload: it takes bytes, and makes them durable in parts and leftovers. It may begin before
// the claim, on a session that was read released; before anything is written to the objects, the session has to be
// claimed.
//
// The bytes of the upload are, in this order: session.PartsEnd bytes in parts; the rest, which is session.Tails and
// session.Inline; the parts that are being sent, the first of which includes the rest; current. What session says is
// durable in the objects; the row is behind by what unsaved, newParts, newTail and joined tell.
//
// When a write fails, what follows the durable bytes is dropped with it, and the claim ends: nothing that comes later
// may take its place.
type writer struct {
	stage    *Stage
	work     context.Context // outlives the request, for a while
	stop     func()
	known    digest.Algorithm // of the digest that the upload will have, or ""
	session  store.Session
	hashes   *hashes // of all bytes up to unhashed
	unhashed []byte  // the end of current that they have not seen
	current  buffer
	sending  []*sending // in the order of their bytes

	finishing bool // the claim ends the upload
	claimed   bool
	unwritten []store.Key  // that were reserved, and nothing was sent to
	used      int32        // the last part number that was used; session.LastPart is reserved
	newParts  []store.Part // that the row does not have
	newTail   *store.Tail  // that the row does not have
	joined    bool         // the row's tails are in parts
	unsaved   bool
	savedAt   time.Time
	savedEnd  int64 // the offset in the row
	ended     bool  // the claim is over
	turnBegan time.Time
	pace      pace // since then
}

// sending is a part on its way to the store.
type sending struct {
	end   int64  // the part's last byte and one
	state []byte // of the hashes there
	done  chan sent
}

type sent struct {
	part store.Part
	err  error
}

// newWriter returns a writer of the session, unclaimed. known is the algorithm that the upload's digest will be of, or
// "".
func (s *Stage) newWriter(ctx context.Context, session store.Session, known digest.Algorithm) *writer {
	w := &writer{
		stage:    s,
		known:    known,
		current:  buffer{budget: s.options.Budget},
		savedAt:  time.Now(),
		savedEnd: session.Offset,
	}
	w.adopt(session)
	w.used = session.LastPart
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		linger := time.AfterFunc(s.options.Linger, cancel)
		context.AfterFunc(work, func() { linger.Stop() })
	})
	w.work, w.stop = work, func() { unhook(); cancel() }
	return w
}

// adopt begins with what a row says: whatever comes goes on from there.
func (w *writer) adopt(session store.Session) {
	w.session, w.hashes = session, newHashes(w.known)
	if session.Offset > 0 {
		w.hashes = wakeHashes(session.Hash)
	}
	if session.PartsEnd > 0 && wakeHashes(session.PartsHash).algorithm != w.hashes.algorithm {
		w.hashes = &hashes{} // tails could not be verified
	}
	if session.PartSize == 0 {
		w.session.PartSize = w.stage.options.PartSize // from the first save on, replicas agree
	}
}

// claim makes the writer the upload's only one, if it is not yet: what it is about to write to the objects needs keys
// and part numbers that are its own. Of several that have read the same row, the last to claim wins, as among any.
func (w *writer) claim() error {
	if w.claimed {
		return nil
	}
	session, err := w.stage.claim(w.work, w.session.Repository, w.session.ID, w.session.Offset, w.finishing)
	if err != nil {
		return fmt.Errorf("claim upload: %w", err)
	}
	if session.State != store.SessionOpen {
		return fmt.Errorf("claim upload: %w", store.ErrFenced)
	}
	if session.Version != w.session.Version+1 {
		// Others have claimed it since it was read. Durable bytes never change, so that at the same offset they are the
		// same; but they may lie elsewhere by now, and their hash may be another one.
		w.adopt(session)
		w.current.each(w.hashes.write)
		w.unhashed = nil
		if w.room() < 0 {
			return fmt.Errorf("claim upload: %w", store.ErrFenced) // it was begun with smaller parts meanwhile
		}
	}
	w.own(session)
	return nil
}

// own takes over what a claim has given.
func (w *writer) own(session store.Session) {
	w.claimed = true
	w.session.Version, w.session.Reserved = session.Version, session.Reserved
	w.unwritten = []store.Key{session.Reserved.Blob, session.Reserved.Tail}
	w.session.LastPart, w.session.Parts = session.LastPart, session.Parts
	w.used = session.LastPart - w.stage.partsPerSave()
}

// close gives everything back. Nothing of the writer runs afterwards.
func (w *writer) close() {
	w.abandon()
	w.current.release(false)
	w.stop()
}

// rest is how many durable bytes are in no part, and in none that is being sent.
func (w *writer) rest() int64 {
	if len(w.sending) > 0 {
		return 0
	}
	return w.session.Offset - w.session.PartsEnd
}

// received is the offset up to which bytes have come.
func (w *writer) received() int64 {
	if last := len(w.sending) - 1; last >= 0 {
		return w.sending[last].end + w.current.size
	}
	return w.session.Offset + w.current.size
}

// room is how many bytes the part that is being filled can still take.
func (w *writer) room() int64 { return w.session.PartSize - w.rest() - w.current.size }

// begun reports whether the upload is one in parts.
func (w *writer) begun() bool { return w.session.Multipart != (store.Multipart{}) }

// cut sends what is there as a part, while more is received; a last page that holds none of it stays.
func (w *writer) cut() error {
	err := w.claim()
	for err == nil && (len(w.sending) >= w.stage.options.PartsInFlight || len(w.sending) > 0 && w.sending[0].over()) {
		err = w.collectOne()
	}
	if err != nil {
		return errors.Join(err, w.end(false))
	}
	if w.session.PartsEnd-w.savedEnd >= w.stage.options.SaveBytes {
		if err := w.save(false); err != nil {
			return err
		}
	}
	full := w.current.split()
	full.endTurn()
	if err := w.send(&full, func() { full.release(false) }); err != nil {
		full.release(false)
		return errors.Join(err, w.end(false))
	}
	return nil
}

// send begins to store the rest and the buffer as a part, and calls sentBuffer when the buffer is not needed for that any
// more.
func (w *writer) send(b *buffer, sentBuffer func()) error {
	w.catchUp()
	w.hashes.second = nil // from here on it could only be had by reading back
	number, err := w.nextNumber()
	if err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	content := w.body(b)
	part := store.Part{Number: number, Offset: w.session.PartsEnd, Size: content.size}
	if last := len(w.sending) - 1; last >= 0 {
		part.Offset = w.sending[last].end
	}
	s := &sending{end: part.Offset + part.Size, state: w.hashes.state(), done: make(chan sent, 1)}
	w.sending = append(w.sending, s)
	multipart, version := w.session.Multipart, w.session.Version
	go func() {
		err := w.put(content, func(ctx context.Context) (err error) {
			part, err = w.stage.objects.PutPart(ctx, multipart, version, part, content)
			return err
		})
		sentBuffer()
		s.done <- sent{part, err}
	}()
	return nil
}

// over reports whether collecting would not wait.
func (s *sending) over() bool { return len(s.done) > 0 }

// nextNumber returns the next part number; one that the row has reserved, so that a later claim will not use it.
func (w *writer) nextNumber() (int32, error) {
	if w.used >= w.stage.limits.MaxParts {
		return 0, &SizeError{Limit: w.session.PartsEnd}
	}
	if w.used >= w.session.LastPart {
		if err := w.save(false); err != nil {
			return 0, err
		}
	}
	w.used++
	return w.used, nil
}

// begin begins the multipart upload when there is none, and uses up the key that was reserved for it: when that fails, an upload
// may have been begun that nobody knows by its name, and the save that ends the claim condemns the key.
func (w *writer) begin() error {
	if w.begun() {
		return nil
	}
	key := w.session.Reserved.Blob
	w.writeTo(key)
	w.session.Reserved.Blob = ""
	ctx, cancel := context.WithTimeout(w.work, w.stage.options.WriteTimeout)
	defer cancel()
	multipart, err := w.stage.objects.Begin(ctx, key)
	if err != nil {
		return fmt.Errorf("begin multipart upload: %w", err)
	}
	w.session.Multipart = multipart
	return nil
}

// writeTo notes that something is about to be written under a reserved key.
func (w *writer) writeTo(key store.Key) {
	w.unwritten = slices.DeleteFunc(w.unwritten, func(k store.Key) bool { return k == key })
}

// collect waits for the parts on their way; they are durable then.
func (w *writer) collect() error {
	for len(w.sending) > 0 {
		if err := w.collectOne(); err != nil {
			return err
		}
	}
	return nil
}

// collectOne waits for the first of the parts on their way. After an error its bytes are lost, and all that follow.
func (w *writer) collectOne() error {
	s := w.sending[0]
	w.sending = w.sending[1:]
	done := <-s.done
	if done.err != nil {
		w.abandon()
		return fmt.Errorf("store part: %w", done.err)
	}
	w.joined = w.joined || len(w.session.Tails) > 0
	w.session.Tails, w.session.Inline = nil, nil
	w.session.Offset, w.session.PartsEnd = s.end, s.end
	w.session.Hash, w.session.PartsHash = s.state, s.state
	w.newParts = append(w.newParts, done.part)
	w.unsaved = true
	return nil
}

// abandon waits for what is on its way, which does not count.
func (w *writer) abandon() {
	for _, s := range w.sending {
		<-s.done
	}
	w.sending = nil
}

// body is the rest, if it is in no part that is being sent, followed by the buffer's bytes.
func (w *writer) body(b *buffer) *body {
	content := newBody(w.work, w.stage.objects)
	if len(w.sending) > 0 {
		b.each(content.addBytes)
		return content
	}
	for _, tail := range w.session.Tails {
		content.addTail(tail)
	}
	content.addBytes(w.session.Inline)
	if len(w.session.Tails) > 0 && w.hashes.first != nil {
		before := w.session.PartsHash
		if w.session.PartsEnd == 0 {
			before = newHashes(w.hashes.algorithm).state()
		}
		content.verify(before, w.session.Hash)
	}
	b.each(content.addBytes)
	return content
}

// put runs one request that stores content, and then checks what was read back for it.
func (w *writer) put(content *body, request func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(w.work, w.stage.options.WriteTimeout)
	defer cancel()
	content.keepIn(w.stage.options.Budget)
	err := request(ctx)
	if err == nil {
		err = content.verified()
	}
	return errors.Join(err, content.Close())
}

// save records in the row what is durable. With release the claim is over; else the row reserves what the next writes
// need.
func (w *writer) save(release bool) error {
	next := store.Reservation{}
	w.session.LastPart = w.used
	if !release {
		next = w.reserve()
		w.session.LastPart += w.stage.partsPerSave()
	}
	return w.record(store.Save{Reserved: next})
}

// record writes what is durable to the row.
func (w *writer) record(save store.Save) error {
	save.ID, save.Version, save.Progress = w.session.ID, w.session.Version, w.session.Progress
	save.Claim, save.Unused = !w.claimed, w.unwritten
	save.Parts, save.Tail, save.Joined = w.newParts, w.newTail, w.joined
	if err := w.stage.meta.SaveSession(w.work, save); err != nil {
		w.ended = w.ended || errors.Is(err, store.ErrFenced)
		return fmt.Errorf("save upload: %w", err)
	}
	w.session.Reserved = save.Reserved
	w.session.Parts = append(w.session.Parts, w.newParts...)
	w.newParts, w.newTail, w.joined, w.unsaved = nil, nil, false, false
	w.savedAt, w.savedEnd = time.Now(), w.session.Offset
	return nil
}

// reserve returns the keys to write under after the next save: those of the claim that are still unused, and new ones
// for those that are not.
func (w *writer) reserve() store.Reservation {
	next, fresh := w.session.Reserved, w.stage.reservation(w.session.ID)
	if next.Tail == "" {
		next.Tail = fresh.Tail
		w.unwritten = append(w.unwritten, next.Tail)
	}
	if next.Blob == "" && !w.begun() {
		next.Blob = fresh.Blob
		w.unwritten = append(w.unwritten, next.Blob)
	}
	return next
}
