// Package encrypted is a store of one's own, made of another one: whatever goes through it is encrypted on its way to the store
// below, and nobody who can only read the bucket or the folder learns what it holds, nor can change it unnoticed.
//
// It shows what it takes to write a store.Objects: the rest of ocikit knows nothing of encryption, and this package nothing of
// uploads, digests or repositories. That it keeps the contract is proven by one call of storetest.Objects.
//
// # Form
//
// An object is a row of frames, each of 64 KiB of plaintext (the last one may have less), sealed with AES-256-GCM: a nonce of
// 12 bytes, the ciphertext, a tag of 16. So a range is read by reading the frames that it touches. Each object has a key of its
// own, derived from the secret and the object's key with HKDF, and a frame is sealed together with its place: frames that are
// swapped, or come from another object, do not open.
//
// A part that is sent again, maybe with other bytes, is sealed with other nonces: with a counter mode alone, whoever sees both
// could subtract one from the other. Within one call the nonces are the same however often its bytes are read, since a
// driver may read once to sign and once to send.
//
// For parts to be rows of whole frames, the store's Limits ask for parts that are equal. What is not hidden: sizes, the number
// of objects, and when they are used. An object that is cut short at a frame's end is only noticed by its digest, which all
// clients check.
//
// What is in the index does not come here: manifests, small blobs (unless registry.LocalOptions has an InlineLimit of -1), and
// with an upload under way the state of its hash, which has up to 127 bytes of the content. Keep the index where only the
// registry reads it.
package encrypted
