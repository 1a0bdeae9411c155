package filesystem

import (
	"cmp"
	"math"
	"slices"

	"github.com/ocikit/ocikit/store"
)

// parts are the valid parts of an upload, as its table tells them.
type parts struct {
	fence     int64
	list      []store.Part    // by offset; no two share a byte
	offsets   map[int32]int64 // number to offset
	truncated bool            // a Complete has begun to
}

// toTheEnd is the size of the range that a truncation strikes.
const toTheEnd = math.MaxInt64

// apply does what a record says.
func (p *parts) apply(r record) {
	p.fence = max(p.fence, r.fence)
	p.truncated = p.truncated || r.part.Size == toTheEnd
	p.strike(r.part)
	if r.part.Number == 0 {
		return
	}
	if offset, ok := p.offsets[r.part.Number]; ok {
		i := p.from(offset)
		p.list = slices.Delete(p.list, i, i+1)
	}
	p.list = slices.Insert(p.list, p.from(r.part.Offset), r.part)
	p.offsets[r.part.Number] = r.part.Offset
}

// strike drops the parts that share a byte with the range of r, and reports whether there were any.
func (p *parts) strike(r store.Part) bool {
	first := p.from(r.Offset)
	if first > 0 && p.list[first-1].Offset+p.list[first-1].Size > r.Offset {
		first--
	}
	last := first
	for ; last < len(p.list) && p.list[last].Offset-r.Offset < r.Size; last++ {
		delete(p.offsets, p.list[last].Number)
	}
	p.list = slices.Delete(p.list, first, last)
	return last > first
}

// from returns the index of the first part that begins at the offset or behind it.
func (p *parts) from(offset int64) int {
	i, _ := slices.BinarySearchFunc(p.list, offset, func(part store.Part, offset int64) int { return cmp.Compare(part.Offset, offset) })
	return i
}

// end returns where the last part ends.
func (p *parts) end() int64 {
	if len(p.list) == 0 {
		return 0
	}
	last := p.list[len(p.list)-1]
	return last.Offset + last.Size
}

// has reports whether a part is valid, as it stands.
func (p *parts) has(part store.Part) bool {
	i := p.from(part.Offset)
	return i < len(p.list) && p.list[i] == part
}
