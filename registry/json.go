package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"strconv"
	"unicode/utf8"
)

// members yields the keys and values of an object, in the order of the text. value is valid JSON, which is why no error can come up
// here.
func members(value []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		rest := trimSpace(value)[1:]
		for rest = trimSpace(rest); rest[0] != '}'; rest = afterComma(rest) {
			quoted := rest[:valueLength(rest)]
			rest = trimSpace(trimSpace(rest[len(quoted):])[1:]) // the colon
			n := valueLength(rest)
			if !yield(unquote(quoted), rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// elements yields the elements of an array, which is valid JSON.
func elements(value []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		rest := trimSpace(value)[1:]
		for rest = trimSpace(rest); rest[0] != ']'; rest = afterComma(rest) {
			n := valueLength(rest)
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// afterComma skips a comma and the space around it, if there is one.
func afterComma(rest []byte) []byte {
	rest = trimSpace(rest)
	if rest[0] == ',' {
		return trimSpace(rest[1:])
	}
	return rest
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}

// valueLength returns the length of the value that b starts with.
func valueLength(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringLength(b[i:]) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
			if depth < 0 {
				return i // a number or a word at the end of what holds it
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue // within a number, a word, or punctuation of a nested value
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(b)
}

// stringLength returns the length of the string that b starts with, quotes included.
func stringLength(b []byte) int {
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// unquote returns what a string says; without a copy where nothing is escaped.
func unquote(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 && utf8.Valid(quoted) {
		return quoted[1 : len(quoted)-1]
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // valid, as all of it is
	return []byte(s)
}

// parseString returns a value that has to be a string.
func parseString(value []byte) (string, error) {
	if value[0] != '"' {
		return "", errors.New("not a string")
	}
	return string(unquote(value)), nil
}

// parseInteger returns a value that has to be a number without a fraction or an exponent.
func parseInteger(value []byte) (int64, error) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0, errors.New("not an integer")
	}
	return n, nil
}
