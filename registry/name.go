package registry

import "strings"

// maxRepository is the longest repository name in bytes, as in the Docker Registry HTTP API V2.
const maxRepository = 255

// maxTag is the longest tag in bytes (distribution-spec, "Pulling manifests").
const maxTag = 128

// ValidRepository reports whether name is a repository's name: path components of lower-case letters and digits with single
// separators (a period, one or two underscores, any number of hyphens) between them, joined by slashes, at most 255 bytes.
// It is the grammar of distribution-spec, "Pulling manifests", without a regular expression, since each request asks.
func ValidRepository(name string) bool {
	if len(name) > maxRepository {
		return false
	}
	for component := range strings.SplitSeq(name, "/") {
		if !validComponent(component) {
			return false
		}
	}
	return true
}

func validComponent(c string) bool {
	for {
		n := 0
		for n < len(c) && alphanumeric(c[n]) {
			n++
		}
		if n == 0 {
			return false
		}
		if n == len(c) {
			return true
		}
		c = c[n:]
		n = separator(c)
		if n == 0 {
			return false
		}
		c = c[n:]
	}
}

// separator returns the length of the separator that s starts with, 0 for none.
func separator(s string) int {
	switch {
	case s[0] == '.':
		return 1
	case strings.HasPrefix(s, "__"):
		return 2
	case s[0] == '_':
		return 1
	}
	return len(s) - len(strings.TrimLeft(s, "-"))
}

func alphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// ValidTag reports whether tag is a tag: [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func ValidTag(tag string) bool {
	if tag == "" || len(tag) > maxTag || tag[0] == '.' || tag[0] == '-' {
		return false
	}
	for i := range len(tag) {
		c := tag[i]
		if !alphanumeric(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}
