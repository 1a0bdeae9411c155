// Package store holds the two contracts that everything else in ocikit stands on, and no implementation of them:
//
//   - [Objects] stores bytes under keys that it is given. It knows no digest, no repository and no upload, and keeps no
//     state between calls, so a bucket, a folder and a map can all be one.
//   - [Metadata] is the index, and the truth. It knows every digest, name and reference, and stores no large content.
//     Each of its methods is one atomic event of the domain (an upload was finished, a manifest was put, a tag was
//     deleted), not a row operation. So correctness under concurrency is the implementation's, once, and callers hold no
//     locks.
//
// # Keys
//
// Every object has a fresh random [Key], and the index maps a digest to a key. Three rules make the rest simple, and
// hold for every implementation and every caller:
//
//   - A key is minted by one claim of one upload, is recorded in the index, and only then is anything written under it.
//     Nobody else ever writes under it. So whatever a crashed or stalled writer (a zombie) does late, it does where
//     nobody looks.
//   - Whatever transaction stops naming a key puts it into the garbage, in that same transaction. So nothing has to be
//     listed to find what can go.
//   - The index goes first and the bytes second, both ways: a row that names an object is committed after the object is
//     durable, and an object is deleted after the last row that named it is gone.
//
// # Implementations
//
// The packages below this one implement the contracts: memory (for tests, and the reference), filesystem and sqlite (one
// machine), s3 and postgres (any number of replicas). Package storetest proves an implementation of either contract, yours
// too, with one call.
//
// # Cancellation and unknown outcomes
//
// Every method honours its context. When a method that changes something returns an error that is not one of this
// package's typed errors, the outcome is unknown: all of it may have happened, or none, never a part; after a context has
// ended, it may even still happen. Every event can therefore be sent again; each method says what the repetition finds. A
// typed error means that nothing has changed.
//
// Values that are handed in stay the caller's; slices and maps that are returned may be shared, and are not to be changed.
package store
