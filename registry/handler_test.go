package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

func record(t *testing.T, h http.Handler, method, path string, body io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, body))
	return w
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// list returns the strings of one field of an answer.
func list(t testing.TB, r reply, field string) []string {
	t.Helper()
	var document map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(r.body), &document), r.body)
	var entries []string
	require.NoError(t, json.Unmarshal(document[field], &entries), r.body)
	require.NotNil(t, entries, "%s is null: %s", field, r.body)
	return entries
}

var linkForm = regexp.MustCompile(`^<(/[^>; ]*)>; rel="next"$`)

// nextPage returns the URL of the page after r, or "".
func nextPage(t testing.TB, r reply) string {
	t.Helper()
	link := r.header.Values("Link")
	if len(link) == 0 {
		return ""
	}
	require.Len(t, link, 1)
	match := linkForm.FindStringSubmatch(link[0])
	require.NotNil(t, match, "Link: %s", link[0])
	return match[1]
}

func TestErrorsHaveTheirStatusAndHeaders(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err    error
		status int
		code   string
		header map[string]string // regular expressions
	}{
		"Typed":          {registry.ErrBlobUnknown, 404, "BLOB_UNKNOWN", nil},
		"Wrapped":        {errors.Join(errors.New("inner secret"), registry.ErrDenied), 403, "DENIED", nil},
		"Internal":       {errors.New("inner secret"), 500, "UNKNOWN", nil},
		"OfSomebodyElse": {&registry.Error{Code: "QUOTA_EXCEEDED", Message: "no more"}, 400, "QUOTA_EXCEEDED", nil},
		"Unavailable":    {registry.ErrUnavailable, 503, "UNAVAILABLE", map[string]string{"Retry-After": `^[1-5]$`}},
		"Retry":          {&registry.RetryError{Err: registry.ErrUnavailable, After: 1500 * time.Millisecond}, 503, "UNAVAILABLE", map[string]string{"Retry-After": `^2$`}},
		"RetryAtOnce":    {&registry.RetryError{Err: registry.ErrTooManyRequests}, 429, "TOOMANYREQUESTS", map[string]string{"Retry-After": `^1$`}},
		"TooMany":        {registry.ErrTooManyRequests, 429, "TOOMANYREQUESTS", map[string]string{"Retry-After": `^[1-5]$`}},
		"Challenge": {
			&registry.ChallengeError{Challenge: `Basic realm="r"`}, 401, "UNAUTHORIZED",
			map[string]string{"Www-Authenticate": `^Basic realm="r"$`},
		},
		"ChallengeToDenied": {
			&registry.ChallengeError{Challenge: `Basic realm="r"`, Err: registry.ErrDenied}, 403, "DENIED",
			map[string]string{"Www-Authenticate": `^Basic realm="r"$`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &fake{err: test.err}, &registry.HandlerOptions{Logger: slog.New(slog.DiscardHandler)})
			path := "/v2/a/blobs/" + digest.FromString("x").String()
			got := s.send(t, "GET", path, nil).wants(t, test.status, test.code)
			assert.Equal(t, "registry/2.0", got.header.Get("Docker-Distribution-Api-Version"))
			assert.NotContains(t, got.body, "secret", "internals shown to a client")
			assert.EqualValues(t, len(got.body), got.length)
			for header, form := range test.header {
				require.Len(t, got.header.Values(header), 1, header)
				assert.Regexp(t, form, got.header.Get(header), header)
			}
			for _, header := range []string{"Etag", "Docker-Content-Digest", "Accept-Ranges"} {
				assert.Empty(t, got.header.Get(header), "%s of content that is not there", header)
			}
			head := s.send(t, "HEAD", path, nil).wants(t, test.status)
			assert.Empty(t, head.body)
			assert.Equal(t, "registry/2.0", head.header.Get("Docker-Distribution-Api-Version"))
		})
	}
}

