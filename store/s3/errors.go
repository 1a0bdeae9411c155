package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ocikit/ocikit/store"
)

// Codes of errors that this package decides on.
const (
	codeNoSuchKey    = "NoSuchKey"
	codeNoSuchBucket = "NoSuchBucket"
	codeAccessDenied = "AccessDenied"
)

// typed are the errors of [store] that a code means.
//
// ConditionalRequestConflict is an answer to a completion after which every part has to be sent again.
var typed = map[string]error{
	codeNoSuchKey:                store.ErrObjectUnknown,
	"NoSuchUpload":               store.ErrMultipartUnknown,
	"InvalidRange":               store.ErrOutOfRange,
	"InvalidPart":                store.ErrInvalidPart,
	"InvalidPartOrder":           store.ErrInvalidPart,
	"NoSuchPart":                 store.ErrInvalidPart,
	"ConditionalRequestConflict": store.ErrInvalidPart,
	"XMinioInvalidResourceName":  store.ErrMultipartUnknown, // of an upload's id: keys are valid

	"InternalError":      store.ErrUnavailable,
	"OperationAborted":   store.ErrUnavailable, // another request on the same key is under way
	"RequestTimeout":     store.ErrUnavailable, // the body came too slowly
	"ServiceUnavailable": store.ErrUnavailable,
	"SlowDown":           store.ErrUnavailable,
}

// words say what is wrong where it is for the operator to set right.
var words = map[string]string{
	codeNoSuchBucket:               "the bucket does not exist",
	codeAccessDenied:               "access denied",
	"AccountProblem":               "access denied",
	"AllAccessDisabled":            "access denied",
	"InvalidAccessKeyId":           "the access key is unknown to the store",
	"XAdminUserNotFound":           "the access key is unknown to the store", // versitygw
	"SignatureDoesNotMatch":        "the secret key is wrong",
	"RequestTimeTooSkewed":         "this machine's clock and the store's differ too much",
	"ExpiredToken":                 "the credentials have expired",
	"InvalidToken":                 "the session token is invalid",
	"TokenRefreshRequired":         "the credentials have expired",
	"AuthorizationHeaderMalformed": "the region is not the bucket's",
	"IllegalLocationConstraint":    "the region is not the bucket's",
	"PermanentRedirect":            "the region or the endpoint is not the bucket's",
	"InvalidBucketName":            "that is no name of a bucket",
	"InvalidStorageClass":          "the store has no such storage class",
	"KMS.DisabledException":        "the encryption key is disabled",
	"KMS.NotFoundException":        "there is no such encryption key",
	"MethodNotAllowed":             "the store does not have this operation",
	"NotImplemented":               "the store does not have this operation",
}

// classify gives a call's error the type that callers decide on. ctx is the caller's.
func classify(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: no answer in time: %s", store.ErrUnavailable, err.Error()) // the caller's time has not ended
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		if kind, ok := typed[api.ErrorCode()]; ok {
			return fmt.Errorf("%w: %w", kind, err)
		}
		if text, ok := words[api.ErrorCode()]; ok {
			return fmt.Errorf("%s: %w", text, err)
		}
		if _, ok := retry.DefaultThrottleErrorCodes[api.ErrorCode()]; ok {
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
	}
	if noAnswer(err) {
		return unavailable(err)
	}
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) {
		return err
	}
	switch status := response.HTTPStatusCode(); {
	case status < http.StatusMultipleChoices: // an answer that was cut, or is no answer of S3
		return unavailable(fmt.Errorf("%w: %w", errAnswer, err))
	case status == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: %w", store.ErrOutOfRange, err)
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout,
		status >= http.StatusInternalServerError && status != http.StatusNotImplemented:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// errAnswer says that an answer makes no sense.
var errAnswer = errors.New("unusable answer of the store")

// unavailable marks an error. A connection that ended is not the end of what somebody reads, so io.EOF stays inside.
func unavailable(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s", store.ErrUnavailable, err.Error())
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// noAnswer reports whether a request may have been sent, and no answer came that can be read.
func noAnswer(err error) bool {
	var send *smithyhttp.RequestSendError
	var read *smithy.DeserializationError
	return errors.As(err, &send) || errors.As(err, &read)
}

// classifyWrite is classify for a call that sent content, whose reader may be what failed.
func classifyWrite(ctx context.Context, content *body, err error) error {
	if content.err != nil && ctx.Err() == nil {
		return content.err
	}
	return classify(ctx, err)
}

// classifyCode is classify for an error that comes for one key of many.
func classifyCode(code, message string) error {
	return classify(context.Background(), &smithy.GenericAPIError{Code: code, Message: message})
}

// generic are the codes that the SDK makes up for an answer that has none.
var generic = map[string]bool{"": true, "NotFound": true, "UnknownError": true}

// explain says in one short line what an error of the SDK means.
func explain(err error) string {
	var api smithy.APIError
	var send *smithyhttp.RequestSendError
	var response *smithyhttp.ResponseError
	var text string
	switch {
	case errors.As(err, &api) && !generic[api.ErrorCode()]:
		text = api.ErrorCode()
		if known, ok := words[text]; ok {
			text = known + " (" + api.ErrorCode() + ")"
		}
		if message := strings.TrimSuffix(api.ErrorMessage(), "."); message != "" {
			text += ": " + message
		}
	case errors.As(err, &send):
		text = "the store cannot be reached: " + send.Err.Error()
	case errors.As(err, &response):
		text = fmt.Sprintf("an answer that is not S3's, with status %d", response.HTTPStatusCode())
	default:
		text = err.Error()
	}
	return strings.Join(strings.Fields(text), " ")
}
