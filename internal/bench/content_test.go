package main

import (
	"crypto/sha256"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLargeBlobsBytesHaveItsDigestInWhateverPiecesTheyAreRead(t *testing.T) {
	t.Parallel()
	source, err := newSource()
	require.NoError(t, err)
	for _, size := range []int64{1, chunkSize, chunkSize + 1, 5 << 20, blockSize + chunkSize, 2*blockSize + 1} {
		large := source.largeBlob(size)
		for _, piece := range []int64{chunkSize / 3, 1 << 20, 16 << 20} {
			hash := sha256.New()
			for offset := int64(0); offset < large.size; offset += piece {
				_, err := io.Copy(hash, io.NewSectionReader(&large, offset, min(piece, large.size-offset)))
				require.NoError(t, err)
			}
			assert.Equal(t, large.digest, digestOf(hash.Sum(nil)), "digest of %d bytes in pieces of %d", size, piece)
		}
	}
}