func TestManyErrorsStayBelow8KiB(t *testing.T) {
	t.Parallel()
	var errs registry.Errors
	for i := range 500 {
		errs = append(errs, registry.ErrManifestBlobUnknown.WithDetail(map[string]string{"digest": digest.FromString(itoa(i)).String()}))
	}
	s := serve(t, &fake{err: errs}, nil)
	got := s.send(t, "PUT", "/v2/a/manifests/t", "{}").wants(t, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	assert.Less(t, len(got.body), 8<<10)
	assert.Greater(t, len(got.codes(t)), 20, "as many errors as fit")
}

func TestAnErrorsTextIsFitForTerminals(t *testing.T) {
	t.Parallel()
	long := registry.ErrDenied.With("\x1b[31mred\x07\n%s", strings.Repeat("<", 1<<20)).WithDetail(strings.Repeat("d", 1<<20))
	s := serve(t, &fake{err: long}, nil)
	got := s.send(t, "DELETE", "/v2/a/manifests/t", nil).wants(t, http.StatusForbidden, "DENIED")
	assert.Less(t, len(got.body), 8<<10)
	var document struct{ Errors []struct{ Message string } }
	require.NoError(t, json.Unmarshal([]byte(got.body), &document))
	assert.NotContains(t, document.Errors[0].Message, "\x1b")
	assert.Contains(t, document.Errors[0].Message, "red")
}

func TestTheLogGetsWhatClientsDoNotSee(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err    error
		logged bool
	}{
		"Internal":    {errors.New("disk on fire"), true},
		"Unavailable": {errors.Join(registry.ErrUnavailable, errors.New("disk on fire")), true},
		"Busy":        {&registry.RetryError{Err: registry.ErrUnavailable}, false},
		"Unknown":     {errors.Join(registry.ErrBlobUnknown, errors.New("disk on fire")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			h := registry.NewHandler(&fake{err: test.err}, &registry.HandlerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			record(t, h, "HEAD", "/v2/a/blobs/"+digest.FromString("x").String(), nil)
			if test.logged {
				assert.Contains(t, log.String(), "disk on fire")
			} else {
				assert.Empty(t, log.String())
			}
		})
	}
}

func TestAClientThatLeftIsNotAnIncident(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var seen registry.Observation
	h := registry.NewHandler(&fake{err: context.Canceled}, &registry.HandlerOptions{
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		Observe: func(o registry.Observation) { seen = o },
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v2/a/manifests/t", nil))
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.NotEmpty(t, w.Header().Get("Retry-After"))
	assert.Empty(t, log.String())
	assert.ErrorIs(t, seen.Err, context.Canceled)
}

func TestEachRequestIsObservedOnce(t *testing.T) {
	t.Parallel()
	d := digest.FromString("blob")
	var seen []registry.Observation
	h := registry.NewHandler(&fake{blob: "blob"}, &registry.HandlerOptions{Observe: func(o registry.Observation) { seen = append(seen, o) }})
	for _, test := range []struct {
		method, path, body string
		want               registry.Observation
	}{
		{"GET", "/v2/", "", registry.Observation{Route: "base", Method: "GET", Status: 200, Written: 2}},
		{"GET", "/v2/a/b/blobs/" + d.String(), "", registry.Observation{Route: "blob", Method: "GET", Repository: "a/b", Status: 200, Written: 4}},
		{"HEAD", "/v2/a/b/blobs/" + d.String(), "", registry.Observation{Route: "blob", Method: "HEAD", Repository: "a/b", Status: 200}},
		{"PATCH", "/v2/a/blobs/uploads/id", "12345", registry.Observation{Route: "upload", Method: "PATCH", Repository: "a", Status: 202, Read: 5}},
		{"PUT", "/v2/a/manifests/t", "{}", registry.Observation{Route: "manifest", Method: "PUT", Repository: "a", Status: 201, Read: 2}},
		{"BREW", "/v2/a/tags/list", "", registry.Observation{Route: "tags", Method: "other", Repository: "a", Status: 405}},
		{"GET", "/v2/A/tags/list", "", registry.Observation{Route: "tags", Method: "GET", Status: 400}},
		{"GET", "/favicon.ico", "", registry.Observation{Route: "none", Method: "GET", Status: 404}},
	} {
		seen = nil
		var body io.Reader
		if test.body != "" {
			body = strings.NewReader(test.body)
		}
		record(t, h, test.method, test.path, body)
		require.Len(t, seen, 1, test.path)
		got := seen[0]
		assert.NotNil(t, got.Request)
		assert.Equal(t, got.Status >= 400, got.Err != nil, "%s: error %v", test.path, got.Err)
		if got.Status >= 400 {
			assert.Positive(t, got.Written)
			got.Written = 0
		}
		got.Request, got.Err, got.Duration = nil, nil, 0
		assert.Equal(t, test.want, got, "%s %s", test.method, test.path)
	}
}

func TestABlobIsRedirectedOnGetOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{blob: "blob", url: "https://objects.example.com/key?signature=1"}, nil)
	path := "/v2/a/blobs/" + digest.FromString("blob").String()
	got := s.send(t, "GET", path, nil, "Range: bytes=0-1").wants(t, http.StatusTemporaryRedirect)
	assert.Equal(t, "https://objects.example.com/key?signature=1", got.header.Get("Location"))
	assert.Zero(t, got.length)
	head := s.send(t, "HEAD", path, nil).wants(t, http.StatusOK)
	assert.EqualValues(t, 4, head.length)
	s.send(t, "GET", path, nil, `If-None-Match: "`+digest.FromString("blob").String()+`"`).wants(t, http.StatusNotModified)
}

func TestContentIsNotSentToWhoKnowsIt(t *testing.T) {
	t.Parallel()
	d := digest.FromString("blob")
	m := registry.Manifest{Descriptor: ocispec.Descriptor{MediaType: typeManifest, Digest: d}, Bytes: []byte("blob")}
	s := serve(t, &fake{blob: "blob", manifest: m}, nil)
	etag := `"` + d.String() + `"`
	for _, path := range []string{"/v2/a/blobs/" + d.String(), "/v2/a/manifests/t", "/v2/a/manifests/" + d.String()} {
		for _, method := range []string{"GET", "HEAD"} {
			for condition, status := range map[string]int{
				etag: 304, "W/" + etag: 304, `"x", ` + etag: 304, "*": 304, `"x"`: 200, d.String(): 200, `"`: 200, "": 200,
			} {
				got := s.send(t, method, path, nil, "If-None-Match: "+condition).wants(t, status)
				assert.Equal(t, etag, got.header.Get("Etag"), "%s %s", method, path)
				assert.Equal(t, d.String(), got.header.Get("Docker-Content-Digest"))
				if status == http.StatusNotModified {
					assert.Empty(t, got.body)
				}
			}
		}
	}
}

func TestManyRangesAreOneMultipartAnswer(t *testing.T) {
	t.Parallel()
	blob := strings.Repeat("0123456789", 100)
	d := digest.FromString(blob).String()
	s := serve(t, &fake{blob: blob}, &registry.HandlerOptions{MaxRanges: 4})
	got := s.send(t, "GET", "/v2/a/blobs/"+d, nil, "Range: bytes=0-9, 995-2000,-1, 500-500").wants(t, http.StatusPartialContent)
	assert.EqualValues(t, len(got.body), got.length, "Content-Length is known before")
	mediaType, params, err := mime.ParseMediaType(got.header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/byteranges", mediaType)
	parts := multipart.NewReader(strings.NewReader(got.body), params["boundary"])
	for contentRange, want := range slicesOfPairs("bytes 0-9/1000", "0123456789", "bytes 995-999/1000", "56789", "bytes 999-999/1000", "9", "bytes 500-500/1000", "0") {
		part, err := parts.NextRawPart()
		require.NoError(t, err)
		assert.Equal(t, contentRange, part.Header.Get("Content-Range"))
		assert.Equal(t, "application/octet-stream", part.Header.Get("Content-Type"))
		data, err := io.ReadAll(part)
		require.NoError(t, err)
		assert.Equal(t, want, string(data))
	}
	_, err = parts.NextRawPart()
	require.ErrorIs(t, err, io.EOF)

	whole := s.send(t, "GET", "/v2/a/blobs/"+d, nil, "Range: bytes=0-0,1-1,2-2,3-3,4-4").wants(t, http.StatusOK)
	assert.Equal(t, blob, whole.body, "more ranges than the limit are answered with the whole blob")
}

func slicesOfPairs(words ...string) func(yield func(string, string) bool) {
	return func(yield func(string, string) bool) {
		for pair := range slices.Chunk(words, 2) {
			if !yield(pair[0], pair[1]) {
				return
			}
		}
	}
}

func TestIfRangeComparesTheDigest(t *testing.T) {
	t.Parallel()
	d := digest.FromString("blob").String()
	s := serve(t, &fake{blob: "blob"}, nil)
	for condition, status := range map[string]int{`"` + d + `"`: 206, `"other"`: 200, `W/"` + d + `"`: 200, "Mon, 23 Nov 2026 10:00:00 GMT": 200} {
		s.send(t, "GET", "/v2/a/blobs/"+d, nil, "Range: bytes=1-2", "If-Range: "+condition).wants(t, status)
	}
}

func TestALargeBlobArrivesWhole(t *testing.T) {
	t.Parallel()
	blob := strings.Repeat("0123456789abcdef", 100_003) // many pieces, and a rest
	s := serve(t, &fake{blob: blob}, nil)
	got := s.send(t, "GET", "/v2/a/blobs/"+digest.FromString(blob).String(), nil).wants(t, http.StatusOK)
	assert.Equal(t, digest.FromString(blob), digest.FromString(got.body))
	part := s.send(t, "GET", "/v2/a/blobs/"+digest.FromString(blob).String(), nil, "Range: bytes=1-1000000").wants(t, http.StatusPartialContent)
	assert.Equal(t, digest.FromString(blob[1:1000001]), digest.FromString(part.body))
}

// broken is a registry whose blob ends early.
type broken struct{ fake }

func (*broken) Blob(context.Context, string, digest.Digest) (registry.Blob, error) {
	return registry.Blob{
		Descriptor: ocispec.Descriptor{Size: 100},
		Open: func(context.Context, int64, int64) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("only this")), nil
		},
	}, nil
}

