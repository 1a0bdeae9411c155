package staging_test

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
)

type calls = map[string]int

// TestUploadCostsAsFewRequestsAsItCan keeps the number of requests to the objects and of statements to the index.
func TestUploadCostsAsFewRequestsAsItCan(t *testing.T) {
	t.Parallel()
	kept := calls{"Session": 1, "SaveSession": 1} // what the row can hold is claimed by the save
	appended := calls{"Session": 1, "ClaimSession": 1, "SaveSession": 1}
	published := calls{"Session": 1, "FinishSession": 1}
	finished := calls{"Session": 1, "ClaimSession": 1, "FinishSession": 1}
	completed := calls{"Session": 1, "ClaimSession": 1, "SaveSession": 1, "FinishSession": 1}
	tests := []struct {
		name                 string
		kind                 string
		size                 int
		chunking             chunking
		untold               bool  // the chunks' sizes are not told
		patches, put         calls // to the objects
		patchIndex, putIndex calls
	}{
		{
			name: "inline, PATCH and empty PUT", kind: "big parts", size: inlineLimit, chunking: chunkings[1],
			patches: calls{}, put: calls{}, patchIndex: kept, putIndex: published,
		},
		{
			name: "inline, one PUT", kind: "big parts", size: inlineLimit, chunking: chunkings[0],
			patches: calls{}, put: calls{}, patchIndex: calls{}, putIndex: published,
		},
		{
			name: "a part, PATCH and empty PUT", kind: "big parts", size: partSize, chunking: chunkings[1],
			patches: calls{"Put": 1}, put: calls{}, patchIndex: appended, putIndex: published,
		},
		{
			name: "a part of untold size, PATCH and empty PUT", kind: "big parts", size: partSize, chunking: chunkings[1], untold: true,
			patches: calls{"Put": 1}, put: calls{}, patchIndex: appended, putIndex: published,
		},
		{
			name: "a part, one PUT", kind: "equal parts", size: partSize, chunking: chunkings[0], untold: true,
			patches: calls{}, put: calls{"Put": 1}, patchIndex: calls{}, putIndex: finished,
		},
		{
			name: "two parts, PATCH and empty PUT", kind: "big parts", size: 2 * partSize, chunking: chunkings[1], untold: true,
			patches: calls{"Begin": 1, "PutPart": 2}, put: calls{"Complete": 1}, patchIndex: appended, putIndex: completed,
		},
		{
			name: "two equal parts and some, one PUT", kind: "equal parts", size: 2*partSize + 9, chunking: chunkings[0],
			patches: calls{}, put: calls{"Begin": 1, "PutPart": 3, "Complete": 1}, patchIndex: calls{}, putIndex: completed,
		},
		{
			name: "small leftover in the row", kind: "big parts", size: 40*partSize + inlineLimit, chunking: chunkings[1],
			patches: calls{"Begin": 1, "PutPart": 40}, put: calls{"PutPart": 1, "Complete": 1}, patchIndex: appended, putIndex: completed,
		},
		{
			name: "leftover that is no part", kind: "big parts", size: 40*partSize + minPart - 1, chunking: chunkings[1],
			patches: calls{"Begin": 1, "PutPart": 40, "Put": 1}, put: calls{"Open": 1, "PutPart": 1, "Complete": 1},
			patchIndex: appended, putIndex: completed,
		},
		{
			name: "leftover that is a part", kind: "big parts", size: 40*partSize + minPart, chunking: chunkings[1],
			patches: calls{"Begin": 1, "PutPart": 41}, put: calls{"Complete": 1}, patchIndex: appended, putIndex: completed,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var objects, index counter
			w := newWorld(kinds[test.kind])
			s := w.replica(staging.Options{}, objects.hook(), index.hook())
			data := noise(test.size, 2)
			id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
			assert.Equal(t, calls{"CreateSession": 1}, index.take())
			ends, at := test.chunking.cut(test.size), 0
			for _, end := range ends[:len(ends)-1] {
				_, err := s.Append(t.Context(), repository, id, chunk(data[at:end], int64(at), !test.untold))
				require.NoError(t, err)
				at = end
			}
			assert.Equal(t, test.patches, objects.take(), "object requests of the PATCHes")
			assert.Equal(t, test.patchIndex, index.take(), "index statements of the PATCHes")
			_, err := s.Finish(t.Context(), repository, id, chunk(data[at:], int64(at), !test.untold), d)
			require.NoError(t, err)
			assert.Equal(t, test.put, objects.take(), "object requests of the PUT")
			assert.Equal(t, test.putIndex, index.take(), "index statements of the PUT")
			w.requireContent(t, d, data)

			_, err = s.Finish(t.Context(), repository, id, staging.Chunk{At: -1}, d)
			require.NoError(t, err, "the same PUT again")
			assert.Equal(t, calls{}, objects.take(), "object requests of a repeated PUT")
			assert.Equal(t, calls{"Session": 1, "Content": 1}, index.take(), "statements of a repeated PUT")
		})
	}
}

func TestManySmallChunksCostRequestsLinearInTheirNumber(t *testing.T) {
	t.Parallel()
	for kind, limits := range kinds {
		for _, size := range []int{100, inlineLimit, 3000, partSize} {
			w := newWorld(limits)
			var objects, index counter
			s := w.replica(staging.Options{}, objects.hook(), index.hook())
			cost := func(n int) (requests, statements int, readBack int64) {
				w.readBack.Store(0)
				data := noise(n*size, 3)
				c := chunking{chunk: size}
				id, d := w.start(t, s, ""), w.expect(digest.SHA256, data)
				at := 0
				for _, end := range c.cut(len(data))[:n] {
					_, err := s.Append(t.Context(), repository, id, chunk(data[at:end], int64(at), true))
					require.NoError(t, err)
					at = end
				}
				_, err := s.Finish(t.Context(), repository, id, staging.Chunk{At: -1}, d)
				require.NoError(t, err)
				w.requireContent(t, d, data)
				for _, n := range objects.take() {
					requests += n
				}
				for _, n := range index.take() {
					statements += n
				}
				return requests, statements, w.readBack.Load()
			}
			once, onceIndex, onceRead := cost(100)
			twice, twiceIndex, twiceRead := cost(200)
			assert.LessOrEqual(t, twice, 2*once+4, "%s, %d bytes: object requests of 200 chunks, %d of 100", kind, size, once)
			assert.LessOrEqual(t, twiceIndex, 2*onceIndex, "%s, %d bytes: statements of 200 chunks, %d of 100", kind, size, onceIndex)
			assert.LessOrEqual(t, twice, 3*200+2, "%s, %d bytes: requests a chunk", kind, size)
			assert.LessOrEqual(t, twiceRead, 2*onceRead+2*partSize, "%s, %d bytes: read back for 200 chunks, %d for 100", kind, size, onceRead)
			assert.LessOrEqual(t, twiceRead, int64(200*size), "%s, %d bytes: a byte is read back once at most", kind, size)
		}
	}
}
