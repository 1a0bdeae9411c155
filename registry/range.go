package registry

import (
	"math"
	"strings"
)

// byteRange is a part of a blob that lies within its size and is not empty.
type byteRange struct {
	offset, length int64
}

// parseRange parses a Range header (RFC 9110, section 14.2) for content of the given size, which it clips ranges to. It
// returns no range, and no error, if the whole content is to be served: the header is absent or of another unit, the content
// is empty, the ranges are more than limit, or are longer in all than the content, which only an attack asks for. It
// returns a *rangeError if no range can be served.
//
// Too many ranges are answered with the whole, rather than with an error, since clients (podman's partial pulls) can do with that.
func parseRange(header string, size int64, limit int) ([]byteRange, error) {
	set, ok := strings.CutPrefix(header, "bytes=")
	if !ok || size == 0 {
		return nil, nil
	}
	if strings.Count(set, ",") >= limit {
		return nil, nil
	}
	var ranges []byteRange
	left := size
	for spec := range strings.SplitSeq(set, ",") {
		spec = strings.Trim(spec, " \t")
		if spec == "" {
			continue // empty elements of lists are legal
		}
		r, ok := parseRangeSpec(spec, size)
		if !ok {
			return nil, &rangeError{size}
		}
		if r.length > left {
			return nil, nil
		}
		if r.length > 0 {
			ranges = append(ranges, r)
			left -= r.length
		}
	}
	if len(ranges) == 0 {
		return nil, &rangeError{size}
	}
	return ranges, nil
}

// parseRangeSpec parses a-b, a- or -n. It is not ok if the range is malformed; its length is 0 if it is beyond the size.
func parseRangeSpec(spec string, size int64) (r byteRange, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return byteRange{}, false
	}
	if first == "" {
		n, ok := parseNumber(last)
		n = min(n, size)
		return byteRange{size - n, n}, ok
	}
	a, ok := parseNumber(first)
	if !ok {
		return byteRange{}, false
	}
	b := int64(math.MaxInt64)
	if last != "" {
		if b, ok = parseNumber(last); !ok || b < a {
			return byteRange{}, false
		}
	}
	if a >= size {
		return byteRange{}, true
	}
	return byteRange{a, min(b, size-1) - a + 1}, true
}

// parseNumber parses decimal digits. What is too large for an int64 is its maximum.
func parseNumber(s string) (n int64, ok bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if d := int64(c - '0'); n > (math.MaxInt64-d)/10 {
			n = math.MaxInt64
		} else {
			n = n*10 + d
		}
	}
	return n, true
}

// parseChunkRange parses the Content-Range of an uploaded chunk: a-b, both inclusive. That is the specification's own form; the one of
// RFC 9110, bytes a-b/n, is tolerated.
func parseChunkRange(header string) (offset, length int64, ok bool) {
	s := strings.Trim(header, " \t")
	if rest, found := strings.CutPrefix(s, "bytes"); found {
		s = strings.TrimLeft(rest, " =")
		if s == rest {
			return 0, 0, false
		}
	}
	s, total, found := strings.Cut(s, "/")
	if found && total != "*" {
		if _, ok := parseNumber(total); !ok {
			return 0, 0, false
		}
	}
	first, last, _ := strings.Cut(s, "-")
	a, okFirst := parseNumber(first)
	b, okLast := parseNumber(last)
	if !okFirst || !okLast || b < a || b == math.MaxInt64 {
		return 0, 0, false
	}
	return a, b - a + 1, true
}