func TestAnAnswerThatIsCutShortIsNoticed(t *testing.T) {
	t.Parallel()
	log := make(chan string, 1)
	s := serve(t, &broken{}, &registry.HandlerOptions{Logger: slog.New(slog.NewTextHandler(lines(log), nil))})
	_, err := s.try(t.Context(), "GET", "/v2/a/blobs/"+digest.FromString("x").String(), nil)
	require.Error(t, err, "the client took a part for the whole")
	assert.Contains(t, <-log, "9 of 100 bytes")
}

// lines sends what is written.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestAServerThatStopsWakesItsUploads(t *testing.T) {
	t.Parallel()
	base, stop := context.WithCancel(t.Context())
	reading, saved := make(chan struct{}), make(chan error, 1)
	r := &fake{upload: registry.Upload{ID: "id"}}
	r.appendBody = func(_ context.Context, body io.Reader) error {
		buffer := make([]byte, 100)
		n, err := body.Read(buffer)
		close(reading)
		for err == nil {
			n, err = body.Read(buffer)
		}
		saved <- err
		return errors.Join(errors.New("after "+itoa(n)+" bytes"), err)
	}
	s := httptest.NewUnstartedServer(registry.NewHandler(r, nil))
	s.Config.BaseContext = func(net.Listener) context.Context { return base }
	s.Start()
	defer s.Close()
	body, w := io.Pipe()
	defer w.Close()
	go func() { _, _ = w.Write([]byte("some")) }()
	go func() { <-reading; stop() }()
	got := (&server{s.URL, s.Client()}).send(t, "PATCH", "/v2/a/blobs/uploads/id", body)
	got.wants(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	assert.NotEmpty(t, got.header.Get("Retry-After"))
	require.ErrorIs(t, <-saved, registry.ErrUnavailable)
}

