// Package staging takes uploads that any replica can continue, and that end as content without being copied.
//
// An upload is a session in the index: how many bytes are durable, the state of the hash at that offset, and where the
// bytes are. [Stage.Append] claims the session, in one statement that tests the offset and bumps the version. So the
// last writer wins at once, and whatever an earlier one still has under way is fenced off: its saves are refused, and
// its bytes go where nobody looks, since every claim writes under keys and part numbers of its own. There are no
// leases, no heartbeats and no affinity.
//
// A claim that would only be followed by one more statement is that statement: a chunk that comes at once, and that the
// row itself can hold, is claimed by the save that records it, and an upload that is whole by its end. A client that
// has to be waited for is claimed for.
//
// Bytes are hashed as they stream in, and gathered in pages of a [Budget] that the whole process shares. A full part is
// sent while the next one is received. Every so often, and at the end of each request, also when the client has
// vanished, what is durable is saved. What is then left over, less than a part, is kept where it costs least:
//
//   - in the session's row while it is tiny;
//   - at the start of an upload, as an object under a key that content may have. If nothing follows it is the content:
//     a layer that fits a part costs one object request in all;
//   - as a part, if the store takes a part of that size;
//   - else as a tail, an object of its own, which is joined with what follows when that makes a part. A tail is read
//     back for that, and believed only if it hashes to the state that was saved with it. Many small chunks so cost time
//     and requests that are linear in their number.
//
// [Stage.Finish] compares the digest, completes the parts and turns the session into content: one transaction, whatever
// the size. The object that was written is the content. What stays is a tombstone, so that a closing request whose
// answer was lost can be sent again.
//
// A key is in the index before anything is written under it, and goes into the garbage with the transaction that stops
// naming it; so a crash between any two steps leaves nothing that a collector does not find.
package staging
