package staging_test

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
)

// TestUploadLeavesTheCollectorOnlyWhatItWrote: keys that were reserved and never written under need no collecting, so that a
// push that goes well leaves nothing to do.
func TestUploadLeavesTheCollectorOnlyWhatItWrote(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		chunks  []int // of PATCHes, the last of the closing PUT
		garbage int
	}{
		{"inline, in one request", []int{500}, 0},
		{"a part, in one request", []int{partSize - 1}, 0},
		{"a part, in a PATCH", []int{partSize - 1, 0}, 0},
		{"parts, in one request", []int{3*partSize + 7}, 0},
		{"parts, in a PATCH", []int{3 * partSize, 0}, 0},
		{"parts, in several PATCHes", []int{partSize + 1, 2 * partSize, partSize, 10}, 0},
		{"parts and a tail", []int{3*partSize + 3000, 3 * partSize}, 1},
		{"two tails", []int{2000, 2000, 0}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(kinds["big parts"])
			s := w.stage()
			data := []byte{}
			for _, size := range test.chunks {
				data = append(data, noise(size, uint64(len(data)))...) //nolint:gosec // not negative
			}
			id, d, at := w.start(t, s, ""), w.expect(digest.SHA256, data), 0
			last := len(test.chunks) - 1
			for _, size := range test.chunks[:last] {
				_, err := s.Append(t.Context(), repository, id, chunk(data[at:at+size], int64(at), true))
				require.NoError(t, err)
				at += size
			}
			_, err := s.Finish(t.Context(), repository, id, staging.Chunk{Body: chunk(data[at:], int64(at), true).Body, At: int64(at), Size: -1}, d)
			require.NoError(t, err)
			w.requireContent(t, d, data)
			garbage, err := w.meta.Garbage(t.Context(), 0, 100)
			require.NoError(t, err)
			assert.Len(t, garbage, test.garbage, "keys that the collector has to look at")
			w.requireSound(t)
		})
	}
}
