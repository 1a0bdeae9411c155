package staging

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ocikit/ocikit/store"
)

// settle makes every byte that has come durable, and saves. With release the claim is over. It is over as well after an
// error; what was durable before is then saved if that can be done, so that the upload goes on from there.
func (w *writer) settle(release bool) error { return w.settleReading(false, release) }

// settleReading is settle while the last page of current may be being read into.
func (w *writer) settleReading(reading, release bool) error {
	if w.ended {
		return nil
	}
	w.current.endTurn()
	var err error
	if !release && w.current.size > 0 {
		err = w.claim() // to go on writing
	}
	if err == nil {
		err = w.keepRest(reading)
	}
	if err != nil {
		return errors.Join(err, w.end(reading))
	}
	if w.unsaved || release && w.claimed {
		err = w.save(release)
	}
	w.ended = release || err != nil
	return err
}

// end ends the claim, with what is durable, and drops what is not.
func (w *writer) end(reading bool) error {
	if w.ended {
		return nil
	}
	w.ended = true
	err := w.collect()
	w.current.release(reading)
	w.unhashed = nil
	if w.claimed {
		err = errors.Join(err, w.save(true))
	}
	return err
}

// keepRest makes current durable, in the way that costs least at its size: in the row while it is tiny; at the start as
// an object that may become the content as it is; as a part, where the store takes parts of that size; else as a tail.
func (w *writer) keepRest(reading bool) error {
	if w.current.size <= w.stage.options.InlineLimit || !w.mayBePart(w.current.size) {
		if err := w.collect(); err != nil { // else it follows at once
			return err
		}
	}
	if w.current.size == 0 {
		return nil
	}
	w.catchUp()
	if inline := int64(len(w.session.Inline)) + w.current.size; inline <= w.stage.options.InlineLimit {
		w.session.Inline = w.inline()
	} else if part, err := w.keepObject(reading); part || err != nil {
		return err
	}
	w.session.Offset += w.current.size
	w.session.Hash = w.hashes.state()
	w.unsaved = true
	w.current.release(reading)
	return nil
}

// keepObject is keepRest for what is too large for the row. A part takes current with it, and counts its bytes itself.
func (w *writer) keepObject(reading bool) (part bool, err error) {
	if err := w.claim(); err != nil {
		return false, err
	}
	switch {
	case w.session.Offset == int64(len(w.session.Inline)) && !w.begun():
		return false, w.keepTail(&w.session.Reserved.Blob)
	case !w.mayBePart(w.rest() + w.current.size):
		return false, w.keepTail(&w.session.Reserved.Tail)
	}
	if err := w.send(&w.current, func() {}); err != nil {
		return false, err
	}
	if err := w.collect(); err != nil {
		return false, err
	}
	w.current.release(reading)
	return true, nil
}

// mayBePart reports whether a part of that size may be followed by others. Small parts take only the first half of the
// numbers, so that however a client cuts its chunks, half of the largest size can be reached.
func (w *writer) mayBePart(size int64) bool {
	limits := w.stage.limits
	if limits.EqualParts {
		return size == w.session.PartSize
	}
	small := size < w.session.PartSize
	return size >= limits.MinPart && size <= limits.MaxPart && !(small && w.used >= limits.MaxParts/2)
}

// inline is the row's own bytes and current.
func (w *writer) inline() []byte {
	inline := make([]byte, 0, int64(len(w.session.Inline))+w.current.size)
	inline = append(inline, w.session.Inline...)
	w.current.each(func(data []byte) { inline = append(inline, data...) })
	return inline
}

// keepTail stores the row's own bytes and current as an object, and uses the reserved key up.
func (w *writer) keepTail(key *store.Key) error {
	content := newBody(w.work, w.stage.objects)
	content.addBytes(w.session.Inline)
	w.current.each(content.addBytes)
	tail := store.Tail{Key: *key, Size: content.size}
	w.writeTo(tail.Key)
	*key = ""
	err := w.put(content, func(ctx context.Context) error {
		return w.stage.objects.Put(ctx, tail.Key, content, content.size)
	})
	if err != nil {
		return fmt.Errorf("store staged bytes: %w", err)
	}
	w.hashes.writeRest(w.session.Inline)
	w.current.each(w.hashes.writeRest)
	w.newTail = &tail
	w.session.Tails = append(slices.Clip(w.session.Tails), tail)
	w.session.Inline = nil
	return nil
}
