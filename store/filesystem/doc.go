// Package filesystem keeps objects in a folder: a [store.Objects] for one machine, or for several that share the folder.
//
// # Idea
//
// An object is a file, and becomes one by a rename: whoever opens it sees all of it or nothing. A rename is the whole cost of
// finishing an upload, too. The parts of a multipart upload are written in place, at their offsets in the file that will be
// the object, so nothing is left to be put together, however large it is.
//
//	DIR/format                            the version of this layout
//	DIR/objects/blobs.4f_/blobs.4f21…     an object; the folder is the key up to two letters after its first slash
//	DIR/staged/blobs.4f21…+ID.data        an unfinished multipart upload: the object as it grows
//	DIR/staged/blobs.4f21…+ID.parts       its table of parts, and its lock
//	DIR/temp/ID                           the bytes of a Put under way
//
// A key's slashes become dots in its file's name. A dot sorts just as a slash does among what else a key may hold, so that
// the folders one after the other, each in the order of its names, are the keys in byte order: a listing needs no merge,
// and no memory but for its page.
//
// # Writers that overlap
//
// Writing in place needs care with a writer that was given up, and goes on. Every part is written under the lock of the
// upload's table, which also tells the highest fence (the version of the claim) that was seen: a lower one is refused.
// Bytes that are about to be overwritten are struck from the table first, durably, so that no part is ever found valid
// with other bytes than its own. Complete and Abort take the same lock; a writer that gets it after them finds the
// upload gone, and never touches the finished file. The lock is the operating system's, and goes with the process.
//
// # Durability
//
// What returned nil survives a power cut: the bytes are synced before the name that makes them visible exists, and the
// folder that holds the name before the call returns. (Deletions are not synced: a deleted object may come back.
// Windows cannot sync a folder; there, it is up to NTFS's journal.) [Options.NoSync] trades all this for speed; what is
// written then survives the process, but not the machine.
//
// A crash leaves at most files in DIR/temp and DIR/staged, which nobody sees. [New] removes what is a day old and
// cannot be anybody's; an unfinished upload is for [Objects.Begun] and [Objects.Abort].
package filesystem
