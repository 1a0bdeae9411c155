package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

func (h *Handler) headBlob(w *response, req *request) error {
	found, err := h.registry.StatBlob(req.Context(), req.repository, req.digest)
	if err != nil {
		return err
	}
	w.setContent(req.digest)
	w.header["Accept-Ranges"] = valueBytes
	if req.knows(req.digest) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.header["Content-Type"] = valueOctetStream
	w.setLength(found.Size)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) getBlob(w *response, req *request) error {
	blob, err := h.registry.Blob(req.Context(), req.repository, req.digest)
	if err != nil {
		return err
	}
	if req.knows(req.digest) {
		w.setContent(req.digest)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if blob.URL != nil {
		return redirect(w, req, &blob)
	}
	ranges, err := parseRange(req.rangeHeader(), blob.Size, h.options.MaxRanges)
	if err != nil {
		return err
	}
	switch len(ranges) {
	case 0:
		return serveBlob(w, req, &blob, byteRange{0, blob.Size}, http.StatusOK)
	case 1:
		return serveBlob(w, req, &blob, ranges[0], http.StatusPartialContent)
	}
	return serveRanges(w, req, &blob, ranges)
}

// redirect sends the client to where the blob's bytes are. It is for GET alone, which is all that a signed URL allows. Ranges
// are the business of who serves that URL.
func redirect(w *response, req *request, blob *Blob) error {
	location, err := blob.URL(req.Context())
	if err != nil {
		return fmt.Errorf("locate blob for redirect: %w", err)
	}
	w.set("Docker-Content-Digest", req.digest.String())
	w.set("Location", location)
	w.empty(http.StatusTemporaryRedirect)
	return nil
}

// serveBlob answers with one part of a blob, or all of it. The headers are set once the part is open, so that they do not
// stand in an error's answer.
func serveBlob(w *response, req *request, blob *Blob, part byteRange, status int) error {
	content, err := openPart(req.Context(), blob, part)
	if err != nil {
		return err
	}
	defer content.Close()
	w.setContent(req.digest)
	w.header["Accept-Ranges"] = valueBytes
	w.header["Content-Type"] = valueOctetStream
	if status == http.StatusPartialContent {
		w.set("Content-Range", part.contentRange(blob.Size))
	}
	w.setLength(part.length)
	w.coming = blob.Coming
	w.WriteHeader(status)
	return copyPart(w, content, part)
}

// serveRanges answers with several parts of a blob, as RFC 9110, section 14.6 has it. The length of it all is known before.
func serveRanges(w *response, req *request, blob *Blob, parts []byteRange) error {
	boundary := rand.Text()
	headers := make([]string, len(parts))
	end := "\r\n--" + boundary + "--\r\n"
	length := int64(len(end))
	for i, part := range parts {
		headers[i] = "\r\n--" + boundary + "\r\nContent-Type: application/octet-stream\r\nContent-Range: " +
			part.contentRange(blob.Size) + "\r\n\r\n"
		if i == 0 {
			headers[i] = strings.TrimPrefix(headers[i], "\r\n")
		}
		length += int64(len(headers[i])) + part.length
	}
	for i, part := range parts {
		content, err := openPart(req.Context(), blob, part)
		if err != nil {
			return err
		}
		if i == 0 {
			w.setContent(req.digest)
			w.header["Accept-Ranges"] = valueBytes
			w.set("Content-Type", "multipart/byteranges; boundary="+boundary)
			w.setLength(length)
			w.WriteHeader(http.StatusPartialContent)
		}
		_, err = io.WriteString(w, headers[i])
		if err == nil {
			err = copyPart(w, content, part)
		}
		_ = content.Close() // it was only read from
		if err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, end)
	return err
}

func openPart(ctx context.Context, blob *Blob, part byteRange) (io.ReadCloser, error) {
	if part.length == 0 {
		return http.NoBody, nil
	}
	content, err := blob.Open(ctx, part.offset, part.length)
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	return content, nil
}

// copyPart copies with whatever saves copies: the content's WriteTo, or the response's ReadFrom.
func copyPart(w *response, content io.Reader, part byteRange) error {
	n, err := io.Copy(w, content)
	if err == nil && n < part.length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("copy blob, %d of %d bytes done: %w", n, part.length, err)
	}
	return nil
}

func (h *Handler) deleteBlob(w *response, req *request) error {
	if err := h.registry.DeleteBlob(req.Context(), req.repository, req.digest); err != nil {
		return err
	}
	w.empty(http.StatusAccepted)
	return nil
}

// setContent sets the headers that identify immutable content.
func (w *response) setContent(d digest.Digest) {
	w.set("Docker-Content-Digest", d.String())
	w.set("Etag", entityTag(d))
}

func (r byteRange) contentRange(size int64) string {
	return "bytes " + strconv.FormatInt(r.offset, 10) + "-" + strconv.FormatInt(r.offset+r.length-1, 10) + "/" +
		strconv.FormatInt(size, 10)
}

// rangeHeader returns the request's Range, or none if If-Range wants it to be ignored.
func (r *request) rangeHeader() string {
	if condition := r.Header.Get("If-Range"); condition != "" && condition != entityTag(r.digest) {
		return ""
	}
	return r.Header.Get("Range")
}
