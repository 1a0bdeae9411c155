package postgres

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// Clients decide what an artifact type is, and after which name a page begins. PostgreSQL's text takes neither every byte nor NUL.

// escaped begins a column's text that stands for another one, in hexadecimal.
const escaped = "\x01"

// isText reports whether PostgreSQL takes the text.
func isText(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }

// encodeText returns the column for any text: nearly always itself. Different texts have different columns.
func encodeText(text string) string {
	if isText(text) && !strings.HasPrefix(text, escaped) {
		return text
	}
	return escaped + hex.EncodeToString([]byte(text))
}

// decodeText is its inverse.
func decodeText(column string) (string, error) {
	encoded, is := strings.CutPrefix(column, escaped)
	if !is {
		return column, nil
	}
	text, err := hex.DecodeString(encoded)
	return string(text), err
}

// position returns what a page of names, which are ASCII, begins after just as it would after the given text.
func position(after string) string {
	for i, char := range after {
		switch {
		case char == 0: // no name has it, and all that goes on from here does so with more
			return after[:i]
		case char == utf8.RuneError && !strings.HasPrefix(after[i:], string(utf8.RuneError)): // above all of ASCII
			return after[:i] + string(utf8.MaxRune)
		}
	}
	return after
}
