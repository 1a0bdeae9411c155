package encrypted

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ocikit/ocikit/store"
)

const (
	frame       = 64 << 10                       // bytes of plaintext
	nonceSize   = 12                             // 8 that are random for each call, 4 that count
	overhead    = nonceSize + 16                 // bytes that sealing adds to a frame
	sealedFrame = int64(frame) + int64(overhead) // bytes
)

// errChanged says that somebody changed an object in the store below, or that the secret is another one.
var errChanged = errors.New("object was changed in the store, or encrypted with another secret")

// sealedSize returns how many bytes size bytes become.
func sealedSize(size int64) int64 { return size + (size+frame-1)/frame*overhead }

// openedSize is the reverse of sealedSize.
func openedSize(size int64) int64 { return size - (size+sealedFrame-1)/sealedFrame*overhead }

// sealer seals plaintext as it is read, frame by frame, from any place on.
type sealer struct {
	aead    cipher.AEAD
	plain   io.ReadSeeker
	size    int64   // of plain
	first   int64   // the place of its first frame in the object
	random  [8]byte // the nonces' first bytes
	current int64   // the frame that buffer holds, sealed; -1 for none
	buffer  []byte
	scratch []byte
}

// seal returns a reader of the size bytes of plain, sealed as the frames of an object from first on.
func seal(aead cipher.AEAD, plain io.ReadSeeker, size, first int64) io.ReadSeeker {
	s := &sealer{aead: aead, plain: plain, size: size, first: first, current: -1}
	rand.Read(s.random[:])
	return struct{ io.ReadSeeker }{io.NewSectionReader(s, 0, sealedSize(size))} // nothing but that: it must not be read concurrently
}

// ReadAt implements [io.ReaderAt], for the section reader, which never asks for more than there is.
func (s *sealer) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		at := offset + int64(n)
		if err := s.load(at / sealedFrame); err != nil {
			return n, err
		}
		n += copy(p[n:], s.buffer[at%sealedFrame:])
	}
	return n, nil
}

// load seals one frame into the buffer.
func (s *sealer) load(index int64) error {
	if index == s.current {
		return nil
	}
	s.current = -1
	if s.scratch == nil {
		s.scratch = make([]byte, min(frame, s.size))
	}
	if _, err := s.plain.Seek(index*frame, io.SeekStart); err != nil {
		return err
	}
	text := s.scratch[:min(frame, s.size-index*frame)]
	if _, err := io.ReadFull(s.plain, text); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	nonce := binary.BigEndian.AppendUint32(append(s.buffer[:0], s.random[:]...), uint32(index))
	s.buffer = s.aead.Seal(nonce, nonce, text, place(s.first+index))
	s.current = index
	return nil
}

// place is what binds a frame to where it is in its object.
func place(index int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(index)) }

// opener reads the plaintext of sealed frames.
type opener struct {
	aead   cipher.AEAD
	body   io.ReadCloser
	index  int64  // of the next frame
	left   int64  // bytes that may still be read
	text   []byte // that was opened, and not read yet
	buffer []byte
}

// skip opens the first frame, and passes over its first bytes. It fails with ErrOutOfRange if that is all of the object.
func (r *opener) skip(bytes int64) error {
	err := r.next()
	if errors.Is(err, io.EOF) || err == nil && bytes >= int64(len(r.text)) {
		return store.ErrOutOfRange
	}
	if err != nil {
		return err
	}
	r.text = r.text[bytes:]
	return nil
}

// next opens a frame. io.EOF means that there is none.
func (r *opener) next() error {
	if r.buffer == nil {
		r.buffer = make([]byte, sealedFrame)
	}
	n, err := io.ReadFull(r.body, r.buffer)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // that is the last frame, or one that does not open
		return err
	}
	if n <= overhead {
		return errChanged
	}
	r.text, err = r.aead.Open(r.buffer[nonceSize:nonceSize], r.buffer[:nonceSize], r.buffer[nonceSize:n], place(r.index))
	if err != nil {
		return fmt.Errorf("frame %d: %w", r.index, errChanged)
	}
	r.index++
	return nil
}

// Read implements [io.Reader].
func (r *opener) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(r.text) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.text)
	r.text = r.text[n:]
	r.left -= int64(n)
	return n, nil
}

// Close implements [io.Closer].
func (r *opener) Close() error {
	r.left = 0
	return r.body.Close()
}
