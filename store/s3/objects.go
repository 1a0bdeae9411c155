package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/ocikit/ocikit/store"
)

// What the protocol allows.
const (
	minPart         = 5 << 20
	maxPart         = 5 << 30
	maxParts        = 10_000
	defaultPartSize = 16 << 20

	defaultPresignExpiry = 15 * time.Minute
	maxPresignExpiry     = 7 * 24 * time.Hour
)

// maxRequest bounds each call that is not a read, its repetitions included. It leaves what was sent in its last moment some
// minutes to come through, of the 15 after which the contract has no write arrive any more.
const maxRequest = 10 * time.Minute

// Checksum says how the store learns that the bytes of a part are those that were sent.
//
// There is no mode with a checksum for each part (CRC32, SHA-256 and so on, as SDKs use by default): S3 refuses to complete an
// upload that has them once its part numbers have gaps, as they have after a claim was lost. [New] refuses those modes
// by name.
type Checksum string

// The modes.
const (
	// SignedPayload signs the SHA-256 of the body, which the store verifies before it keeps anything. The body is read once
	// more, before it is sent, which costs some 0.7 ms of a core for each MiB. The default.
	SignedPayload Checksum = "signed"
	// UnsignedPayload leaves it to TLS to protect the bytes on their way. Over plain http every write fails.
	UnsignedPayload Checksum = "unsigned"
)

// Options configures [New]. The zero value works on AWS and on what speaks its protocol.
type Options struct {
	// Prefix stands before every key in the bucket, so that several stores share one; a slash is added where it does not
	// end in one. Keys are given and returned without it. Default: none.
	Prefix string

	// PartSize is the preferred size of parts in bytes, from 5 MiB to 5 GiB. Default: 16 MiB. Times 10,000, it is the
	// largest object.
	PartSize int64

	// EqualParts is for stores that want all parts but the last to have one size, such as Cloudflare's R2.
	EqualParts bool

	// Checksum is the mode. Default: SignedPayload.
	Checksum Checksum

	// ServerSideEncryption is asked for with every object: "AES256", "aws:kms" or "aws:kms:dsse". Default: as the bucket has it.
	ServerSideEncryption types.ServerSideEncryption
	// KMSKeyID is the key for "aws:kms" and "aws:kms:dsse". Default: the account's.
	KMSKeyID string

	// StorageClass is asked for with every object but those under [store.UploadPrefix], which do not stay. Default: as the
	// bucket has it. Classes that must be restored before they can be read are refused.
	StorageClass types.StorageClass

	// PresignExpiry is how long an address from PresignGet works: at least a second, at most 7 days. Default: 15 minutes.
	// It must be shorter than the collector's delay, or an address may outlive its object.
	PresignExpiry time.Duration
}

// Objects is a [store.Objects] on a bucket. Make one with [New]. It has no state but the client, and nothing to close.
type Objects struct {
	client  *s3.Client
	presign *s3.PresignClient
	bucket  *string
	options Options
	calls   []func(*s3.Options) // for every call
	writes  []func(*s3.Options) // for calls with a body
}

// New returns a store on the bucket, which must exist. It makes no request: see [Objects.Probe]. opts may be nil.
// The package's documentation tells which of the client's settings matter. Checksums are set by opts alone.
func New(client *s3.Client, bucket string, opts *Options) (*Objects, error) {
	if client == nil {
		return nil, errors.New("objects on s3: no client")
	}
	if bucket == "" {
		return nil, errors.New("objects on s3: no bucket")
	}
	var options Options
	if opts != nil {
		options = *opts
	}
	if err := options.complete(); err != nil {
		return nil, fmt.Errorf("objects on s3: %w", err)
	}
	o := &Objects{
		client:  client,
		presign: s3.NewPresignClient(client, s3.WithPresignClientFromClientOptions(noChecksums)),
		bucket:  aws.String(bucket),
		options: options,
		calls:   []func(*s3.Options){noChecksums},
	}
	if options.Checksum == UnsignedPayload {
		o.writes = append(slices.Clone(o.calls), unsigned)
	} else {
		o.writes = append(slices.Clone(o.calls), signed)
	}
	return o, nil
}

// complete checks the options, and fills in defaults.
func (o *Options) complete() error {
	if o.PartSize == 0 {
		o.PartSize = defaultPartSize
	}
	if o.PresignExpiry == 0 {
		o.PresignExpiry = defaultPresignExpiry
	}
	if o.Checksum == "" {
		o.Checksum = SignedPayload
	}
	if o.PartSize < minPart || o.PartSize > maxPart {
		return fmt.Errorf("a part size of %d bytes: it must be from %d (5 MiB) to %d (5 GiB)", o.PartSize, int64(minPart), int64(maxPart))
	}
	if o.PresignExpiry < time.Second || o.PresignExpiry > maxPresignExpiry {
		return fmt.Errorf("presigned addresses that expire after %v: it must be from 1s to %v", o.PresignExpiry, maxPresignExpiry)
	}
	return errors.Join(o.completePrefix(), o.checkChecksum(), o.checkEncryption(), o.checkClass())
}

