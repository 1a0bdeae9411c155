package encrypted

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ocikit/ocikit/store"
)

// MinSecret is the length in bytes of the shortest secret. It should be random, not a password.
const MinSecret = 32

// Objects is a [store.Objects] that encrypts what it puts into another one. What it need not change (Delete, Begin, Abort, Begun)
// goes there directly. Make one with [New].
type Objects struct {
	store.Objects
	secret []byte
	part   int64 // bytes of plaintext in each part but the last
}

var _ store.Objects = (*Objects)(nil)

// New returns a store that keeps its objects in below, encrypted under a secret of at least [MinSecret] bytes. All replicas need the
// same one; who loses it has lost the objects.
func New(below store.Objects, secret []byte) (*Objects, error) {
	if len(secret) < MinSecret {
		return nil, fmt.Errorf("a secret of %d bytes; want at least %d", len(secret), MinSecret)
	}
	limits := below.Limits()
	frames := max(1, limits.PartSize/sealedFrame, (limits.MinPart+sealedFrame-1)/sealedFrame)
	if frames*sealedFrame > limits.MaxPart {
		return nil, errors.New("the store's parts are too small for a frame")
	}
	return &Objects{below, append([]byte(nil), secret...), frames * frame}, nil
}

// Limits implements [store.Objects]: all parts but the last have one size, which is a number of frames.
func (o *Objects) Limits() store.Limits {
	return store.Limits{
		MinPart:    o.part,
		MaxPart:    o.part,
		PartSize:   o.part,
		MaxParts:   o.Objects.Limits().MaxParts,
		EqualParts: true,
	}
}

// Put implements [store.Objects].
func (o *Objects) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	aead, err := o.cipher(key)
	if err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	return o.Objects.Put(ctx, key, seal(aead, r, size, 0), sealedSize(size))
}

// PutPart implements [store.Objects].
func (o *Objects) PutPart(ctx context.Context, m store.Multipart, fence int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	aead, err := o.cipher(m.Key)
	if err != nil {
		return store.Part{}, fmt.Errorf("put part %d of %s: %w", part.Number, m.Key, err)
	}
	stored, err := o.Objects.PutPart(ctx, m, fence, sealedPart(part), seal(aead, r, part.Size, part.Offset/frame))
	if err != nil {
		return store.Part{}, err
	}
	part.Tag = stored.Tag
	return part, nil
}

// Complete implements [store.Objects].
func (o *Objects) Complete(ctx context.Context, m store.Multipart, parts []store.Part) error {
	sealed := make([]store.Part, len(parts))
	for i, part := range parts {
		if part.Offset%frame != 0 { // it follows one that Limits does not allow there: its frames would not be found again
			return fmt.Errorf("complete %s: part %d at %d: %w", m.Key, part.Number, part.Offset, store.ErrInvalidPart)
		}
		sealed[i] = sealedPart(part)
	}
	return o.Objects.Complete(ctx, m, sealed)
}

// sealedPart returns the part as the store below sees it.
func sealedPart(part store.Part) store.Part {
	part.Offset = part.Offset / frame * sealedFrame
	part.Size = sealedSize(part.Size)
	return part
}

// Open implements [store.Objects].
func (o *Objects) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	fail := func(err error) (io.ReadCloser, error) { return nil, fmt.Errorf("open object %s: %w", key, err) }
	if offset < 0 || length == 0 || length < -1 {
		return fail(store.ErrOutOfRange)
	}
	aead, err := o.cipher(key)
	if err != nil {
		return fail(err)
	}
	if length < 0 || length > math.MaxInt64-offset {
		length = math.MaxInt64 - offset
	}
	first, last := offset/frame, (offset+length-1)/frame
	from, below := int64(math.MaxInt64), int64(-1) // where no object reaches
	if first < math.MaxInt64/sealedFrame {
		from = first * sealedFrame
	}
	if frames := last - first + 1; frames < math.MaxInt64/sealedFrame {
		below = frames * sealedFrame
	}
	body, err := o.Objects.Open(ctx, key, from, below)
	if err != nil {
		return nil, err
	}
	r := &opener{aead: aead, body: body, index: first, left: length}
	if err := r.skip(offset % frame); err != nil {
		return fail(errors.Join(err, body.Close()))
	}
	return r, nil
}

// List implements [store.Objects].
func (o *Objects) List(ctx context.Context, prefix string, after store.Key, limit int) ([]store.Object, error) {
	list, err := o.Objects.List(ctx, prefix, after, limit)
	for i := range list {
		list[i].Size = openedSize(list[i].Size)
	}
	return list, err
}

// cipher returns the cipher of one object.
func (o *Objects) cipher(key store.Key) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, o.secret, nil, "ocikit example: object "+string(key), 32)
	if err != nil {
		return nil, fmt.Errorf("derive the object's key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("make the object's cipher: %w", err)
	}
	return cipher.NewGCM(block)
}
