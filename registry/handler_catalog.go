package registry

import (
	"encoding/json"
	"net/http"
)

func (h *Handler) listRepositories(w *response, req *request) error {
	p, err := req.page(h.options.PageLimit)
	if err != nil {
		return err
	}
	names, more, err := h.visibleRepositories(req, p)
	if err != nil {
		return err
	}
	if more && p.limit > 0 {
		h.setNext(w, req.target, p, names[p.limit-1], nil)
	}
	document, err := json.Marshal(struct {
		Repositories []string `json:"repositories"`
	}{names})
	if err != nil {
		return err
	}
	return w.json(http.StatusOK, document)
}

// visibleRepositories returns a page of the repositories that the client may pull from, and whether there are more of them. It goes
// on until the page is full: a link to the next page must not name a repository that is hidden.
func (h *Handler) visibleRepositories(req *request, p page) (names []string, more bool, err error) {
	names = []string{}
	after := p.after
	for {
		limit := h.options.PageLimit + 1
		if req.allows == nil {
			limit = p.limit + 1
		}
		found, err := h.registry.Repositories(req.Context(), after, limit)
		if err != nil {
			return nil, false, err
		}
		for _, name := range found {
			if !req.mayPull(name) {
				continue
			}
			if len(names) == p.limit {
				return names, true, nil
			}
			names = append(names, name)
		}
		if len(found) < limit {
			return names, false, nil
		}
		after = found[len(found)-1]
	}
}