func TestARefusalIsSeenByWhoIsStillSending(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{err: registry.ErrDenied}, nil)
	for _, size := range []int{10, 100 << 10, 8 << 20} {
		s.send(t, "PATCH", "/v2/a/blobs/uploads/id", strings.Repeat("x", size)).wants(t, http.StatusForbidden, "DENIED")
	}
}

func TestARefusalComesBeforeABodyThatWaitsForIt(t *testing.T) {
	t.Parallel()
	s := serve(t, &fake{err: registry.ErrDenied}, nil)
	c := dial(t, s)
	c.write("PATCH /v2/a/blobs/uploads/id HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
	assert.Contains(t, c.line(), "403", "not 100 Continue")
}

func TestUploadsTellTheirSmallestGoodChunk(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]string{0: "", 5 << 20: "5242880"} {
		s := serve(t, &fake{upload: registry.Upload{ID: "id", MinChunk: size}}, nil)
		got := s.send(t, "POST", "/v2/a/blobs/uploads/", nil).wants(t, http.StatusAccepted)
		assert.Equal(t, want, got.header.Get("Oci-Chunk-Min-Length"))
	}
}

func TestABasePathIsInEveryURL(t *testing.T) {
	t.Parallel()
	r := &fake{blob: "b", names: []string{"a", "b"}, upload: registry.Upload{ID: "id"}}
	for _, base := range []string{"/my registry", "my registry/"} {
		s := serve(t, r, &registry.HandlerOptions{BasePath: base})
		s.send(t, "GET", "/v2/", nil).wants(t, http.StatusNotFound)
		s.send(t, "GET", "/my%20registry/v2/", nil).wants(t, http.StatusOK)
		s.send(t, "GET", "/my%20registry/v2", nil).wants(t, http.StatusOK)
		got := s.send(t, "POST", "/my%20registry/v2/a/blobs/uploads/", nil).wants(t, http.StatusAccepted)
		assert.Equal(t, "/my%20registry/v2/a/blobs/uploads/id", got.header.Get("Location"))
		got = s.send(t, "GET", "/my%20registry/v2/_catalog?n=1", nil).wants(t, http.StatusOK)
		assert.Equal(t, "/my%20registry/v2/_catalog?last=a&n=1", nextPage(t, got))
	}
}

