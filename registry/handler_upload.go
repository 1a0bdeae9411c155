package registry

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
)

// maxHolders is how many repositories are looked at for one that an anonymous mount may use.
const maxHolders = 100

// startUpload begins to store a blob by the cheapest way that the client offers: mounting one that is here, taking the body
// at once, or else opening an upload for what is to follow.
func (h *Handler) startUpload(w *response, req *request) error {
	if d, source, ok := req.mount(); ok {
		mounted, err := h.mount(req, d, source)
		if err != nil {
			return err
		}
		if mounted {
			h.created(w, req, d)
			return nil
		}
	}
	algorithm := digest.Algorithm(req.query.Get("digest-algorithm"))
	if algorithm != "" && !cas.Supported(algorithm) {
		return ErrDigestInvalid.With("digest-algorithm is neither sha256 nor sha512")
	}
	if req.query.Has("digest") {
		d, err := req.digestParameter()
		if err != nil {
			return err
		}
		pushed, err := h.pushBlob(req, d)
		if err != nil {
			return err
		}
		if pushed {
			h.created(w, req, d)
			return nil
		}
		algorithm = d.Algorithm()
	}
	upload, err := h.registry.StartUpload(req.Context(), req.repository, algorithm)
	if err != nil {
		return err
	}
	if upload.MinChunk > 0 {
		w.set("Oci-Chunk-Min-Length", strconv.FormatInt(upload.MinChunk, 10))
	}
	h.setUpload(w, req.repository, upload)
	w.empty(http.StatusAccepted)
	return nil
}

// mount returns what the client wants to mount. The source is "" if any will do. It is not ok if nothing was asked for that
// could be mounted: clients fail on an error here, and expect to be told to upload.
func (r *request) mount() (d digest.Digest, source string, ok bool) {
	if r.query == nil {
		return "", "", false
	}
	d, err := cas.ParseDigest(r.query.Get("mount"))
	if err != nil {
		return "", "", false
	}
	source = r.query.Get("from")
	return d, source, source == "" || ValidRepository(source)
}

// mount makes a blob of another repository visible in this one, if there is one that the client may pull it from. That it
// exists elsewhere must not be learnt by who may not.
func (h *Handler) mount(req *request, d digest.Digest, source string) (bool, error) {
	sources := []string{source}
	if source == "" {
		var err error
		if sources, err = h.registry.Holders(req.Context(), d, "", maxHolders); err != nil {
			return false, unlessRefused(err)
		}
	}
	for _, source := range sources {
		if !req.mayPull(source) {
			continue
		}
		_, err := h.registry.Mount(req.Context(), d, source, req.repository)
		if err == nil {
			return true, nil
		}
		if err := unlessRefused(err); err != nil {
			return false, err
		}
	}
	return false, nil
}

// unlessRefused returns err if it is a failure, and nil if it is just a registry's way to say that there is nothing to mount.
func unlessRefused(err error) error {
	if status := statusOf(wire(err)[0]); status >= http.StatusInternalServerError || status == http.StatusTooManyRequests {
		return err
	}
	return nil
}

// pushBlob stores the request's body, unless it has none and yet is not the empty blob: then the client expects to send it
// to an upload.
func (h *Handler) pushBlob(req *request, d digest.Digest) (bool, error) {
	body, empty, err := req.peekBody()
	if err != nil {
		return false, err
	}
	size := req.ContentLength
	if empty {
		if d != d.Algorithm().FromString("") {
			return false, nil
		}
		size = 0
	}
	_, err = h.registry.PushBlob(req.Context(), req.repository, d, body, size)
	return err == nil, err
}

// peekBody tells whether the body is empty, for which it has to read from one whose length was not announced.
func (r *request) peekBody() (body io.Reader, empty bool, err error) {
	if r.ContentLength >= 0 {
		return &r.body, r.ContentLength == 0, nil
	}
	first := make([]byte, 1)
	_, err = io.ReadFull(&r.body, first)
	if errors.Is(err, io.EOF) {
		return http.NoBody, true, nil
	}
	return io.MultiReader(bytes.NewReader(first), &r.body), false, err
}

