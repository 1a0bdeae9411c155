package registry

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"

	"github.com/ocikit/ocikit/cas"
)

const (
	// maxReferrers is how many bytes of JSON one page of referrers has, about: what clients read at most.
	maxReferrers = 4 << 20

	// referrersBatch is how many referrers are asked for at a time.
	referrersBatch = 100
)

const (
	indexBegin = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`
	indexEnd   = `]}`
)

// listReferrers answers with an index of as many referrers as clients read, since many of them do not ask for a second page.
func (h *Handler) listReferrers(w *response, req *request) error {
	p, err := req.page(math.MaxInt32)
	if err != nil {
		return err
	}
	selected := ReferrersPage{ArtifactTypes: artifactTypes(req.query)}
	if p.after != "" {
		if selected.After, err = cas.ParseDigest(p.after); err != nil {
			return errPageInvalid.With("last is not a digest")
		}
	}
	document, more, err := h.referrers(req, p.limit, &selected)
	if err != nil {
		return err
	}
	var filters url.Values
	if selected.ArtifactTypes != nil {
		w.set("Oci-Filters-Applied", "artifactType")
		filters = url.Values{"artifactType": selected.ArtifactTypes}
	}
	if more && p.limit > 0 {
		h.setNext(w, req.target, p, selected.After.String(), filters)
	}
	w.header["Content-Type"] = valueIndex
	return w.document(http.StatusOK, document)
}

// referrers returns the index of the referrers after selected.After, at most limit of them, and whether there are more. It leaves
// the last one's digest in selected.After.
func (h *Handler) referrers(req *request, limit int, selected *ReferrersPage) (document []byte, more bool, err error) {
	document = []byte(indexBegin)
	for count := 0; ; {
		selected.Limit = min(limit-count+1, referrersBatch)
		batch, err := h.registry.Referrers(req.Context(), req.repository, req.digest, *selected)
		if err != nil {
			return nil, false, err
		}
		for i := range batch {
			entry, err := json.Marshal(&batch[i])
			if err != nil {
				return nil, false, fmt.Errorf("marshal referrer: %w", err)
			}
			if count == limit || count > 0 && len(document)+len(",")+len(entry)+len(indexEnd) > maxReferrers {
				return append(document, indexEnd...), true, nil
			}
			if count > 0 {
				document = append(document, ',')
			}
			document = append(document, entry...)
			selected.After = batch[i].Digest
			count++
		}
		if len(batch) < selected.Limit {
			return append(document, indexEnd...), false, nil
		}
	}
}

// artifactTypes returns the artifact types that the query selects. Clients that do not escape the + of a media type mean it
// nevertheless: no media type has a space in it.
func artifactTypes(query url.Values) []string {
	var types []string
	for _, value := range query["artifactType"] {
		if value != "" {
			types = append(types, strings.ReplaceAll(value, " ", "+"))
		}
	}
	return types
}
