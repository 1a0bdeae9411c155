package cost_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
)

var update = flag.Bool("update", false, "write the table of README.md anew")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(backendtest.Run(m))
}

const (
	repository = "/v2/team/app"
	uploads    = repository + "/blobs/uploads/"
	blobs      = repository + "/blobs/"
	manifests  = repository + "/manifests/"
	mediaType  = "application/vnd.oci.image.manifest.v1+json"
	small      = 2 << 10 // bytes; a configuration: below the inline limit
	layer      = 1 << 20 // fits a part
	large      = 40 << 20
)

// operation is a row of the table: prepare does what comes before, and returns what is counted.
type operation struct {
	name    string
	prepare func(t *testing.T, s *site) (counted func())
}

// request is an operation of one request that nothing comes before.
func request(name, method, path string, want int, header ...string) operation {
	return operation{name, func(t *testing.T, s *site) func() {
		return func() { s.ask(t, method, path, nil, want, header...) }
	}}
}

// append is a PATCH of an upload that has had PATCHes of the given sizes.
func appends(name string, size int, before ...int) operation {
	return operation{name, func(t *testing.T, s *site) func() {
		location := s.upload(t, before...)
		data := fresh(size)
		return func() { s.ask(t, "PATCH", location, data, 202) }
	}}
}

// finishes is the closing PUT with the last bytes of an upload that has had PATCHes of the given sizes.
func finishes(name string, last int, before ...int) operation {
	return operation{name, func(t *testing.T, s *site) func() {
		location := s.ask(t, "POST", uploads, nil, 202)
		var all content
		for _, size := range before {
			data := fresh(size)
			all = append(all, data...)
			location = s.ask(t, "PATCH", location, data, 202)
		}
		data := fresh(last)
		all = append(all, data...)
		separator := "?"
		if strings.Contains(location, "?") {
			separator = "&"
		}
		return func() { s.ask(t, "PUT", location+separator+"digest="+all.digest(), data, 201) }
	}}
}

// upload begins one and appends chunks of the given sizes.
func (s *site) upload(t *testing.T, sizes ...int) (location string) {
	t.Helper()
	location = s.ask(t, "POST", uploads, nil, 202)
	for _, size := range sizes {
		location = s.ask(t, "PATCH", location, fresh(size), 202)
	}
	return location
}

// blob pushes content of a size, and returns its digest.
func (s *site) blob(t *testing.T, size int) string {
	t.Helper()
	data := fresh(size)
	s.ask(t, "POST", uploads+"?digest="+data.digest(), data, 201)
	return data.digest()
}

// manifest pushes a configuration and a layer, and returns a manifest of them.
func (s *site) manifest(t *testing.T, subject string) content {
	t.Helper()
	if subject != "" {
		subject = fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":2}`, mediaType, subject)
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},
		"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]%s}`,
		mediaType, s.blob(t, small), small, s.blob(t, layer), layer, subject)
}

// image pushes a manifest with a tag, and returns its digest.
func (s *site) image(t *testing.T, tag string) string {
	t.Helper()
	m := s.manifest(t, "")
	s.ask(t, "PUT", manifests+tag, m, 201, "Content-Type", mediaType)
	return m.digest()
}

// onBlob is a request for a blob of a size.
func onBlob(name, method string, size, want int, header ...string) operation {
	return operation{name, func(t *testing.T, s *site) func() {
		path := blobs + s.blob(t, size)
		return func() { s.ask(t, method, path, nil, want, header...) }
	}}
}

// onImage is a request for an image, by its tag or its digest.
func onImage(name, method string, byTag bool, want int) operation {
	return operation{name, func(t *testing.T, s *site) func() {
		tag := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "_"))[:8] + digest.FromString(name).Encoded()[:8]
		reference := s.image(t, tag)
		if byTag {
			reference = tag
		}
		return func() { s.ask(t, method, manifests+reference, nil, want, "Accept", mediaType) }
	}}
}

