package registry

import (
	"encoding/json"
	"net/http"
)

func (h *Handler) listTags(w *response, req *request) error {
	p, err := req.page(h.options.PageLimit)
	if err != nil {
		return err
	}
	// One entry more than the page has tells whether there is a next one, and even an empty page whether the repository exists.
	tags, err := h.registry.Tags(req.Context(), req.repository, p.after, p.limit+1)
	if err != nil {
		return err
	}
	if len(tags) > p.limit {
		tags = tags[:p.limit]
		if p.limit > 0 {
			h.setNext(w, req.target, p, tags[p.limit-1], nil)
		}
	}
	if tags == nil {
		tags = []string{}
	}
	document, err := json.Marshal(struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{req.repository, tags})
	if err != nil {
		return err
	}
	return w.json(http.StatusOK, document)
}
