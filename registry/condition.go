package registry

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
)

// entityTag returns the ETag of content: its digest, which is as strong a validator as there is.
func entityTag(d digest.Digest) string { return `"` + d.String() + `"` }

// knows reports whether If-None-Match says that the client has d already (RFC 9110, section 13.1.2).
func (r *request) knows(d digest.Digest) bool {
	for _, header := range r.Header["If-None-Match"] {
		for tag := range strings.SplitSeq(header, ",") { // no digest has a comma in it
			tag = strings.Trim(tag, " \t")
			if tag == "*" {
				return true
			}
			tag = strings.TrimPrefix(tag, "W/")
			if len(tag) == len(d)+2 && tag[0] == '"' && tag[len(tag)-1] == '"' && tag[1:len(tag)-1] == string(d) {
				return true
			}
		}
	}
	return false
}

// setConditions makes a put of tags conditional: "If-None-Match: *" creates, and If-Match replaces what one of its digests names, so
// that two who change a tag at once do not overwrite each other.
func (put *ManifestPut) setConditions(header http.Header) error {
	if none := strings.Join(header["If-None-Match"], ","); none != "" {
		if strings.Trim(none, " \t") != "*" {
			return ErrPreconditionFailed.With("a push understands no If-None-Match but *")
		}
		put.IfAbsent = true
	}
	match := header["If-Match"]
	if len(match) == 0 {
		return nil
	}
	for tag := range strings.SplitSeq(strings.Join(match, ","), ",") {
		tag = strings.Trim(tag, " \t")
		if tag == "*" {
			return ErrPreconditionFailed.With("a push understands no If-Match but of digests")
		}
		if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
			continue // weak, or none: it cannot match
		}
		if d, err := cas.ParseDigest(tag[1 : len(tag)-1]); err == nil {
			put.IfTagged = append(put.IfTagged, d)
		}
	}
	if put.IfTagged == nil {
		return ErrPreconditionFailed
	}
	return nil
}