func TestReferrersFillAPageThatClientsRead(t *testing.T) {
	t.Parallel()
	r := &fake{}
	for i := range 300 {
		r.referrers = append(r.referrers, ocispec.Descriptor{
			MediaType: typeManifest, Digest: digest.FromString(itoa(i)), Size: 1, ArtifactType: "text/a+b",
			Annotations: map[string]string{"note": strings.Repeat("x", 30<<10)}, // 9 MiB in all
		})
	}
	slices.SortFunc(r.referrers, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	s := serve(t, r, nil)
	var got []ocispec.Descriptor
	pages := 0
	for next := "/v2/a/referrers/" + digest.FromString("s").String() + "?artifactType=text/a+b"; next != ""; pages++ {
		page := s.send(t, "GET", next, nil).wants(t, http.StatusOK)
		assert.Less(t, len(page.body), 4<<20+1<<10)
		assert.Equal(t, indexType, page.header.Get("Content-Type"))
		assert.Equal(t, "artifactType", page.header.Get("Oci-Filters-Applied"))
		var x ocispec.Index
		require.NoError(t, json.Unmarshal([]byte(page.body), &x))
		got = append(got, x.Manifests...)
		next = nextPage(t, page)
	}
	assert.Equal(t, 3, pages)
	assert.Equal(t, r.referrers, got)
	for _, call := range r.called() {
		require.Equal(t, "Referrers a text/a+b", call, "the filter has to survive the links")
	}
}
