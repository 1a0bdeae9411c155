package registry

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// page is the part of a list that a client asks for.
type page struct {
	after string // the last entry that it has
	limit int    // of entries; may be 0
	asked bool   // for that limit
}

// page returns the page that the query asks for, of at most limit entries.
func (r *request) page(limit int) (page, error) {
	p := page{after: r.query.Get("last"), limit: limit}
	if !utf8.ValidString(p.after) || strings.IndexByte(p.after, 0) >= 0 {
		return page{}, errPageInvalid
	}
	if r.query.Has("n") {
		n, ok := parseNumber(r.query.Get("n"))
		if !ok {
			return page{}, errPageInvalid
		}
		p.limit, p.asked = int(min(n, int64(limit))), true
	}
	return p, nil
}

// setNext links to the page after this one, which ends with last. The link is relative to the host, and has neither spaces
// nor semicolons, which naive clients do not survive.
func (h *Handler) setNext(w *response, t target, p page, last string, filters url.Values) {
	var query strings.Builder
	query.WriteString("?last=")
	query.WriteString(url.QueryEscape(last))
	if p.asked {
		query.WriteString("&n=")
		query.WriteString(strconv.Itoa(p.limit))
	}
	if len(filters) > 0 {
		query.WriteByte('&')
		query.WriteString(filters.Encode())
	}
	w.set("Link", "<"+h.url(t)+query.String()+`>; rel="next"`)
}
