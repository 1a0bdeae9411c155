package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Error is an error that clients see, in the form that the distribution specification gives it ("Error Codes").
// errors.Is compares two of them by code alone.
type Error struct {
	Code    string // BLOB_UNKNOWN …; decides the status: one that is not among the errors below is a 400
	Message string // for people; ends up in their terminals
	Detail  any    // marshalled as JSON; nil is left out
}

func (e *Error) Error() string {
	return strings.ToLower(strings.ReplaceAll(e.Code, "_", " ")) + ": " + e.Message
}

// Is reports whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// With returns the error with a message of its own, as fmt.Sprintf makes it.
func (e *Error) With(format string, args ...any) *Error {
	return &Error{Code: e.Code, Message: fmt.Sprintf(format, args...), Detail: e.Detail}
}

// WithDetail returns the error with a detail.
func (e *Error) WithDetail(detail any) *Error {
	return &Error{Code: e.Code, Message: e.Message, Detail: detail}
}

// The errors of the API. ErrUnavailable and ErrUnknown are not in the specification; ErrPreconditionFailed is ours.
var (
	ErrBlobUnknown         = &Error{Code: "BLOB_UNKNOWN", Message: "blob unknown to repository"}
	ErrBlobUploadInvalid   = &Error{Code: "BLOB_UPLOAD_INVALID", Message: "chunk does not continue the upload"}
	ErrBlobUploadUnknown   = &Error{Code: "BLOB_UPLOAD_UNKNOWN", Message: "upload unknown, finished or expired"}
	ErrDigestInvalid       = &Error{Code: "DIGEST_INVALID", Message: "digest does not match the content, or is malformed"}
	ErrManifestBlobUnknown = &Error{Code: "MANIFEST_BLOB_UNKNOWN", Message: "manifest refers to content that the repository does not have"}
	ErrManifestInvalid     = &Error{Code: "MANIFEST_INVALID", Message: "manifest invalid"}
	ErrManifestUnknown     = &Error{Code: "MANIFEST_UNKNOWN", Message: "manifest unknown to repository"}
	ErrNameInvalid         = &Error{Code: "NAME_INVALID", Message: "repository name invalid"}
	ErrNameUnknown         = &Error{Code: "NAME_UNKNOWN", Message: "repository unknown"}
	ErrSizeInvalid         = &Error{Code: "SIZE_INVALID", Message: "length differs from what was announced"}
	ErrTooLarge            = &Error{Code: "TOO_LARGE", Message: "larger than this registry takes"}
	ErrTagInvalid          = &Error{Code: "TAG_INVALID", Message: "tag invalid"}
	ErrUnauthorized        = &Error{Code: "UNAUTHORIZED", Message: "authentication required"}
	ErrDenied              = &Error{Code: "DENIED", Message: "access to the resource is denied"}
	ErrUnsupported         = &Error{Code: "UNSUPPORTED", Message: "operation not supported"}
	ErrTooManyRequests     = &Error{Code: "TOOMANYREQUESTS", Message: "too many requests"}
	ErrPreconditionFailed  = &Error{Code: "PRECONDITION_FAILED", Message: "tag is not in the expected state"}
	ErrUnavailable         = &Error{Code: "UNAVAILABLE", Message: "registry temporarily unavailable, try again"}
	ErrUnknown             = &Error{Code: "UNKNOWN", Message: "internal error"}
)

// What only the protocol can get wrong, and no registry returns.
var (
	errNotFound     = &Error{Code: "NOT_FOUND", Message: "no such resource in this API"}
	errRangeInvalid = &Error{Code: "RANGE_INVALID", Message: "no such range in the content"}
	errPageInvalid  = &Error{Code: "PAGINATION_NUMBER_INVALID", Message: "n is not a number, or last is not text"}
	errTooManyTags  = &Error{Code: "URI_TOO_LONG", Message: "more tags at once than this registry takes"}
	errTimeout      = &Error{Code: "REQUEST_TIMEOUT", Message: "the body stopped coming"}
)

// statuses is the one place that turns a code into an HTTP status.
var statuses = map[string]int{
	ErrBlobUnknown.Code:         http.StatusNotFound,
	ErrBlobUploadInvalid.Code:   http.StatusRequestedRangeNotSatisfiable,
	ErrBlobUploadUnknown.Code:   http.StatusNotFound,
	ErrDigestInvalid.Code:       http.StatusBadRequest,
	ErrManifestBlobUnknown.Code: http.StatusBadRequest,
	ErrManifestInvalid.Code:     http.StatusBadRequest,
	ErrManifestUnknown.Code:     http.StatusNotFound,
	ErrNameInvalid.Code:         http.StatusBadRequest,
	ErrNameUnknown.Code:         http.StatusNotFound,
	ErrSizeInvalid.Code:         http.StatusBadRequest,
	ErrTooLarge.Code:            http.StatusRequestEntityTooLarge,
	ErrTagInvalid.Code:          http.StatusBadRequest,
	ErrUnauthorized.Code:        http.StatusUnauthorized,
	ErrDenied.Code:              http.StatusForbidden,
	ErrUnsupported.Code:         http.StatusMethodNotAllowed,
	ErrTooManyRequests.Code:     http.StatusTooManyRequests,
	ErrPreconditionFailed.Code:  http.StatusPreconditionFailed,
	ErrUnavailable.Code:         http.StatusServiceUnavailable,
	ErrUnknown.Code:             http.StatusInternalServerError,
	errNotFound.Code:            http.StatusNotFound,
	errRangeInvalid.Code:        http.StatusRequestedRangeNotSatisfiable,
	errPageInvalid.Code:         http.StatusBadRequest,
	errTooManyTags.Code:         http.StatusRequestURITooLong,
	errTimeout.Code:             http.StatusRequestTimeout,
}

// Errors is several errors in one answer. Its first one decides the status.
type Errors []*Error

func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the errors, so that errors.Is finds each.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// RetryError asks the client to come back later: the answer carries Retry-After. Err decides code and status, and is
// ErrUnavailable or ErrTooManyRequests.
type RetryError struct {
	Err   *Error
	After time.Duration // rounded up to whole seconds; 0 means one second
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RetryError) Unwrap() error { return e.Err }

// ChallengeError refuses a request and tells the client how to authenticate.
type ChallengeError struct {
	Challenge string // the whole WWW-Authenticate header: exactly one challenge
	Err       *Error // nil means ErrUnauthorized
}

func (e *ChallengeError) Error() string { return e.reason().Error() }

// Unwrap returns Err, or ErrUnauthorized.
func (e *ChallengeError) Unwrap() error { return e.reason() }

func (e *ChallengeError) reason() *Error {
	if e.Err == nil {
		return ErrUnauthorized
	}
	return e.Err
}

// wire returns what clients see of err.
func wire(err error) Errors {
	var many Errors
	if errors.As(err, &many) && len(many) > 0 {
		return many
	}
	var one *Error
	if errors.As(err, &one) {
		return Errors{one}
	}
	return Errors{ErrUnknown}
}