var operations = []operation{
	request("ping", "GET", "/v2/", 200),
	request("begin an upload", "POST", uploads, 202),
	appends("PATCH of 2 KiB", small),
	appends("PATCH of 64 KiB, beyond the inline limit", 64<<10, 2<<10),
	appends("PATCH of 1 MiB", layer),
	appends("PATCH of 40 MiB", large),
	appends("PATCH of 1 MiB after one of 1 MiB", layer, layer),
	{"where an upload stands", func(t *testing.T, s *site) func() {
		location := s.upload(t, layer)
		return func() { s.ask(t, "GET", location, nil, 204) }
	}},
	finishes("closing PUT, empty, after 2 KiB", 0, small),
	finishes("closing PUT, empty, after 1 MiB", 0, layer),
	finishes("closing PUT, empty, after 40 MiB", 0, large),
	finishes("closing PUT, empty, after 40 MiB and 1 MiB", 0, large, layer),
	finishes("closing PUT with 2 KiB", small),
	finishes("closing PUT with 1 MiB", layer),
	finishes("closing PUT with 40 MiB", large),
	{"cancel of an upload of 40 MiB", func(t *testing.T, s *site) func() {
		location := s.upload(t, large)
		return func() { s.ask(t, "DELETE", location, nil, 204) }
	}},
	{"POST with 2 KiB", func(t *testing.T, s *site) func() {
		data := fresh(small)
		return func() { s.ask(t, "POST", uploads+"?digest="+data.digest(), data, 201) }
	}},
	{"POST with 1 MiB", func(t *testing.T, s *site) func() {
		data := fresh(layer)
		return func() { s.ask(t, "POST", uploads+"?digest="+data.digest(), data, 201) }
	}},
	{"mount", func(t *testing.T, s *site) func() {
		path := "/v2/team/other/blobs/uploads/?from=team/app&mount=" + s.blob(t, layer)
		return func() { s.ask(t, "POST", path, nil, 201) }
	}},
	{"mount without its source", func(t *testing.T, s *site) func() {
		path := "/v2/team/another/blobs/uploads/?mount=" + s.blob(t, layer)
		return func() { s.ask(t, "POST", path, nil, 201) }
	}},
	onBlob("blob HEAD", "HEAD", layer, 200),
	request("blob HEAD, not there", "HEAD", blobs+content("").digest(), 404),
	onBlob("blob GET of 2 KiB", "GET", small, 200),
	onBlob("blob GET of 1 MiB", "GET", layer, 200),
	onBlob("blob GET of a range", "GET", layer, 206, "Range", "bytes=1000-1999"),
	onBlob("blob DELETE", "DELETE", layer, 202),
	{"manifest PUT by tag", func(t *testing.T, s *site) func() {
		m := s.manifest(t, "")
		return func() { s.ask(t, "PUT", manifests+"put", m, 201, "Content-Type", mediaType) }
	}},
	{"manifest PUT of a referrer, by digest", func(t *testing.T, s *site) func() {
		m := s.manifest(t, s.image(t, "subject"))
		return func() { s.ask(t, "PUT", manifests+m.digest(), m, 201, "Content-Type", mediaType) }
	}},
	onImage("manifest HEAD by tag", "HEAD", true, 200),
	onImage("manifest GET by tag", "GET", true, 200),
	onImage("manifest GET by digest", "GET", false, 200),
	onImage("tag DELETE", "DELETE", true, 202),
	onImage("manifest DELETE", "DELETE", false, 202),
	request("a page of tags", "GET", repository+"/tags/list?n=3", 200),
	request("a page of repositories", "GET", "/v2/_catalog?n=3", 200),
	request("referrers", "GET", repository+"/referrers/"+content("").digest(), 200),
}

// TestOperationsCostWhatTheTableSays counts on real servers. Each operation is done three times, on content of its own, and the last one
// is counted, whose statements are known to the database.
func TestOperationsCostWhatTheTableSays(t *testing.T) {
	t.Parallel()
	backendtest.MinIO(t) // or leave the test out before anything is started
	s := newSite(t, false)
	var table strings.Builder
	table.WriteString("| operation | requests to S3 | round trips to PostgreSQL |\n|---|---|---:|\n")
	for _, o := range operations {
		requests, trips := s.count(t, o)
		fmt.Fprintf(&table, "| %s | %s | %s |\n", o.name, requests, trips)
	}
	redirecting := newSite(t, true)
	requests, trips := redirecting.count(t, onBlob("", "GET", layer, 307))
	fmt.Fprintf(&table, "| blob GET of 1 MiB, redirected | %s | %s |\n", requests, trips)
	t.Logf("\n%s", &table)
	compare(t, table.String())
}

func (s *site) count(t *testing.T, o operation) (requests, trips string) {
	t.Helper()
	for range 3 {
		counted := o.prepare(t, s)
		s.reset()
		counted()
	}
	return s.tell()
}

// compare holds the table against README.md, or writes it there.
func compare(t *testing.T, table string) {
	t.Helper()
	page, err := os.ReadFile("README.md")
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(page), "| operation |")
	require.True(t, found, "README.md must have the table")
	end := strings.Index(rest, "\n\n")
	require.Positive(t, end, "README.md's table must be followed by an empty line")
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(before+table+rest[end+1:]), 0o600))
		return
	}
	assert.Equal(t, "| operation |"+rest[:end+1], table, "what operations cost has changed: if it has to, -update writes README.md")
}
