// Package s3 keeps objects in a bucket: a [store.Objects] on Amazon S3, and on what speaks its protocol (MinIO, versitygw, Ceph,
// R2 and others). Any number of processes over one bucket are one store.
//
// # Idea
//
// A multipart upload of the bucket is a multipart upload of the store, and what completes it is one request that moves no
// bytes. There is nothing of this package's own in the bucket: an object is under its key, after the prefix. Each call is
// one request, of these operations and no others:
//
//	Put       PutObject
//	Open      GetObject, with a Range unless it is for all
//	Begin     CreateMultipartUpload
//	PutPart   UploadPart
//	Complete  CompleteMultipartUpload; and GetObject of one byte if the upload is gone
//	Delete    DeleteObjects, for each 1,000 keys                 (the collector's)
//	Abort     AbortMultipartUpload                               (the reaper's)
//	Begun     ListMultipartUploads, for the one key              (the reaper's)
//	List      ListObjectsV2                                      (audits')
//
// So nothing is copied, and no client waits for a list. The credentials need s3:PutObject, s3:GetObject, s3:DeleteObject and
// s3:AbortMultipartUpload on the objects; s3:ListBucket and s3:ListBucketMultipartUploads on the bucket are for the
// reaper and audits. [Objects.Probe] tries them all.
//
// # What is believed
//
// A part is what its ETag names: Complete fails with [store.ErrInvalidPart] for another one, and the upload has to begin
// anew. An upload that is not there any more was completed before if the object is there, with the sum of the parts' sizes,
// since nobody else writes under its key. An error inside a 200, an answer without its ETag, an answer to another
// range and a body that ends early are errors. What a repetition may cure wraps [store.ErrUnavailable]: no answer, 5xx, 429,
// SlowDown, RequestTimeout; it comes after the client's own repetitions.
//
// Bytes on their way are protected by the signature, which covers their SHA-256 ([SignedPayload]). Checksums of single
// parts, which the SDK adds by default, are turned off for this store's calls: S3 does not complete an upload that has them
// once part numbers have gaps, and these have gaps after a claim was lost. (For that reason directory buckets of
// S3 Express cannot be used.)
//
// A call that writes gives up after 10 minutes, so that none arrives later than the 15 that the contract has. Reads last
// as long as their context.
//
// # The client
//
// It is passed in, with whatever credentials, endpoint and repetitions it has. What matters here:
//   - BaseEndpoint and UsePathStyle, for other servers than Amazon's. Addresses of PresignGet begin with the same endpoint.
//   - Region. Servers that have none want the one they are configured for, often us-east-1.
//   - HTTPClient. The SDK's own keeps ten idle connections to a host, so that more requests at once open connections anew:
//     set MaxIdleConnsPerHost of the transport to how many there may be. ExpectContinueTimeout must not be zero: the SDK asks
//     before it sends large bodies, and learns from the answer that a store is busy. No ResponseHeaderTimeout below
//     some minutes, since a completion may take that long on Amazon, nor a Timeout of the client, which would end long reads.
//   - Retryer. The standard one makes up to three attempts, with a bounded number of repetitions in all. Bodies are sent from
//     their start again.
//
// Buckets with versions keep what is deleted, until a lifecycle rule of theirs drops it. A rule that aborts incomplete
// multipart uploads after 7 days or more is a safe second line of defence, as is one that expires [store.UploadPrefix].
package s3
