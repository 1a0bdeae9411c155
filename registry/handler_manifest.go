package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

func (h *Handler) getManifest(w *response, req *request) error {
	manifest, err := h.registry.Manifest(req.Context(), req.repository, req.reference())
	if err != nil {
		return err
	}
	d := manifest.Digest
	if req.digest != "" {
		d = req.digest // clients compare with what they asked for
	}
	w.setContent(d)
	if manifest.Warning != "" {
		w.set("Warning", warning(manifest.Warning))
	}
	if req.knows(d) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.set("Content-Type", manifest.MediaType)
	return w.document(http.StatusOK, manifest.Bytes)
}

func (h *Handler) putManifest(w *response, req *request) error {
	put, err := h.manifestPut(req)
	if err != nil {
		return err
	}
	if put.Bytes, err = req.readManifest(h.options.MaxManifest); err != nil {
		return err
	}
	receipt, err := h.registry.PutManifest(req.Context(), req.repository, put)
	if err != nil {
		return err
	}
	w.set("Location", h.url(target{route: routeManifest, repository: req.repository, digest: receipt.Digest}))
	w.set("Docker-Content-Digest", receipt.Digest.String())
	if receipt.Subject != "" {
		w.set("Oci-Subject", receipt.Subject.String())
	}
	if req.tag == "" && len(put.Tags) > 0 {
		w.header["Oci-Tag"] = put.Tags
	}
	w.empty(http.StatusCreated)
	return nil
}

// manifestPut returns what the request asks for, without the manifest itself.
func (h *Handler) manifestPut(req *request) (ManifestPut, error) {
	mediaType, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	put := ManifestPut{MediaType: strings.TrimSpace(mediaType), Digest: req.digest}
	var err error
	if req.tag != "" {
		put.Tags = []string{req.tag}
		if req.query.Has("digest") {
			put.Digest, err = req.digestParameter()
		}
	} else {
		put.Tags, err = tagParameters(req.query["tag"], h.options.MaxTags)
	}
	if err != nil {
		return ManifestPut{}, err
	}
	err = put.setConditions(req.Header)
	return put, err
}

// tagParameters returns the tags that a push by digest asks for, each once.
func tagParameters(values []string, limit int) ([]string, error) {
	if len(values) > limit {
		return nil, errTooManyTags.With("%d tags, and this registry takes %d at once", len(values), limit)
	}
	var tags []string
	for _, tag := range values {
		if !ValidTag(tag) {
			return nil, ErrTagInvalid
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// readManifest reads the body, if it is not larger than limit. What a client announces is believed only so far.
func (r *request) readManifest(limit int64) ([]byte, error) {
	const trusted = 64 << 10
	tooLarge := ErrTooLarge.With("manifest is larger than %d bytes", limit)
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	var buffer bytes.Buffer
	if r.ContentLength > 0 {
		buffer.Grow(int(min(r.ContentLength, trusted)) + bytes.MinRead)
	}
	if _, err := buffer.ReadFrom(io.LimitReader(&r.body, limit+1)); err != nil {
		return nil, fmt.Errorf("receive manifest: %w", err)
	}
	if int64(buffer.Len()) > limit {
		return nil, tooLarge
	}
	return buffer.Bytes(), nil
}

func (h *Handler) deleteManifest(w *response, req *request) error {
	var err error
	if req.tag != "" {
		err = h.registry.DeleteTag(req.Context(), req.repository, req.tag)
	} else {
		err = h.registry.DeleteManifest(req.Context(), req.repository, req.digest)
	}
	if err != nil {
		return err
	}
	w.empty(http.StatusAccepted)
	return nil
}
