package filesystem

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// FuzzTable writes records as PutPart does, and compares what the table then says with a map of every byte. Each four bytes
// of the input are a call: number, offset, size, and whether it writes all of it.
func FuzzTable(f *testing.F) {
	f.Add([]byte{1, 0, 10, 1, 2, 10, 10, 1, 3, 20, 10, 1})
	f.Add([]byte{1, 0, 10, 1, 2, 5, 10, 1, 1, 30, 10, 1, 3, 0, 40, 0, 4, 0, 3, 1})
	f.Add([]byte{5, 0, 9, 1, 5, 0, 4, 1, 6, 4, 9, 1, 5, 40, 4, 1, 6, 4, 9, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		disk := &process{left: -1}
		lines := &simFile{process: disk, node: &node{}}
		o := &Objects{files: unsynced{disk}}

		var owners [512]string        // the tag of who wrote a byte last
		put := map[int32]store.Part{} // by number
		for call := range slices.Chunk(input[:min(len(input), 400)/4*4], 4) {
			part := store.Part{Number: int32(call[0]%16) + 1, Offset: int64(call[1]), Size: int64(call[2]) + 1, Tag: newTag()}
			table, err := openTable(lines)
			require.NoError(t, err)
			last, err := table.last()
			require.NoError(t, err)
			if part.Offset < last.end {
				last.end, err = o.strike(table, last, 0, part)
				require.NoError(t, err)
			}
			for i := range part.Size {
				owners[part.Offset+i] = part.Tag
			}
			if call[3]%2 == 0 {
				continue // the write failed, somewhere
			}
			require.NoError(t, table.append(record{part: part, end: max(last.end, part.Offset+part.Size)}))
			put[part.Number] = part
		}

		table, err := openTable(lines)
		require.NoError(t, err)
		got, err := table.read()
		require.NoError(t, err)
		want := []store.Part{}
		for _, part := range put {
			if !slices.ContainsFunc(owners[part.Offset:part.Offset+part.Size], func(tag string) bool { return tag != part.Tag }) {
				want = append(want, part)
			}
		}
		require.ElementsMatch(t, want, got.list, "a part is valid if nobody wrote to its bytes, or under its number, since")
		for _, part := range want {
			require.True(t, got.has(part), "a valid part is found: %v", part)
		}
		last, err := table.last()
		require.NoError(t, err)
		require.GreaterOrEqual(t, last.end, got.end(), "no valid part reaches behind the end that the last record tells")
	})
}

func TestTornRecordsCountForNothing(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "parts")
	lines, err := osFiles{}.open(name, os.O_RDWR|os.O_CREATE)
	require.NoError(t, err)
	defer lines.Close()
	one := store.Part{Number: 1, Size: 10, Tag: newTag()}
	two := store.Part{Number: 2, Offset: 10, Size: 10, Tag: newTag()}
	table, err := openTable(lines)
	require.NoError(t, err)
	require.NoError(t, table.append(record{fence: 3, part: one, end: 10}))
	require.NoError(t, table.append(record{fence: 4, part: two, end: 20}))
	for length := range recordSize {
		require.NoError(t, os.Truncate(name, int64(recordSize+length)))
		table, err := openTable(lines)
		require.NoError(t, err)
		last, err := table.last()
		require.NoError(t, err)
		require.Equal(t, int64(3), last.fence, "a record of %d bytes says nothing", length)
		require.Equal(t, int64(10), last.end, "a record of %d bytes says nothing", length)
	}
	table, err = openTable(lines)
	require.NoError(t, err)
	require.NoError(t, table.append(record{fence: 5, part: two, end: 20}))
	read, err := table.read()
	require.NoError(t, err)
	require.Equal(t, []store.Part{one, two}, read.list, "a torn record does not hide those around it")
	require.Equal(t, int64(5), read.fence)
}

func TestAppendingAPartReadsOneRecord(t *testing.T) {
	t.Parallel()
	disk := &process{disk: newDisk(), left: -1}
	o, err := open(disk, dir, &Options{}, time.Time{})
	require.NoError(t, err)
	m, err := o.Begin(t.Context(), "blobs/many")
	require.NoError(t, err)
	for i := range 300 {
		disk.read = 0
		part := store.Part{Number: int32(i + 1), Offset: int64(i), Size: 1}
		_, err := o.PutPart(t.Context(), m, int64(i), part, strings.NewReader("x"))
		require.NoError(t, err)
		require.LessOrEqual(t, disk.read, recordSize, "the cost of many small parts is linear: part %d is not dearer than the first", i)
	}
}
