package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRangesOf2048Bytes(t *testing.T) {
	t.Parallel()
	whole := []byteRange(nil)
	tests := map[string][]byteRange{
		"":                                    whole,
		"bytes=500-1499":                      {{500, 1000}},
		"bytes=500-":                          {{500, 1548}},
		"bytes=-500":                          {{1548, 500}},
		"bytes=2000-5000":                     {{2000, 48}},
		"bytes=0-2048":                        {{0, 2048}},
		"bytes=0-":                            {{0, 2048}},
		"bytes=0-0":                           {{0, 1}},
		"bytes=2047-":                         {{2047, 1}},
		"bytes=-1":                            {{2047, 1}},
		"bytes=-5000":                         {{0, 2048}},
		"bytes=0-99999999999999999999999":     {{0, 2048}},
		"bytes=-99999999999999999999999":      {{0, 2048}},
		"bytes=0-0, 10-19 ,-1":                {{0, 1}, {10, 10}, {2047, 1}},
		"bytes=0-0,,5-5,":                     {{0, 1}, {5, 1}},
		"bytes=5-5,0-0":                       {{5, 1}, {0, 1}},
		"bytes=0-0,5000-6000":                 {{0, 1}},
		"bytes=0-,0-":                         whole, // more than there is
		"lines=1-2":                           whole,
		"Bytes 0-1":                           whole,
		"bytes=" + strings.Repeat("0-0,", 16): whole, // 17 elements
	}
	for header, want := range tests {
		got, err := parseRange(header, 2048, 16)
		require.NoError(t, err, header)
		assert.Equal(t, want, got, header)
	}
	got, err := parseRange("bytes="+strings.Repeat("0-0,", 15)+"1-1", 2048, 16)
	require.NoError(t, err)
	assert.Len(t, got, 16)
}

func TestRangesThatCannotBeSatisfied(t *testing.T) {
	t.Parallel()
	for _, header := range []string{
		"bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0", "bytes=99999999999999999999-", "bytes=",
		"bytes=-", "bytes=a-b", "bytes=1", "bytes=--1", "bytes=+1-2", "bytes=0-1;2-3", "bytes=1 - 2", "bytes=0-0,x", "bytes=3000-,4000-",
	} {
		got, err := parseRange(header, 2048, 16)
		var outside *rangeError
		require.ErrorAs(t, err, &outside, "%q gave %v", header, got)
		assert.EqualValues(t, 2048, outside.size)
	}
}

func TestRangesOfAnEmptyBlobAreTheWhole(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-"} {
		got, err := parseRange(header, 0, 16)
		require.NoError(t, err, header)
		assert.Empty(t, got, header)
	}
}

func TestChunkRanges(t *testing.T) {
	t.Parallel()
	type chunk struct{ offset, length int64 }
	for header, want := range map[string]chunk{
		"0-0": {0, 1}, "0-9": {0, 10}, "10-19": {10, 10}, " 1-2 ": {1, 2}, "bytes 3-4/*": {3, 2}, "bytes 3-4/10": {3, 2}, "bytes=3-4": {3, 2}, "3-4/*": {3, 2},
	} {
		offset, length, ok := parseChunkRange(header)
		require.True(t, ok, header)
		assert.Equal(t, want, chunk{offset, length}, header)
	}
	for _, header := range []string{
		"", "-", "0", "0-", "-1", "1-0", "a-b", "0-0-0", "bytes", "bytes0-1", "0-1/x", "0-1/", "0x0-1", "+0-1", "0-9223372036854775807", "0--1", "bytes */10",
	} {
		_, _, ok := parseChunkRange(header)
		assert.False(t, ok, header)
	}
}

func FuzzRange(f *testing.F) {
	for _, header := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-0,2-3", "bytes=500-0", "bytes=9223372036854775807-", "lines=0-1", "bytes=,"} {
		f.Add(header, int64(2048))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		const limit = 16
		ranges, err := parseRange(header, size, limit)
		if err != nil {
			require.Empty(t, ranges, "ranges with an error")
			return
		}
		require.LessOrEqual(t, len(ranges), limit)
		left := size
		specs := make([]string, len(ranges))
		for i, r := range ranges {
			require.GreaterOrEqual(t, r.offset, int64(0))
			require.Positive(t, r.length)
			require.LessOrEqual(t, r.length, size-r.offset, "range %+v is beyond %d", r, size)
			require.LessOrEqual(t, r.length, left, "more bytes than there are")
			left -= r.length
			specs[i] = fmt.Sprintf("%d-%d", r.offset, r.offset+r.length-1)
		}
		if len(ranges) > 0 {
			again, err := parseRange("bytes="+strings.Join(specs, ","), size, limit)
			require.NoError(t, err)
			require.Equal(t, ranges, again, "what was parsed, written out")
		}
	})
}

func FuzzChunkRange(f *testing.F) {
	f.Add("0-1")
	f.Add("bytes 3-4/*")
	f.Fuzz(func(t *testing.T, header string) {
		offset, length, ok := parseChunkRange(header)
		if !ok {
			return
		}
		require.GreaterOrEqual(t, offset, int64(0))
		require.Positive(t, length)
		again, lengthAgain, ok := parseChunkRange(fmt.Sprintf("%d-%d", offset, offset+length-1))
		require.True(t, ok)
		require.Equal(t, []int64{offset, length}, []int64{again, lengthAgain})
	})
}
