package staging

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"hash"

	"github.com/opencontainers/go-digest"
)

// hashes computes an upload's digest while it streams in, and can be put to sleep in a session's row.
//
// The first hash takes every byte as it comes. Which algorithm the closing PUT will name is often not known before, so
// that sha512 is kept as well while the upload is small: it is fed only with what becomes a tail, since what the row
// itself holds can be hashed when it is needed, and it is dropped when the first part is cut. So neither a tiny layer
// pays for it nor a large one.
type hashes struct {
	algorithm digest.Algorithm // of first
	first     hash.Hash        // nil: unknown, the content has to be read back
	second    hash.Hash        // sha512, or nil
}

// newHashes starts at offset 0. announced may be "".
func newHashes(announced digest.Algorithm) *hashes {
	if announced == digest.SHA512 {
		return &hashes{algorithm: announced, first: sha512.New()}
	}
	h := &hashes{algorithm: digest.SHA256, first: sha256.New()}
	if announced == "" {
		h.second = sha512.New()
	}
	return h
}

// wakeHashes continues from a saved state. One that this binary cannot read leaves both hashes unknown.
func wakeHashes(state []byte) *hashes {
	first, second, ok := splitStates(state)
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		h := newHashes(a)
		if ok && wake(h.first, first) {
			if other := sha512.New(); wake(other, second) {
				h.second = other
			}
			return h
		}
	}
	return &hashes{}
}

func wake(h hash.Hash, state []byte) bool {
	u, ok := h.(encoding.BinaryUnmarshaler)
	return ok && u.UnmarshalBinary(state) == nil
}

// splitStates undoes [hashes.state]: two states, each after its length in two bytes.
func splitStates(state []byte) (first, second []byte, ok bool) {
	next := func() []byte {
		if len(state) < 2 || len(state)-2 < int(binary.BigEndian.Uint16(state)) {
			ok = false
			return nil
		}
		n := 2 + int(binary.BigEndian.Uint16(state))
		one := state[2:n]
		state = state[n:]
		return one
	}
	ok = true
	first, second = next(), next()
	return first, second, ok && len(state) == 0
}

// state puts the hashes to sleep.
func (h *hashes) state() []byte {
	var state []byte
	for _, one := range []hash.Hash{h.first, h.second} {
		at := len(state)
		state = append(state, 0, 0)
		if m, ok := one.(encoding.BinaryAppender); ok { // as those of the standard library are
			if longer, err := m.AppendBinary(state); err == nil {
				state = longer
			}
		}
		binary.BigEndian.PutUint16(state[at:], uint16(len(state)-at-2)) //nolint:gosec // about 200 bytes
	}
	return state
}

func (h *hashes) write(p []byte) {
	if h.first != nil {
		h.first.Write(p)
	}
}

// writeRest feeds the second hash with what becomes a tail.
func (h *hashes) writeRest(p []byte) {
	if h.second != nil {
		h.second.Write(p)
	}
}

// sum returns the digest by the algorithm, or "" when it is not known.
func (h *hashes) sum(a digest.Algorithm) digest.Digest {
	switch {
	case h.first != nil && a == h.algorithm:
		return digest.NewDigest(a, h.first)
	case h.second != nil && a == digest.SHA512:
		return digest.NewDigest(a, h.second)
	}
	return ""
}