func (o *Options) completePrefix() error {
	if o.Prefix == "" {
		return nil
	}
	o.Prefix = strings.TrimSuffix(o.Prefix, "/") + "/"
	for segment := range strings.SplitSeq(strings.TrimSuffix(o.Prefix, "/"), "/") {
		ordinary := func(r rune) bool {
			return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r)
		}
		if strings.Trim(segment, ".") == "" || strings.TrimFunc(segment, ordinary) != "" {
			return fmt.Errorf("the key prefix %q: it must be of letters, digits, hyphens, dots and underscores, in segments parted by one slash", o.Prefix)
		}
	}
	if len(o.Prefix) > 512 { // of 1024 bytes that a key may have
		return fmt.Errorf("a key prefix of %d bytes: at most 512", len(o.Prefix))
	}
	return nil
}

func (o *Options) checkChecksum() error {
	if o.Checksum == SignedPayload || o.Checksum == UnsignedPayload {
		return nil
	}
	for _, algorithm := range types.ChecksumAlgorithm("").Values() {
		if strings.EqualFold(string(o.Checksum), string(algorithm)) {
			return fmt.Errorf("checksum mode %q: S3 refuses part numbers with gaps together with a checksum for each part; use %q, which verifies the SHA-256 of each body",
				o.Checksum, SignedPayload)
		}
	}
	return fmt.Errorf("checksum mode %q: it must be %q or %q", o.Checksum, SignedPayload, UnsignedPayload)
}

func (o *Options) checkEncryption() error {
	kms := o.ServerSideEncryption == types.ServerSideEncryptionAwsKms || o.ServerSideEncryption == types.ServerSideEncryptionAwsKmsDsse
	switch {
	case o.KMSKeyID != "" && !kms:
		return fmt.Errorf("a KMS key with server-side encryption %q: it needs %q", o.ServerSideEncryption, types.ServerSideEncryptionAwsKms)
	case kms, o.ServerSideEncryption == "", o.ServerSideEncryption == types.ServerSideEncryptionAes256:
		return nil
	}
	return fmt.Errorf("server-side encryption %q: it must be %q, %q or %q", o.ServerSideEncryption,
		types.ServerSideEncryptionAes256, types.ServerSideEncryptionAwsKms, types.ServerSideEncryptionAwsKmsDsse)
}

func (o *Options) checkClass() error {
	switch o.StorageClass {
	case types.StorageClassGlacier, types.StorageClassDeepArchive:
		return fmt.Errorf("storage class %q: its objects cannot be read until they are restored", o.StorageClass)
	default:
		return nil
	}
}

// noChecksums sets what works everywhere, whatever the client has: no checksum beside the payload's hash.
func noChecksums(o *s3.Options) {
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
}

// once has a request sent once, whatever the client repeats.
func once(o *s3.Options) { o.Retryer = aws.NopRetryer{} }

// signed makes the body's SHA-256 part of the signature. Left to itself, the SDK signs it over plain http only.
func signed(o *s3.Options) {
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		hash := &v4.ComputePayloadSHA256{}
		_, err := stack.Finalize.Swap(hash.ID(), hash)
		return err
	})
}

// unsigned leaves the body out of the signature.
func unsigned(o *s3.Options) {
	o.APIOptions = append(slices.Clip(o.APIOptions), v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware, requireTLS)
}

// Limits implements [store.Objects].
func (o *Objects) Limits() store.Limits {
	return store.Limits{
		MinPart:    minPart,
		MaxPart:    maxPart,
		PartSize:   o.options.PartSize,
		MaxParts:   maxParts,
		EqualParts: o.options.EqualParts,
	}
}

// name is the key's in the bucket.
func (o *Objects) name(key store.Key) *string { return aws.String(o.options.Prefix + string(key)) }

// class is the storage class for a key.
func (o *Objects) class(key store.Key) types.StorageClass {
	if strings.HasPrefix(string(key), store.UploadPrefix) {
		return ""
	}
	return o.options.StorageClass
}

func (o *Objects) kmsKey() *string {
	if o.options.KMSKeyID == "" {
		return nil
	}
	return aws.String(o.options.KMSKeyID)
}

// bounded returns a context that ends when no request of the call may be sent any more.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, maxRequest)
}
