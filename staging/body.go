package staging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ocikit/ocikit/store"
)

// body reads bytes that lie in several places, tails in the store among them, as one seekable stream: what a part is
// made of when it joins what earlier requests left.
//
// What is read back is not believed: as it passes, it is hashed on from the last part's end, and has to lead to the
// state that was saved with it. A store may read more than once, to sign the bytes or to send them again, and what it
// keeps is the last reading; so each reading from the start is a check from the start. Tails are kept for that, in pages
// that the budget can spare: to read each of them once is what finishing promises, not what being right depends on.
type body struct {
	ctx     context.Context
	objects store.Objects
	sources []source
	size    int64

	pos     int64         // of the next Read
	open    io.ReadCloser // the tail that is being read, up to
	openEnd int64

	spare *Budget // nil: nothing is kept
	kept  buffer  // the first bytes of the tails that were read

	from, want []byte  // the hash's states before what is verified, and after it
	check      *hashes // in between; nil: nothing is read back
	checked    int64   // bytes that check has seen
	checkEnd   int64   // bytes that it has to see
}

// source is either an object or bytes.
type source struct {
	start, size int64
	key         store.Key
	data        []byte
}

var errReadBack = errors.New("staged bytes read back differ from what was received")

func newBody(ctx context.Context, objects store.Objects) *body {
	return &body{ctx: ctx, objects: objects}
}

func (b *body) addTail(tail store.Tail) {
	b.add(source{size: tail.Size, key: tail.Key})
}

func (b *body) addBytes(data []byte) {
	if len(data) > 0 {
		b.add(source{size: int64(len(data)), data: data})
	}
}

// keepIn makes tails that are read be kept for the next reading, until Close.
func (b *body) keepIn(spare *Budget) { b.spare, b.kept.budget = spare, spare }

func (b *body) add(s source) {
	s.start = b.size
	b.sources = append(b.sources, s)
	b.size += s.size
}

// verify makes the bytes added so far be hashed from one saved state to another.
func (b *body) verify(from, want []byte) {
	b.from, b.want, b.checkEnd = from, want, b.size
	b.recheck()
}

// recheck begins the check anew.
func (b *body) recheck() {
	if b.from != nil {
		b.check, b.checked = wakeHashes(b.from), 0
	}
}

// verified reports whether what was read back is what was received; nil as well if nothing was to be.
func (b *body) verified() error {
	if b.check == nil {
		return nil
	}
	want, _, _ := splitStates(b.want)
	got, _, _ := splitStates(b.check.state())
	if b.checked < b.checkEnd || !bytes.Equal(want, got) {
		return errReadBack
	}
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.pos >= b.size {
		return 0, io.EOF
	}
	n, err := b.read(p)
	if b.check != nil && b.pos == b.checked && n > 0 {
		seen := min(int64(n), b.checkEnd-b.checked)
		b.check.write(p[:seen])
		b.checked += seen
	}
	b.pos += int64(n)
	return n, err
}

// read reads from the source at pos.
func (b *body) read(p []byte) (int, error) {
	i, _ := slices.BinarySearchFunc(b.sources, b.pos, func(s source, pos int64) int {
		switch {
		case s.start+s.size <= pos:
			return -1
		case s.start > pos:
			return 1
		}
		return 0
	})
	s := b.sources[i]
	switch {
	case s.key == "":
		return copy(p, s.data[b.pos-s.start:]), nil
	case b.pos < b.kept.size:
		return b.kept.readAt(p, b.pos), nil
	}
	n, err := b.readTail(p, s)
	b.keep(p[:n])
	return n, err
}

// readTail reads from a tail at pos.
func (b *body) readTail(p []byte, s source) (int, error) {
	if b.open == nil {
		r, err := b.objects.Open(b.ctx, s.key, b.pos-s.start, -1)
		if err != nil {
			return 0, fmt.Errorf("read staged bytes back: %w", err)
		}
		b.open, b.openEnd = r, s.start+s.size
	}
	n, err := b.open.Read(p[:min(int64(len(p)), b.openEnd-b.pos)])
	if b.pos+int64(n) == b.openEnd {
		return n, b.closeTail()
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("read staged bytes back: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

// Seek implements io.Seeker.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += b.pos
	case io.SeekEnd:
		offset += b.size
	default:
		return 0, errors.New("seek from nowhere")
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	if offset != b.pos {
		if err := b.closeTail(); err != nil {
			return 0, err
		}
	}
	b.pos = offset
	if offset == 0 {
		b.recheck()
	}
	return offset, nil
}

// keep keeps the bytes of tails at pos, if all before them are kept, and half of the budget stays free.
func (b *body) keep(data []byte) {
	if b.spare == nil || b.pos != b.kept.size {
		return
	}
	for len(data) > 0 {
		space := b.kept.space(int64(len(data)))
		if len(space) == 0 {
			page := b.spare.more(b.spare.total / 2)
			if page == nil {
				return
			}
			b.kept.grow(page)
			continue
		}
		n := copy(space, data)
		b.kept.took(n)
		data = data[n:]
	}
}

// Close closes the object that is open, if any, and gives back what was kept.
func (b *body) Close() error {
	b.spare = nil
	if b.kept.budget != nil {
		b.kept.release(false)
	}
	return b.closeTail()
}

func (b *body) closeTail() error {
	if b.open == nil {
		return nil
	}
	r := b.open
	b.open = nil
	return r.Close()
}
