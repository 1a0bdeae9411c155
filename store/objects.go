package store

import (
	"context"
	"io"
	"time"
)

// Objects stores bytes under keys that it is given. It is safe for concurrent use, by any number of processes over the same
// bucket or folder, and keeps nothing between calls that another process would have to know.
//
// Durable means: still there after the process is killed and, on a store that promises it, after a power cut. An object
// is visible whole or not at all. No request to the store may outlive 15 minutes, so that what a stalled writer does
// late comes before its key is forgotten.
type Objects interface {
	// Limits tells which parts the store takes. It is constant.
	Limits() Limits

	// Put stores the size bytes (at least 1) that r holds from its start as the object key, durably when it returns nil.
	// It may read r more than once. After an error the object may be there, whole, or not.
	// A caller puts a key once; a repetition with the same bytes is harmless.
	Put(ctx context.Context, key Key, r io.ReadSeeker, size int64) error

	// Open reads length bytes of the object from offset on; -1 means all up to the end, and a length that reaches past
	// the end is clipped. It fails with ErrObjectUnknown, or with ErrOutOfRange when offset is not before the end.
	// The caller closes the reader. ctx covers the reading too: when it ends, reads fail. An object that is deleted
	// while it is read is either read to its right end or the read fails.
	Open(ctx context.Context, key Key, offset, length int64) (io.ReadCloser, error)

	// Delete deletes the objects. One that is absent is not an error. A *DeleteError names those that are still there.
	Delete(ctx context.Context, keys []Key) error

	// Begin begins a multipart upload whose completion will be the object key. Every call begins another one.
	Begin(ctx context.Context, key Key) (Multipart, error)

	// PutPart stores the part.Size bytes that r holds from its start as part.Number of the upload, durably when it returns
	// nil, and returns part with its Tag. A number that is put again is replaced, and the earlier tag is void.
	//
	// fence is the version of the claim that writes. Where parts are written in place, at part.Offset of one file, a
	// fence lower than one seen before fails with ErrFenced and writes nothing, even if the call began earlier; stores that
	// keep parts apart ignore it, since every claim uses part numbers of its own. It fails with ErrMultipartUnknown once
	// the upload is completed or aborted.
	PutPart(ctx context.Context, m Multipart, fence int64, part Part, r io.ReadSeeker) (Part, error)

	// Complete makes the object of the parts, in the order of their numbers, which may have gaps; their offsets are without
	// gaps. Stored parts that are not named are dropped. Its cost does not depend on the sizes: nothing is copied.
	// A part that is not there with that tag fails it with ErrInvalidPart, and nothing changes.
	// It is idempotent: completing again with the same parts succeeds (an answer may have been lost). After an Abort it
	// fails with ErrMultipartUnknown.
	Complete(ctx context.Context, m Multipart, parts []Part) error

	// Abort drops an unfinished multipart upload and its parts. One that is unknown, completed or aborted is not an error,
	// and a finished object is left alone. A part in flight may survive on some stores: abort again.
	Abort(ctx context.Context, m Multipart) error

	// Begun lists the unfinished multipart uploads of exactly this key, for the collector.
	Begun(ctx context.Context, key Key) ([]Multipart, error)

	// List returns up to limit objects whose keys start with prefix and come after the given key, in byte order.
	// It is for audits only; nothing that serves a client calls it.
	List(ctx context.Context, prefix string, after Key, limit int) ([]Object, error)
}

// Limits says which parts a store takes.
type Limits struct {
	MinPart    int64 // bytes; the smallest part that may be followed by another, at least 1
	MaxPart    int64 // bytes; the largest part
	PartSize   int64 // bytes; the preferred size, between the two
	MaxParts   int32 // the largest part number
	EqualParts bool  // all parts but the last must have one size
}

// Multipart names a multipart upload that was begun. The zero value is none.
type Multipart struct {
	Key Key    // of the object that it will be
	ID  string // the store's own name for the upload
}

// Part is one part of a multipart upload.
type Part struct {
	Number int32  // 1 up to Limits.MaxParts
	Offset int64  // of its first byte in the object
	Size   int64  // bytes
	Tag    string // given by the store; names these very bytes under this number
}

// Object is one entry of a listing.
type Object struct {
	Key      Key
	Size     int64
	Modified time.Time
}
