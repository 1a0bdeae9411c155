package registry

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	someSHA256 = digest.FromString("some")
	someSHA512 = digest.SHA512.FromString("some")
)

func TestPathsAreParsedAndWrittenBack(t *testing.T) {
	t.Parallel()
	d := someSHA256.String()
	tests := map[string]target{
		"/v2/":                              {route: routeBase},
		"/v2/_catalog":                      {route: routeCatalog},
		"/v2/a/tags/list":                   {route: routeTags, repository: "a"},
		"/v2/a/b/c/tags/list":               {route: routeTags, repository: "a/b/c"},
		"/v2/a/manifests/v1.0_x-Y":          {route: routeManifest, repository: "a", tag: "v1.0_x-Y"},
		"/v2/a/manifests/" + d:              {route: routeManifest, repository: "a", digest: someSHA256},
		"/v2/a/referrers/" + d:              {route: routeReferrers, repository: "a", digest: someSHA256},
		"/v2/a/blobs/" + d:                  {route: routeBlob, repository: "a", digest: someSHA256},
		"/v2/a/blobs/" + string(someSHA512): {route: routeBlob, repository: "a", digest: someSHA512},
		"/v2/a/blobs/uploads/":              {route: routeUploads, repository: "a"},
		"/v2/a/blobs/uploads/Id-_.=0":       {route: routeUpload, repository: "a", upload: "Id-_.=0"},

		// Names may contain what paths are made of.
		"/v2/a/manifests/b/manifests/t":      {route: routeManifest, repository: "a/manifests/b", tag: "t"},
		"/v2/r/blobs/uploads/tags/list":      {route: routeTags, repository: "r/blobs/uploads"},
		"/v2/r/blobs/uploads/manifests/t":    {route: routeManifest, repository: "r/blobs/uploads", tag: "t"},
		"/v2/r/blobs/uploads/blobs/" + d:     {route: routeBlob, repository: "r/blobs/uploads", digest: someSHA256},
		"/v2/r/blobs/uploads/blobs/uploads/": {route: routeUploads, repository: "r/blobs/uploads"},
		"/v2/r/blobs/blobs/uploads/id":       {route: routeUpload, repository: "r/blobs", upload: "id"},
		"/v2/tags/list/tags/list":            {route: routeTags, repository: "tags/list"},
		"/v2/tags/tags/list":                 {route: routeTags, repository: "tags"},
		"/v2/tags/manifests/list":            {route: routeManifest, repository: "tags", tag: "list"},
		"/v2/manifests/manifests/manifests":  {route: routeManifest, repository: "manifests", tag: "manifests"},
		"/v2/uploads/blobs/uploads/uploads":  {route: routeUpload, repository: "uploads", upload: "uploads"},
		"/v2/v2/manifests/v2":                {route: routeManifest, repository: "v2", tag: "v2"},
	}
	for path, want := range tests {
		got, err := parseTarget(http.MethodGet, path)
		require.NoError(t, err, path)
		assert.Equal(t, want, got, path)
		assert.Equal(t, path, got.path())
	}
}

func TestPathsHaveOtherSpellings(t *testing.T) {
	t.Parallel()
	for spelling, canonical := range map[string]string{
		"/v2":                   "/v2/",
		"/v2/a/blobs/uploads":   "/v2/a/blobs/uploads/",
		"/v2/%61/manifests/%74": "/v2/a/manifests/t",
		"/v2/a/blobs/sha256%3A" + someSHA256.Encoded(): "/v2/a/blobs/" + someSHA256.String(),
		"/v2/a/blobs/sha256%3a" + someSHA256.Encoded(): "/v2/a/blobs/" + someSHA256.String(),
	} {
		got, err := parseURL(t, http.MethodGet, spelling)
		require.NoError(t, err, spelling)
		assert.Equal(t, canonical, got.path(), spelling)
	}
}

