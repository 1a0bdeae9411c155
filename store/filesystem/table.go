package filesystem

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/ocikit/ocikit/store"
)

// A table tells which bytes of an upload's file are valid parts, and the highest fence that was seen. It is a file of records
// of one size, to which records are only ever appended, under the file's lock.
//
// A record strikes every part that shares a byte with its range, and the part of its own number; then it adds its part,
// if it has a number. So parts in a table never overlap, and a part is valid if its record has not been struck. Each record
// also says where the last valid part ends: who writes behind it, as nearly everybody does, need read no other record.
//
// A record that a power cut has torn does not have its checksum, and counts for nothing; whatever was acknowledged had all
// records before it synced.
type table struct {
	file file
	size int64 // of the whole records
}

// record is one line of a table.
type record struct {
	fence int64      // the highest that was seen, this writer's included
	part  store.Part // or, with the number 0, a range of bytes that are no part any more
	end   int64      // of the last valid part
}

const (
	recordSize  = 64
	recordMagic = "part"
	tagSize     = 8
)

var checksums = crc32.MakeTable(crc32.Castagnoli)

// newTag returns the name of the bytes that one call stores.
func newTag() string {
	var b [tagSize]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// openTable returns the table in a file that is locked.
func openTable(f file) (*table, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return &table{file: f, size: (size + recordSize - 1) / recordSize * recordSize}, nil
}

// last returns the last record, or the zero one, which says the same of an empty table.
func (t *table) last() (record, error) {
	if t.size == 0 {
		return record{}, nil
	}
	var b [recordSize]byte
	if _, err := t.file.ReadAt(b[:], t.size-recordSize); err != nil && !errors.Is(err, io.EOF) {
		return record{}, err
	}
	if r, ok := decode(b[:]); ok {
		return r, nil
	}
	parts, err := t.read() // the last one is torn
	return record{fence: parts.fence, end: parts.end()}, err
}

// read reads all of the table.
func (t *table) read() (*parts, error) {
	valid := &parts{offsets: map[int32]int64{}}
	buffer := make([]byte, min(t.size, 1024*recordSize))
	for at := int64(0); at < t.size; at += int64(len(buffer)) {
		n, err := t.file.ReadAt(buffer, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		for line := range slices.Chunk(buffer[:n], recordSize) {
			if r, ok := decode(line); ok {
				valid.apply(r)
			}
		}
	}
	return valid, nil
}

// append appends a record.
func (t *table) append(r record) error {
	b, err := encode(r)
	if err != nil {
		return err
	}
	if _, err := t.file.WriteAt(b, t.size); err != nil {
		return err
	}
	t.size += recordSize
	return nil
}

func encode(r record) ([]byte, error) {
	b := make([]byte, 0, recordSize)
	b = append(b, recordMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.fence))
	b = binary.BigEndian.AppendUint64(b, uint64(r.part.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(r.part.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(r.end))
	b = binary.BigEndian.AppendUint32(b, uint32(r.part.Number))
	b, err := hex.AppendDecode(b, []byte(r.part.Tag))
	if err != nil {
		return nil, fmt.Errorf("tag: %w", err)
	}
	b = b[:recordSize]
	binary.BigEndian.PutUint32(b[recordSize-4:], crc32.Checksum(b[:recordSize-4], checksums))
	return b, nil
}

func decode(b []byte) (r record, ok bool) {
	if len(b) < recordSize || !bytes.HasPrefix(b, []byte(recordMagic)) ||
		binary.BigEndian.Uint32(b[recordSize-4:]) != crc32.Checksum(b[:recordSize-4], checksums) {
		return record{}, false
	}
	r.fence = int64(binary.BigEndian.Uint64(b[4:]))
	r.part.Offset = int64(binary.BigEndian.Uint64(b[12:]))
	r.part.Size = int64(binary.BigEndian.Uint64(b[20:]))
	r.end = int64(binary.BigEndian.Uint64(b[28:]))
	r.part.Number = int32(binary.BigEndian.Uint32(b[36:]))
	if r.part.Number != 0 {
		r.part.Tag = hex.EncodeToString(b[40 : 40+tagSize])
	}
	return r, true
}
