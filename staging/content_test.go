package staging_test

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
)

// chunking cuts an upload of size bytes into PATCHes, and leaves the rest to the closing PUT.
type chunking struct {
	name  string
	chunk int // of a PATCH; 0: none
	last  int // left to the PUT
}

var chunkings = []chunking{
	{"one PUT", 0, 1 << 30},
	{"one PATCH", 1 << 30, 0},
	{"PATCH and a PUT of 100 bytes", 1 << 30, 100},
	{"PATCHes of 100 bytes", 100, 0},
	{"PATCHes of the inline limit", inlineLimit, 0},
	{"PATCHes of 3000 bytes", 3000, 0},
	{"PATCHes of the least part", minPart, 0},
	{"PATCHes of 7000 bytes and a PUT of 7000", 7000, 7000},
	{"PATCHes of a part", partSize, 0},
	{"PATCHes of a part and a byte", partSize + 1, 0},
}

// cut returns where an upload of size bytes is cut; the last piece is the PUT's.
func (c chunking) cut(size int) (ends []int) {
	at, last := 0, min(c.last, size)
	for c.chunk > 0 && at < size-last {
		at = min(at+c.chunk, size-last)
		ends = append(ends, at)
	}
	return append(ends, size)
}

func TestUploadBecomesItsBytesHoweverItIsCut(t *testing.T) {
	t.Parallel()
	sizes := []int{
		0, 1, inlineLimit, inlineLimit + 1, minPart - 1, minPart, partSize - 1, partSize, partSize + 1,
		2 * partSize, 2*partSize + 1, 3*partSize + 700,
	}
	algorithms := []struct{ announced, finished digest.Algorithm }{
		{"", digest.SHA256},
		{"", digest.SHA512},
		{digest.SHA256, digest.SHA256},
		{digest.SHA512, digest.SHA512},
		{digest.SHA256, digest.SHA512},
		{digest.SHA512, digest.SHA256},
	}
	for kind, limits := range kinds {
		for _, c := range chunkings {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				for _, size := range sizes {
					for _, a := range algorithms {
						w := newWorld(limits)
						what := fmt.Sprintf("%d bytes announced as %q finished as %s", size, a.announced, a.finished)
						upload(t, w, noise(size, 1), c, a.announced, a.finished, what)
					}
				}
			})
		}
	}
}

// upload uploads data by two replicas in turn, and requires the content, and a sound world.
func upload(t *testing.T, w *world, data []byte, c chunking, announced, finished digest.Algorithm, what string) {
	t.Helper()
	ctx := t.Context()
	replicas := []*staging.Stage{w.stage(), w.stage()}
	id := w.start(t, replicas[0], announced)
	d := w.expect(finished, data)
	ends, at := c.cut(len(data)), 0
	for i, end := range ends {
		s, told := replicas[(i+1)%2], i%3 != 0
		piece := chunk(data[at:end], int64(at), told)
		if i == len(ends)-1 {
			w.requireAbsent(t, d)
			size, err := s.Finish(ctx, repository, id, piece, d)
			require.NoError(t, err, "%s: finish at %d", what, at)
			require.Equal(t, int64(len(data)), size, what)
			break
		}
		progress, err := s.Append(ctx, repository, id, piece)
		require.NoError(t, err, "%s: append at %d", what, at)
		require.Equal(t, int64(end), progress.Offset, what)
		at = end
	}
	w.requireContent(t, d, data)
	w.requireSound(t)
}
