package registry

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
)

// route is a kind of URL of the API.
type route uint8

const (
	routeNone      route = iota
	routeBase            // /v2/
	routeCatalog         // /v2/_catalog
	routeTags            // /v2/<name>/tags/list
	routeManifest        // /v2/<name>/manifests/<reference>
	routeReferrers       // /v2/<name>/referrers/<digest>
	routeUploads         // /v2/<name>/blobs/uploads/
	routeUpload          // /v2/<name>/blobs/uploads/<id>
	routeBlob            // /v2/<name>/blobs/<digest>
	routeCount
)

// target is what a request's path names. Its fields are well-formed: who is authorised for a target is authorised for exactly
// the names that the registry is then given.
type target struct {
	route      route
	repository string
	tag        string        // of a manifest
	digest     digest.Digest // of a manifest without a tag, a blob, a subject
	upload     string        // of an upload
}

// parseTarget parses a path that was decoded once, and begins with /v2. A name may contain the words that the API's own paths
// are made of, so what a path means is read from its right end; what is left is the name. The route is returned with errors, too.
func parseTarget(method, path string) (target, error) {
	rest, ok := strings.CutPrefix(path, "/v2")
	switch {
	case !ok:
		return target{}, errNotFound
	case rest == "" || rest == "/":
		return target{route: routeBase}, nil
	case rest == "/_catalog":
		return target{route: routeCatalog}, nil
	case rest[0] != '/' || !clean(rest):
		return target{}, errNotFound
	}
	rest, last := cutLast(rest)
	rest, kind := cutLast(rest)
	t, err := target{}, error(nil)
	switch {
	case kind == "tags" && last == "list":
		t.route = routeTags
	case kind == "manifests" && last != "":
		t.route = routeManifest
		t.tag, t.digest, err = parseReference(method, last)
	case kind == "referrers" && last != "":
		t.route = routeReferrers
		t.digest, err = parseDigest(last)
	case kind == "blobs" && last == "uploads":
		t.route = routeUploads
	case kind == "blobs" && last != "":
		t.route = routeBlob
		t.digest, err = parseDigest(last)
	case kind == "uploads" && strings.HasSuffix(rest, "/blobs"):
		rest = strings.TrimSuffix(rest, "/blobs")
		t.route = routeUploads
		if last != "" {
			t.route = routeUpload
			t.upload, err = parseUpload(last)
		}
	default:
		return target{}, errNotFound
	}
	if rest == "" {
		return target{}, errNotFound
	}
	if t.repository = rest[1:]; !ValidRepository(t.repository) {
		return target{route: t.route}, ErrNameInvalid
	}
	if err != nil {
		return target{route: t.route}, err
	}
	return t, nil
}

// path returns the path that parseTarget parses as t. Nothing in it needs escaping in a URL.
func (t target) path() string {
	switch t.route {
	case routeBase:
		return "/v2/"
	case routeCatalog:
		return "/v2/_catalog"
	case routeTags:
		return "/v2/" + t.repository + "/tags/list"
	case routeManifest:
		return "/v2/" + t.repository + "/manifests/" + t.reference().String()
	case routeReferrers:
		return "/v2/" + t.repository + "/referrers/" + t.digest.String()
	case routeUploads:
		return "/v2/" + t.repository + "/blobs/uploads/"
	case routeUpload:
		return "/v2/" + t.repository + "/blobs/uploads/" + t.upload
	case routeBlob:
		return "/v2/" + t.repository + "/blobs/" + t.digest.String()
	}
	return ""
}

func (t target) reference() Reference { return Reference{Tag: t.tag, Digest: t.digest} }

// decodedPath returns the path of u, decoded once. It is not ok if an escape hides a slash: in "a%2Fb" nobody can tell
// whether a proxy in front took it for one segment or two when it decided what to let through.
func decodedPath(u *url.URL) (path string, ok bool) {
	if u.RawPath == "" {
		return u.Path, true // which was written in the one way that escapes no slash
	}
	return u.Path, !strings.Contains(strings.ToUpper(u.EscapedPath()), "%2F")
}

// clean reports whether a path that begins with a slash has neither empty nor dot segments. It may end with a slash.
func clean(path string) bool {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return true // nearly always
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if s == "." || s == ".." || s == "" && i < len(segments)-1 {
			return false
		}
	}
	return true
}

// cutLast cuts s around its last slash, which stays at neither side. Without one, it is all before.
func cutLast(s string) (before, last string) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i+1:]
}

// parseReference parses what follows /manifests/. With a colon in it, it can only be a digest. A tag that cannot exist is
// unknown to who reads, since clients also ask for tags that they made of a digest, and invalid to who writes.
func parseReference(method, s string) (tag string, d digest.Digest, err error) {
	if strings.IndexByte(s, ':') >= 0 {
		d, err = parseDigest(s)
		return "", d, err
	}
	if ValidTag(s) {
		return s, "", nil
	}
	if method == http.MethodPut {
		return "", "", ErrTagInvalid
	}
	return "", "", ErrManifestUnknown
}

func parseDigest(s string) (digest.Digest, error) {
	d, err := cas.ParseDigest(s)
	if err != nil {
		return "", ErrDigestInvalid.With("%s", err)
	}
	return d, nil
}

// maxUploadID is the longest id of an upload in bytes.
const maxUploadID = 255

// parseUpload parses the id of an upload. What no registry can have made is not worth asking for.
func parseUpload(s string) (string, error) {
	if len(s) > maxUploadID {
		return "", ErrBlobUploadUnknown
	}
	for i := range len(s) {
		c := s[i]
		if !alphanumeric(c) && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' && c != '=' {
			return "", ErrBlobUploadUnknown
		}
	}
	return s, nil
}
