package encrypted_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/examples/customstore/encrypted"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/filesystem"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

var secret = []byte(strings.Repeat("0123456789abcdef", 2))

func newEncrypted(t *testing.T, below store.Objects) store.Objects {
	t.Helper()
	objects, err := encrypted.New(below, secret)
	require.NoError(t, err)
	return objects
}

// partSize is small, to be quick: it holds 17 frames.
const partSize = 17 * sealed

// This is all that it takes to prove a store of one's own.
func TestOverMemory(t *testing.T) {
	t.Parallel()
	storetest.Objects(t, func(t *testing.T) []store.Objects {
		below := memory.NewObjects(&memory.ObjectsOptions{Limits: store.Limits{PartSize: partSize}})
		return []store.Objects{newEncrypted(t, below), newEncrypted(t, below)} // two replicas
	})
}

func TestOverAFolder(t *testing.T) {
	t.Parallel()
	storetest.Objects(t, func(t *testing.T) []store.Objects {
		dir := t.TempDir()
		open := func() store.Objects {
			below, err := filesystem.New(dir, &filesystem.Options{NoSync: true, PartSize: partSize})
			require.NoError(t, err)
			return newEncrypted(t, below)
		}
		return []store.Objects{open(), open()}
	})
}

const phrase = "what nobody else should read. "

// stored puts an object of three frames, and returns what the store below has of it.
func stored(t *testing.T, below store.Objects, key store.Key) []byte {
	t.Helper()
	plain := strings.Repeat(phrase, 5000)
	require.NoError(t, newEncrypted(t, below).Put(t.Context(), key, strings.NewReader(plain), int64(len(plain))))
	return readAll(t, below, key)
}

func readAll(t *testing.T, objects store.Objects, key store.Key) []byte {
	t.Helper()
	r, err := objects.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	defer r.Close()
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	return data
}

func TestTheStoreBelowSeesNoPlaintext(t *testing.T) {
	t.Parallel()
	below := memory.NewObjects(nil)
	one, two := stored(t, below, store.NewBlobKey()), stored(t, below, store.NewBlobKey())
	require.Equal(t, 3*28, len(one)-5000*len(phrase), "each frame of 64 KiB is 28 bytes longer")
	require.NotContains(t, string(one), phrase)
	require.NotEqual(t, one[12:100], two[12:100], "the same content is not the same twice")
	require.NotEqual(t, one[12:100], one[sealed+12:sealed+100], "nor within an object")
}

const sealed = 64<<10 + 28

func TestPartThatIsSentAgainHasAnotherKeystream(t *testing.T) {
	t.Parallel()
	below := memory.NewObjects(nil)
	objects := newEncrypted(t, below)
	var seen [][]byte
	for range 2 {
		m, err := objects.Begin(t.Context(), "blobs/1")
		require.NoError(t, err)
		part, err := objects.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: 100}, bytes.NewReader(make([]byte, 100)))
		require.NoError(t, err)
		require.NoError(t, objects.Complete(t.Context(), m, []store.Part{part}))
		seen = append(seen, readAll(t, below, "blobs/1"))
	}
	require.NotEqual(t, seen[0][12:], seen[1][12:])
}

func TestWhatWasChangedBelowIsNotRead(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(data []byte) []byte{
		"a bit of the text":   func(data []byte) []byte { data[1000] ^= 1; return data },
		"a bit of the nonce":  func(data []byte) []byte { data[3] ^= 1; return data },
		"a bit of the tag":    func(data []byte) []byte { data[sealed-1] ^= 1; return data },
		"its last byte":       func(data []byte) []byte { return data[:len(data)-1] },
		"all but a few bytes": func(data []byte) []byte { return data[:20] },
		"its frames' order": func(data []byte) []byte {
			first := bytes.Clone(data[:sealed])
			copy(data, data[sealed:2*sealed])
			copy(data[sealed:], first)
			return data
		},
		"its first frame, which is gone": func(data []byte) []byte { return data[sealed:] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			below := memory.NewObjects(nil)
			key := store.NewBlobKey()
			changed := change(bytes.Clone(stored(t, below, key)))
			require.NoError(t, below.Put(t.Context(), key, bytes.NewReader(changed), int64(len(changed))))
			requireUnreadable(t, newEncrypted(t, below), key)
		})
	}
}

func TestObjectIsReadOnlyUnderItsOwnKeyAndSecret(t *testing.T) {
	t.Parallel()
	below := memory.NewObjects(nil)
	key, other := store.NewBlobKey(), store.NewBlobKey()
	data := stored(t, below, key)
	require.NoError(t, below.Put(t.Context(), other, bytes.NewReader(data), int64(len(data))))
	requireUnreadable(t, newEncrypted(t, below), other)

	stranger, err := encrypted.New(below, bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	requireUnreadable(t, stranger, key)
}

func requireUnreadable(t *testing.T, objects store.Objects, key store.Key) {
	t.Helper()
	r, err := objects.Open(t.Context(), key, 0, -1)
	if err == nil {
		defer r.Close()
		_, err = io.ReadAll(r)
	}
	require.ErrorContains(t, err, "object was changed in the store, or encrypted with another secret")
}

func TestSecretsThatAreTooShortAreRefused(t *testing.T) {
	t.Parallel()
	_, err := encrypted.New(memory.NewObjects(nil), secret[:31])
	require.Error(t, err)
	_, err = encrypted.New(memory.NewObjects(&memory.ObjectsOptions{Limits: store.Limits{PartSize: 1000, MaxPart: 1000}}), secret)
	require.Error(t, err, "a part must have room for a frame")
}
