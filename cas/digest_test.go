package cas_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/cas"
)

func TestParseDigestTakesOnlyTheCanonicalForm(t *testing.T) {
	t.Parallel()
	hex64, hex128 := strings.Repeat("0a", 32), strings.Repeat("f9", 64)
	tests := map[string]bool{
		"sha256:" + hex64:                      true,
		"sha512:" + hex128:                     true,
		"":                                     false,
		":":                                    false,
		hex64:                                  false,
		"sha256":                               false,
		"sha256:":                              false,
		":" + hex64:                            false,
		"sha256:" + hex64[1:]:                  false,
		"sha256:" + hex64 + "0":                false,
		"sha256:" + hex128:                     false,
		"sha512:" + hex64:                      false,
		"sha256:" + strings.ToUpper(hex64):     false,
		"SHA256:" + hex64:                      false,
		"sha384:" + strings.Repeat("0", 96):    false,
		"md5:d41d8cd98f00b204e9800998ecf8427e": false,
		"sha256:" + hex64[:63] + "g":           false,
		"sha256:" + hex64[:63] + ":":           false,
		" sha256:" + hex64:                     false,
		"sha256:" + hex64 + "\n":               false,
		"sha256+b64:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-": false,
	}
	for s, valid := range tests {
		d, err := cas.ParseDigest(s)
		if !valid {
			require.ErrorIs(t, err, cas.ErrDigest, "ParseDigest(%q)", s)
			assert.Empty(t, d, "ParseDigest(%q) returned a digest with its error", s)
			continue
		}
		require.NoError(t, err, "ParseDigest(%q)", s)
		assert.Equal(t, digest.Digest(s), d)
	}
}

func TestSupportedAlgorithmsAreSHA256AndSHA512(t *testing.T) {
	t.Parallel()
	assert.True(t, cas.Supported(digest.SHA256))
	assert.True(t, cas.Supported(digest.SHA512))
	for _, a := range []digest.Algorithm{"", digest.SHA384, "md5", "SHA256"} {
		assert.False(t, cas.Supported(a), "Supported(%q)", a)
	}
}

// FuzzParseDigest compares with go-digest, which knows one algorithm more.
func FuzzParseDigest(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0", 64))
	f.Add("sha512:" + strings.Repeat("0", 128))
	f.Add("sha384:" + strings.Repeat("0", 96))
	f.Add("sha256:" + strings.Repeat("A", 64))
	f.Fuzz(func(t *testing.T, s string) {
		d, err := cas.ParseDigest(s)
		_, reference := digest.Parse(s)
		want := reference == nil && cas.Supported(digest.Digest(s).Algorithm())
		if want != (err == nil) {
			t.Fatalf("ParseDigest(%q) = %q, %v; go-digest says %v", s, d, err, reference)
		}
	})
}
