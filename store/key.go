package store

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// Key names an object. It is opaque to [Objects]: slash-separated segments of lower-case letters, digits and hyphens, at most
// 128 bytes in all, so that it is at home in a bucket and in a folder.
type Key string

// The first segments of keys. Finished content lives under BlobPrefix; staged bytes that cannot become content as they
// are live under UploadPrefix, so that a bucket's own expiry rule on that prefix is a safe second line of defence.
const (
	BlobPrefix   = "blobs/"
	UploadPrefix = "uploads/"
)

// ProbePrefix is where a driver that tries at its start whether it can write does so: in the place of a session, which no session
// has as its id. No row names these objects, which are deleted within seconds.
const ProbePrefix = UploadPrefix + "probe/"

// maxKey is the longest key in bytes; an upload's key takes 81.
const maxKey = 128

// NewBlobKey mints a key for an object that may become finished content. No two calls, anywhere, return the same.
func NewBlobKey() Key { return Key(BlobPrefix + NewID()) }

// NewUploadKey mints a key for staged bytes of the upload session with the given id.
func NewUploadKey(session string) Key { return Key(UploadPrefix + session + "/" + NewID()) }

// NewID returns a random UUID (version 4) from crypto/rand: 122 bits that nobody can guess, which is what protects an upload
// session from those who do not know its URL.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// Valid reports whether k has a key's form. Drivers refuse other keys: a key that climbs out of a folder must not reach it.
func (k Key) Valid() bool {
	if k == "" || len(k) > maxKey {
		return false
	}
	for segment := range strings.SplitSeq(string(k), "/") {
		if segment == "" || strings.Trim(segment, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}
