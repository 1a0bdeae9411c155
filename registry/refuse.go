package registry

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// maxErrorBody is how many bytes of errors clients read (oras).
	maxErrorBody = 8 << 10

	// maxMessage is how many bytes a message has.
	maxMessage = 1 << 10

	// maxRetryAfter is the longest time, in seconds, that clients are asked to wait for when nobody knows how long it takes. Each
	// is asked to wait for another one, so that they do not all come back at once.
	maxRetryAfter = 5
)

// refuse is the one place that turns an error into an answer: status, headers and body.
func (h *Handler) refuse(w *response, req *request, err error) {
	if w.status != 0 { // The answer has begun. What is missing of it makes net/http close the connection: the client notices.
		if !w.gone && req.Context().Err() == nil {
			h.log(req, "answer cut short", err)
		}
		return
	}
	errs := wire(err)
	if failure := req.body.failure; failure != nil && errors.Is(err, failure) {
		errs = Errors{failure}
	}
	if errors.Is(errs, ErrUnknown) && req.Context().Err() != nil {
		// The client went away, or else the server is about to: then the client is still here, and may try again.
		errs = Errors{ErrUnavailable}
	}
	status := statusOf(errs[0])
	if status >= http.StatusInternalServerError && !expected(req, err) {
		h.log(req, "request failed", err)
	}
	h.explain(w, req, err, status)
	_ = w.json(status, errorDocument(errs)) // if the client is gone, so be it
}

// expected reports whether a failure is nobody's concern but the client's: it left, or is asked to come back later.
func expected(req *request, err error) bool {
	var retry *RetryError
	return req.Context().Err() != nil || errors.As(err, &retry)
}

// explain sets the headers that tell the client what to do about an error.
func (h *Handler) explain(w *response, req *request, err error, status int) {
	var (
		method    *methodError
		outside   *rangeError
		offset    *OffsetError
		challenge *ChallengeError
		retry     *RetryError
	)
	switch {
	case errors.As(err, &method):
		w.set("Allow", method.allow())
	case errors.As(err, &outside):
		w.set("Content-Range", "bytes */"+strconv.FormatInt(outside.size, 10))
	case errors.As(err, &offset):
		h.setUpload(w, req.repository, offset.Upload)
	case errors.As(err, &challenge):
		w.set("Www-Authenticate", challenge.Challenge)
	case errors.As(err, &retry):
		w.set("Retry-After", seconds(retry.After))
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
		w.set("Retry-After", strconv.Itoa(1+rand.IntN(maxRetryAfter)))
	}
}

// seconds returns a duration in whole seconds, rounded up, at least one.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}

func (h *Handler) log(req *request, message string, err error) {
	logger := h.options.Logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.LogAttrs(req.Context(), slog.LevelError, message, slog.String("method", req.Method),
		slog.String("path", req.URL.Path), slog.Any("error", err))
}

// statusOf returns the HTTP status of an error.
func statusOf(e *Error) int {
	if status, ok := statuses[e.Code]; ok {
		return status
	}
	return http.StatusBadRequest
}

// errorDocument returns the body that tells the errors, as many of them as clients read.
func errorDocument(errs Errors) []byte {
	const begin, end = `{"errors":[`, `]}`
	document := []byte(begin)
	for i, e := range errs {
		entry := errorEntry(e)
		if i > 0 && len(document)+len(",")+len(entry)+len(end) >= maxErrorBody {
			break
		}
		if i > 0 {
			document = append(document, ',')
		}
		document = append(document, entry...)
	}
	return append(document, end...)
}

// errorEntry returns one error as JSON. A detail that is too large, or cannot be marshalled, is left out.
func errorEntry(e *Error) []byte {
	entry := struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}{e.Code, printable(e.Message), e.Detail}
	document, err := json.Marshal(entry)
	if err != nil || len(document) > maxErrorBody/2 {
		entry.Detail = nil
		document, _ = json.Marshal(entry) // two strings
	}
	return document
}

// printable returns what of a message people's terminals may be given: part of it may come from another client.
func printable(message string) string {
	if len(message) > maxMessage {
		message = message[:maxMessage] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, message)
}
