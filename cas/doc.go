// Package cas is content by digest, on top of a [store.Contents] index and [store.Objects].
//
// A digest names bytes; where they are is the index's business. The same digest is kept once, however many repositories link
// to it, and a link is what makes it visible: knowing a digest is not access to it.
//
// Content is in one of two places. Up to a limit (64 KiB by default) it is kept inline, in the index: then finding it is reading
// it, with one query and no object request; configs and most attestations are such. Anything larger is an object, which is read
// with one ranged request. Small content comes in by [Store.Put]; large content comes through package staging, which
// hashes it as it streams in and makes the object that it wrote the content, without a copy.
//
// Nothing gets in whose digest was not computed here. [Content.Verify] reads content back and computes it again.
package cas