func TestPathsThatNameNothing(t *testing.T) {
	t.Parallel()
	d := someSHA256.String()
	tests := map[string]*Error{
		"/":                        errNotFound,
		"/v1/":                     errNotFound,
		"/v2x":                     errNotFound,
		"/v2/x":                    errNotFound,
		"/v2//":                    errNotFound,
		"/v2/_catalog/":            errNotFound,
		"/v2/tags/list":            errNotFound,
		"/v2/manifests/t":          errNotFound,
		"/v2/blobs/uploads/":       errNotFound,
		"/v2/a/tags/":              errNotFound,
		"/v2/a/tags/list/":         errNotFound,
		"/v2/a/tags/list2":         errNotFound,
		"/v2/a/manifests/":         errNotFound,
		"/v2/a/manifests/t/":       errNotFound,
		"/v2/a/blobs/":             errNotFound,
		"/v2/a/referrers/":         errNotFound,
		"/v2/a/uploads/id":         errNotFound,
		"/v2/a/blobs/uploads//":    errNotFound,
		"/v2/a/blobs/uploads/id/":  errNotFound,
		"/v2//a/tags/list":         errNotFound,
		"/v2/a//b/tags/list":       errNotFound,
		"/v2/a/./b/tags/list":      errNotFound,
		"/v2/a/../b/tags/list":     errNotFound,
		"/v2/a/%2e%2e/b/tags/list": errNotFound,
		"/v2/../v2/a/tags/list":    errNotFound,
		"/v2/a/manifests/..":       errNotFound,
		"/v2/a/manifests/.":        errNotFound,
		"/v2/a%2Fb/tags/list":      errNotFound,
		"/v2/a%2fb/manifests/t":    errNotFound,
		"/v2/a/blobs%2Fuploads/":   errNotFound,

		"/v2/A/tags/list":                                ErrNameInvalid,
		"/v2/a./tags/list":                               ErrNameInvalid,
		"/v2/.a/tags/list":                               ErrNameInvalid,
		"/v2/a___b/tags/list":                            ErrNameInvalid,
		"/v2/a%00/tags/list":                             ErrNameInvalid,
		"/v2/a%252Fb/tags/list":                          ErrNameInvalid,
		"/v2/a:b/tags/list":                              ErrNameInvalid,
		"/v2/a%20b/tags/list":                            ErrNameInvalid,
		"/v2/A/blobs/sha256:0":                           ErrNameInvalid,
		"/v2/" + strings.Repeat("a", 256) + "/tags/list": ErrNameInvalid,

		"/v2/a/blobs/x": ErrDigestInvalid,
		"/v2/a/blobs/sha256:" + strings.ToUpper(someSHA256.Encoded()): ErrDigestInvalid,
		"/v2/a/blobs/" + d + "0":                          ErrDigestInvalid,
		"/v2/a/manifests/" + d[:70]:                       ErrDigestInvalid,
		"/v2/a/manifests/a:b":                             ErrDigestInvalid,
		"/v2/a/referrers/t":                               ErrDigestInvalid,
		"/v2/a/manifests/.t":                              ErrManifestUnknown,
		"/v2/a/manifests/" + strings.Repeat("t", 129):     ErrManifestUnknown,
		"/v2/a/blobs/uploads/a b":                         ErrBlobUploadUnknown,
		"/v2/a/blobs/uploads/" + strings.Repeat("0", 256): ErrBlobUploadUnknown,
	}
	for path, want := range tests {
		got, err := parseURL(t, http.MethodGet, strings.ReplaceAll(path, " ", "%20"))
		require.ErrorIs(t, err, want, path)
		assert.Empty(t, got.repository, "%s: a name was left in the target of an error", path)
	}
}

func TestATagThatCannotExistIsInvalidOnlyToWhoWritesIt(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]*Error{
		http.MethodPut: ErrTagInvalid, http.MethodGet: ErrManifestUnknown, http.MethodHead: ErrManifestUnknown, http.MethodDelete: ErrManifestUnknown,
	} {
		_, err := parseTarget(method, "/v2/a/manifests/-t")
		require.ErrorIs(t, err, want, method)
	}
}

// parseURL does what the handler does with the URL of a request line.
func parseURL(t *testing.T, method, requestURI string) (target, error) {
	t.Helper()
	u, err := url.ParseRequestURI(requestURI)
	require.NoError(t, err, requestURI)
	path, ok := decodedPath(u)
	if !ok {
		return target{}, errNotFound
	}
	return parseTarget(method, path)
}

// FuzzParse holds three things: what is parsed is written back to what parses as the same; its parts are what the reference
// implementation's grammar allows; and a path that the grammar allows is parsed.
func FuzzParse(f *testing.F) {
	for _, path := range []string{
		"/v2/", "/v2", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/manifests/b/manifests/t", "/v2/r/blobs/uploads/tags/list",
		"/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/id", "/v2/a%2Fb/tags/list", "/v2/a/../b/tags/list", "/v2/a//b/tags/list",
		"/v2/a/blobs/sha256%3A" + someSHA256.Encoded(), "/v2/a__b/c--d.e/referrers/" + someSHA512.String(),
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, requestURI string) {
		u, err := url.ParseRequestURI(requestURI)
		if err != nil {
			return
		}
		path, ok := decodedPath(u)
		if !ok {
			return
		}
		got, err := parseTarget(http.MethodPut, path)
		if err != nil {
			refusedByGrammar(t, path)
			return
		}
		again, err := parseURL(t, http.MethodPut, got.path())
		require.NoError(t, err, "%q was parsed as %+v, and written back as %q", path, got, got.path())
		require.Equal(t, got, again)
		if got.repository != "" {
			require.Equal(t, got.repository, nameGrammar(got.repository), "not a name of distribution/reference")
		}
		if got.tag != "" {
			require.Equal(t, got.tag, reference.TagRegexp.FindString(got.tag), "not a tag of distribution/reference")
		}
		if got.digest != "" {
			require.NoError(t, got.digest.Validate())
		}
	})
}

// nameGrammar returns the longest beginning of s that is a path in the grammar of distribution/reference, whose regular
// expression for names would also take a host.
func nameGrammar(s string) string {
	const local = "localhost/" // so that what follows cannot be taken for a host
	return strings.TrimPrefix(reference.NameRegexp.FindString(local+s), local)
}

// refusedByGrammar fails if path is a tag's list of a valid name.
func refusedByGrammar(t *testing.T, path string) {
	t.Helper()
	name, isTags := strings.CutSuffix(path, "/tags/list")
	name, isV2 := strings.CutPrefix(name, "/v2/")
	if isTags && isV2 && name != "" && len(name) <= maxRepository {
		require.NotEqual(t, name, nameGrammar(name), "a name of distribution/reference was refused")
	}
}
