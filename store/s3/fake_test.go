package s3_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
)

// answer is what a server says that no real one can be brought to say.
type answer struct {
	status  int
	headers map[string]string
	body    string
}

func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	for name, value := range a.headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// errorXML is an error of S3.
func errorXML(code string) string {
	return fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>said the test</Message></Error>", code)
}

// noObject is what a server without objects says to a GET.
var noObject = answer{status: http.StatusNotFound, body: errorXML("NoSuchKey")}

// say returns a store on a server that gives these answers, and noObject to what is not among them.
func say(t *testing.T, answers map[faulttest.Operation]answer) *s3.Objects {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said, ok := answers[faulttest.OperationOf(r)]
		if !ok {
			said = noObject
		}
		said.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return newObjects(t, sdk.New(sdk.Options{
		BaseEndpoint: aws.String(server.URL),
		UsePathStyle: true,
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}, impatient), "bucket", nil)
}

// impatient has a client repeat without waiting.
func impatient(o *sdk.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

const completed = `<CompleteMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>bucket</Bucket><ETag>"tag"</ETag></CompleteMultipartUploadResult>`

func TestCompleteBelievesNothingButACompletion(t *testing.T) {
	t.Parallel()
	ofSize := func(total int) answer {
		return answer{http.StatusPartialContent, map[string]string{"Content-Range": fmt.Sprintf("bytes 0-0/%d", total), "ETag": "tag"}, "x"}
	}
	const size = 1234
	for name, test := range map[string]struct {
		said, object answer
		want         error // nil: success
	}{
		"ACompletionSucceeds":              {answer{http.StatusOK, nil, completed}, noObject, nil},
		"ACompletionAfterBlanksSucceeds":   {answer{http.StatusOK, nil, "   \n  " + completed}, noObject, nil},
		"AnErrorInsideA200":                {answer{http.StatusOK, nil, errorXML("InternalError")}, noObject, store.ErrUnavailable},
		"AnErrorInsideA200AfterBlanks":     {answer{http.StatusOK, nil, "   \n  " + errorXML("InternalError")}, noObject, store.ErrUnavailable},
		"AnErrorInsideA200Undeclared":      {answer{http.StatusOK, nil, "<Error><Code>SlowDown</Code></Error>"}, noObject, store.ErrUnavailable},
		"AnUnknownErrorInsideA200":         {answer{http.StatusOK, nil, errorXML("Unheard")}, noObject, store.ErrUnavailable},
		"AnInvalidPartInsideA200":          {answer{http.StatusOK, nil, errorXML("InvalidPart")}, noObject, store.ErrInvalidPart},
		"AnUnknownUploadInsideA200":        {answer{http.StatusOK, nil, errorXML("NoSuchUpload")}, noObject, store.ErrMultipartUnknown},
		"AnEmptyAnswer":                    {answer{http.StatusOK, nil, ""}, noObject, store.ErrUnavailable},
		"AnEmptyAnswerAndTheObject":        {answer{http.StatusOK, nil, ""}, ofSize(size), nil},
		"BlanksOnly":                       {answer{http.StatusOK, nil, "    "}, noObject, store.ErrUnavailable},
		"ACompletionCutOff":                {answer{http.StatusOK, nil, completed[:100]}, noObject, store.ErrUnavailable},
		"ACompletionWithoutAnETag":         {answer{http.StatusOK, nil, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"}, noObject, store.ErrUnavailable},
		"SomethingElse":                    {answer{http.StatusOK, nil, "<html><body>Sign in</body></html>"}, noObject, store.ErrUnavailable},
		"AnUnknownUploadAndTheObject":      {answer{http.StatusNotFound, nil, errorXML("NoSuchUpload")}, ofSize(size), nil},
		"AnUnknownUploadAndNoObject":       {answer{http.StatusNotFound, nil, errorXML("NoSuchUpload")}, noObject, store.ErrMultipartUnknown},
		"AnUnknownUploadAndAnotherObject":  {answer{http.StatusNotFound, nil, errorXML("NoSuchUpload")}, ofSize(size - 1), store.ErrMultipartUnknown},
		"AnUnknownUploadAndNoWayToLook":    {answer{http.StatusNotFound, nil, errorXML("NoSuchUpload")}, answer{503, nil, errorXML("SlowDown")}, store.ErrUnavailable},
		"AnInvalidPart":                    {answer{http.StatusBadRequest, nil, errorXML("InvalidPart")}, noObject, store.ErrInvalidPart},
		"PartsOutOfOrder":                  {answer{http.StatusBadRequest, nil, errorXML("InvalidPartOrder")}, noObject, store.ErrInvalidPart},
		"AConflictThatWantsEveryPartAgain": {answer{http.StatusConflict, nil, errorXML("ConditionalRequestConflict")}, noObject, store.ErrInvalidPart},
		"AnotherRequestUnderWay":           {answer{http.StatusConflict, nil, errorXML("OperationAborted")}, noObject, store.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := say(t, map[faulttest.Operation]answer{faulttest.CompleteMultipartUpload: test.said, faulttest.GetObject: test.object})
			err := o.Complete(t.Context(), store.Multipart{Key: "blobs/x", ID: "id"}, []store.Part{
				{Number: 1, Size: size - 100, Tag: "a"}, {Number: 5, Offset: size - 100, Size: 100, Tag: "b"},
			})
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, test.want)
		})
	}
}

func TestAnswersToReadsAreHeldAgainstTheQuestion(t *testing.T) {
	t.Parallel()
	ranged := func(contentRange, body string) answer {
		return answer{http.StatusPartialContent, map[string]string{"Content-Range": contentRange, "ETag": "tag"}, body}
	}
	whole := func(body string) answer { return answer{http.StatusOK, map[string]string{"ETag": "tag"}, body} }
	for name, test := range map[string]struct {
		said           answer
		offset, length int64
		want           string // "" is an error
		err            error  // that it wraps, if any
	}{
		"TheWhole":                 {whole("0123456789"), 0, -1, "0123456789", nil},
		"TheRange":                 {ranged("bytes 2-4/10", "234"), 2, 3, "234", nil},
		"TheRestOfTheObject":       {ranged("bytes 7-9/10", "789"), 7, 100, "789", nil},
		"TheWholeInsteadOfARange":  {whole("0123456789"), 2, 3, "", nil},
		"ARangeThatBeginsEarlier":  {ranged("bytes 1-3/10", "123"), 2, 3, "", nil},
		"ALongerRange":             {ranged("bytes 2-5/10", "2345"), 2, 3, "", nil},
		"AShorterRange":            {ranged("bytes 2-3/10", "23"), 2, 3, "", nil},
		"ARangeOfUnknownTotal":     {ranged("bytes 2-4/*", "234"), 2, 3, "", nil},
		"ARangeThatIsNone":         {ranged("items 2-4/10", "234"), 2, 3, "", nil},
		"ABodyOfAnotherLength":     {ranged("bytes 2-4/10", "23"), 2, 3, "", nil},
		"NothingWhereObjectsHave1": {whole(""), 0, -1, "", nil},
		"ABodyThatIsCut":           {answer{http.StatusOK, map[string]string{"Content-Length": "11", "ETag": "tag"}, "0123456789"}, 0, -1, "", store.ErrUnavailable},
		"RangeNotSatisfiable":      {answer{http.StatusRequestedRangeNotSatisfiable, nil, errorXML("InvalidRange")}, 10, 1, "", store.ErrOutOfRange},
		"RangeNotSatisfiableInHTML": {answer{http.StatusRequestedRangeNotSatisfiable, nil, "<html></html>"}, 10, 1, "",
			store.ErrOutOfRange},
		"WhatAProxySays":     {answer{http.StatusOK, nil, "<html></html>"}, 0, -1, "", store.ErrUnavailable},
		"NoSuchKey":          {noObject, 0, -1, "", store.ErrObjectUnknown},
		"SlowDown":           {answer{http.StatusServiceUnavailable, nil, errorXML("SlowDown")}, 0, -1, "", store.ErrUnavailable},
		"TooManyRequests":    {answer{http.StatusTooManyRequests, nil, ""}, 0, -1, "", store.ErrUnavailable},
		"AProxyWithoutStore": {answer{http.StatusBadGateway, nil, "<html></html>"}, 0, -1, "", store.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := read(t, say(t, map[faulttest.Operation]answer{faulttest.GetObject: test.said}), "blobs/x", test.offset, test.length)
			if test.want != "" {
				require.NoError(t, err)
				require.Equal(t, test.want, string(got))
				return
			}
			require.Error(t, err)
			if test.err != nil {
				require.ErrorIs(t, err, test.err)
			}
		})
	}
}