func (h *Handler) appendUpload(w *response, req *request) error {
	chunk, err := h.chunk(req)
	if err != nil {
		return err
	}
	upload, err := h.registry.AppendUpload(req.Context(), req.repository, req.upload, chunk)
	if err != nil {
		return err
	}
	h.setUpload(w, req.repository, upload)
	w.empty(http.StatusAccepted)
	return nil
}

func (h *Handler) finishUpload(w *response, req *request) error {
	d, err := req.digestParameter()
	if err != nil {
		return err
	}
	chunk, err := h.chunk(req)
	if err != nil {
		return err
	}
	if _, err := h.registry.FinishUpload(req.Context(), req.repository, req.upload, chunk, d); err != nil {
		return err
	}
	h.created(w, req, d)
	return nil
}

func (h *Handler) uploadStatus(w *response, req *request) error {
	upload, err := h.registry.UploadStatus(req.Context(), req.repository, req.upload)
	if err != nil {
		return err
	}
	h.setUpload(w, req.repository, upload)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Handler) cancelUpload(w *response, req *request) error {
	if err := h.registry.CancelUpload(req.Context(), req.repository, req.upload); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// chunk returns the chunk that the request carries. Without a Content-Range it continues the upload wherever that stands. With one
// that cannot be parsed, the client is told where it stands, as if it had begun at a wrong offset.
func (h *Handler) chunk(req *request) (Chunk, error) {
	chunk := Chunk{At: -1, Size: req.ContentLength}
	if chunk.Size != 0 {
		chunk.Body = &req.body
	}
	header := req.Header.Get("Content-Range")
	if header == "" {
		return chunk, nil
	}
	at, size, ok := parseChunkRange(header)
	if !ok {
		upload, err := h.registry.UploadStatus(req.Context(), req.repository, req.upload)
		if err != nil {
			return Chunk{}, err
		}
		return Chunk{}, &OffsetError{Upload: upload}
	}
	if chunk.Size >= 0 && chunk.Size != size {
		return Chunk{}, ErrSizeInvalid.With("Content-Range has %d bytes, and the body %d", size, chunk.Size)
	}
	chunk.At = at
	if chunk.Size < 0 {
		chunk.Body = &span{Reader: &req.body, left: size}
	}
	return chunk, nil
}

// span is a body whose length was not announced, but what it has to be.
type span struct {
	io.Reader
	left int64
}

// Read fails with ErrSizeInvalid where the body goes on behind the span, or ends within it.
func (s *span) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.left -= int64(n)
	switch {
	case s.left < 0:
		return n + int(s.left), ErrSizeInvalid.With("the body is longer than its Content-Range")
	case errors.Is(err, io.EOF) && s.left > 0:
		return n, ErrSizeInvalid.With("the body is shorter than its Content-Range")
	}
	return n, err
}

// digestParameter returns the digest that the client says it uploads. Some clients repeat it.
func (r *request) digestParameter() (digest.Digest, error) {
	values := r.query["digest"]
	if len(values) == 0 {
		return "", ErrDigestInvalid.With("the digest parameter is missing")
	}
	for _, value := range values[1:] {
		if value != values[0] {
			return "", ErrDigestInvalid.With("two digest parameters differ")
		}
	}
	return parseDigest(values[0])
}

// setUpload tells where an upload continues, and how far it has come.
func (h *Handler) setUpload(w *response, repository string, upload Upload) {
	w.set("Location", h.url(target{route: routeUpload, repository: repository, upload: upload.ID}))
	w.set("Range", "0-"+strconv.FormatInt(max(0, upload.Offset-1), 10))
	w.set("Docker-Upload-Uuid", upload.ID)
}

// created answers that the blob d is stored.
func (h *Handler) created(w *response, req *request, d digest.Digest) {
	w.set("Location", h.url(target{route: routeBlob, repository: req.repository, digest: d}))
	w.set("Docker-Content-Digest", d.String())
	w.empty(http.StatusCreated)
}
