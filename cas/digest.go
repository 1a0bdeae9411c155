package cas

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ErrDigest is wrapped by the errors of [ParseDigest].
var ErrDigest = errors.New("digest invalid")

// Supported reports whether content can be addressed by digests of this algorithm: sha256 and sha512 are.
func Supported(a digest.Algorithm) bool { return encodedLength(a) > 0 }

// ParseDigest returns s as a digest if it is one of a supported algorithm, with exactly as many lower-case hexadecimal digits
// as that has; else an error that wraps [ErrDigest]. It accepts what digest.Parse does, but for sha384, and uses no regular
// expression, since each request asks.
func ParseDigest(s string) (digest.Digest, error) {
	algorithm, encoded, found := strings.Cut(s, ":")
	if !found {
		return "", fmt.Errorf("%w: no algorithm", ErrDigest)
	}
	length := encodedLength(digest.Algorithm(algorithm))
	if length == 0 {
		return "", fmt.Errorf("%w: algorithm is neither sha256 nor sha512", ErrDigest)
	}
	if len(encoded) != length {
		return "", fmt.Errorf("%w: %s has %d digits, not %d", ErrDigest, algorithm, length, len(encoded))
	}
	for i := range len(encoded) {
		if c := encoded[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("%w: digits are 0-9 and a-f", ErrDigest)
		}
	}
	return digest.Digest(s), nil
}

// encodedLength returns the number of hexadecimal digits of the algorithm's digests, or 0 if it is not supported.
func encodedLength(a digest.Algorithm) int {
	switch a {
	case digest.SHA256:
		return 2 * sha256.Size
	case digest.SHA512:
		return 2 * sha512.Size
	}
	return 0
}
