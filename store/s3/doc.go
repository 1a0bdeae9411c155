// Package s3 keeps objects in a bucket: a [store.Objects] on Amazon S3, and on what speaks its protocol.
package s3