func TestDeleteNamesWhatIsStillThere(t *testing.T) {
	t.Parallel()
	keys := []store.Key{"blobs/a", "blobs/b", "blobs/c", "blobs/d"}
	entry := func(key store.Key, code string) string {
		return fmt.Sprintf("<Error><Key>%s</Key><Code>%s</Code><Message>m</Message></Error>", key, code)
	}
	o := say(t, map[faulttest.Operation]answer{faulttest.DeleteObjects: {http.StatusOK, nil, "<DeleteResult>" +
		entry("blobs/a", "InternalError") + entry("blobs/b", "AccessDenied") + entry("blobs/c", "NoSuchKey") + "</DeleteResult>"}})
	var failed *store.DeleteError
	require.ErrorAs(t, o.Delete(t.Context(), keys), &failed)
	require.Len(t, failed.Failed, 2, "what is absent or deleted is not named")
	require.ErrorIs(t, failed.Failed["blobs/a"], store.ErrUnavailable)
	require.ErrorContains(t, failed.Failed["blobs/b"], "access denied")

	for name, said := range map[string]answer{
		"a failed request":      {http.StatusServiceUnavailable, nil, errorXML("SlowDown")},
		"an error inside a 200": {http.StatusOK, nil, errorXML("InternalError")},
	} {
		many := keys
		for len(many) < 2500 {
			many = append(many, store.NewBlobKey())
		}
		o := say(t, map[faulttest.Operation]answer{faulttest.DeleteObjects: said})
		require.ErrorAs(t, o.Delete(t.Context(), many), &failed)
		require.Len(t, failed.Failed, len(many), "after %s, every key may still be there", name)
		require.ErrorIs(t, failed, store.ErrUnavailable)
	}
}

func TestAnswersWithoutWhatMattersAreErrors(t *testing.T) {
	t.Parallel()
	o := say(t, map[faulttest.Operation]answer{
		faulttest.PutObject:             {http.StatusOK, nil, ""},
		faulttest.UploadPart:            {http.StatusOK, nil, ""},
		faulttest.CreateMultipartUpload: {http.StatusOK, nil, "<InitiateMultipartUploadResult></InitiateMultipartUploadResult>"},
	})
	require.ErrorContains(t, o.Put(t.Context(), "blobs/x", bytes.NewReader([]byte("x")), 1), "ETag", "every object has an ETag")
	_, err := o.PutPart(t.Context(), store.Multipart{Key: "blobs/x", ID: "id"}, 1, store.Part{Number: 1, Size: 1}, bytes.NewReader([]byte("x")))
	require.ErrorContains(t, err, "ETag", "a part cannot be named without its ETag")
	_, err = o.Begin(t.Context(), "blobs/x")
	require.ErrorContains(t, err, "id", "an upload cannot be continued without its id")
}
