package upstream_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
)

// statuses are those that are not tried again at once: trying again only takes time.
var statuses = []int{
	http.StatusOK, http.StatusPartialContent, http.StatusTemporaryRedirect, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
	http.StatusMethodNotAllowed, http.StatusRequestedRangeNotSatisfiable, http.StatusTooManyRequests,
}

// FuzzAnswers lets an upstream answer with anything: lists, referrers, links, ranges, tokens and what a prefetch follows. which says to which
// requests, the others get what is right. What comes out is something that can be, and nothing is asked for that cannot.
func FuzzAnswers(f *testing.F) {
	add := func(which uint16, status byte, body, link, part, challenge, announced, mediaType, location string) {
		f.Add(which, status, []byte(body), link, part, challenge, announced, mediaType, location)
	}
	right := digest.FromString("x").String()
	for _, body := range odd {
		if len(body) < 1000 {
			add(0xffff, 0, body, "", "", "", "", "application/vnd.example.manifest.v1+json", "")
		}
	}
	add(0xffff, 0, `{"tags":["a","b!",1,null]}`, `</v2/x?last=b>; rel="next"`, "", "", "", "", "")
	add(1, 0, `{"tags":["b","a","a"],"manifests":null}`, `<https://elsewhere.example.com/v2/x?last=b>; rel="next"`, "", "", "", "", "")
	add(2, 0, `{"manifests":[{"digest":"`+right+`","size":-1},{"digest":"`+right+`","size":1,"annotations":{"a":"b"}},{"digest":"x"}]}`, "", "", "", "", "", "")
	add(0xffff, 1, "x", "", "bytes 5-9/10", "", right, "", "")
	add(0xffff, 1, "x", "", "bytes 0-0/99999999999999999999", "", "sha256:short", "", "")
	add(0xfffe, 3, `{"token":"good","expires_in":-1}`, "", "", `Bearer realm="{}/token",service="x",scope="repository:other:*"`, "", "", "")
	add(0xffff, 3, "", "", "", `Basic realm="x`, "", "", "")
	add(0xffff, 2, "", "", "", "", "", "", "/v2/library/other/manifests/v1?x")
	add(0xffff, 0, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"`+right+
		`","size":1,"platform":{"os":"linux","architecture":"amd64"}}]}`, "", "", "", "", "application/vnd.oci.image.index.v1+json", "")
	f.Fuzz(func(t *testing.T, which uint16, status byte, body []byte, link, part, challenge, announced, mediaType, location string) {
		if len(body) > 1<<16 || len(link)+len(challenge)+len(location) > 1<<12 {
			return
		}
		o := newOrigin(t)
		m := newMirror(t, o.URL, impatient, always, func(options *upstream.Options) {
			options.Proxy = func(r *http.Request) (*url.URL, error) { // nothing leaves this machine
				if "http://"+r.URL.Host != o.URL {
					return nil, fmt.Errorf("another host: %w", context.Canceled)
				}
				return nil, nil
			}
		})
		i := o.push(t, "v1", content("layer", 10_000))
		code, n := statuses[int(status)%len(statuses)], 0
		o.answers(func(w http.ResponseWriter, r *http.Request) bool {
			o.mu.Lock()
			n++
			wrong := which>>(n%16)&1 == 1
			o.mu.Unlock()
			if code != http.StatusTemporaryRedirect && code != http.StatusUnauthorized && !canBeAsked(r.URL.Path) {
				t.Errorf("%q is asked for", r.URL.Path)
			}
			if !wrong {
				return false
			}
			for name, value := range map[string]string{
				"Link": link, "Content-Range": part, "Www-Authenticate": strings.ReplaceAll(challenge, "{}", o.URL),
				"Docker-Content-Digest": announced, "Content-Type": mediaType,
			} {
				if value = strings.Map(printable, value); value != "" {
					w.Header().Set(name, value)
				}
			}
			if code == http.StatusTemporaryRedirect {
				w.Header().Set("Location", "/"+strings.TrimLeft(strings.Map(printable, location), `/\`))
			}
			if r.URL.Path != "/token" {
				w.WriteHeader(code)
			}
			_, _ = w.Write(body)
			return true
		})
		for range 2 {
			checkLists(t, m, i)
			checkContent(t, m, i)
		}
	})
}

// printable leaves control characters out: an answer that has them in a header is none at all, and tried again.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

// canBeAsked reports whether a path is one of the API, of the repository that is asked for.
func canBeAsked(path string) bool {
	rest, ok := strings.CutPrefix(path, "/v2/"+repository+"/")
	kind, what, _ := strings.Cut(rest, "/")
	_, invalid := cas.ParseDigest(what)
	switch kind {
	case "tags":
		return ok && what == "list"
	case "manifests":
		return ok && (invalid == nil || registry.ValidTag(what))
	case "blobs", "referrers":
		return ok && invalid == nil
	}
	return false
}

func checkLists(t *testing.T, m *mirror, i image) {
	t.Helper()
	tags, err := m.Tags(t.Context(), repository, "", 1000)
	if err == nil && (!slices.IsSorted(tags) || slices.ContainsFunc(tags, func(tag string) bool { return !registry.ValidTag(tag) })) {
		t.Errorf("tags %q", tags)
	}
	found, err := m.Referrers(t.Context(), repository, i.digest, registry.ReferrersPage{Limit: 1000})
	for _, entry := range found {
		if _, invalid := cas.ParseDigest(entry.Digest.String()); invalid != nil || entry.Size < 0 || err != nil {
			t.Errorf("referrer %+v, %v", entry, err)
		}
	}
}

func checkContent(t *testing.T, m *mirror, i image) {
	t.Helper()
	for _, platforms := range [][]string{nil, {"linux/amd64"}} {
		_ = m.Prefetch(t.Context(), repository, registry.Reference{Tag: "v1"}, &upstream.PrefetchOptions{Platforms: platforms})
	}
	if got, err := m.tag(t, "v1"); err == nil && got.Digest.Algorithm().FromBytes(got.Bytes) != got.Digest {
		t.Error("a manifest was served that is not what it is called")
	}
	if found, err := m.StatBlob(t.Context(), repository, i.layerDigest()); err == nil && found.Size < 0 {
		t.Errorf("a blob of %d bytes", found.Size)
	}
	blob, err := m.Blob(t.Context(), repository, i.layerDigest())
	if err != nil {
		return
	}
	for _, part := range [][2]int64{{0, -1}, {0, 100}, {blob.Size / 2, 10}} {
		body, err := blob.Open(t.Context(), part[0], part[1])
		if err != nil {
			continue
		}
		data, err := io.ReadAll(body)
		_ = body.Close()
		switch {
		case err != nil:
		case part[1] < 0 && digest.FromBytes(data) != i.layerDigest():
			t.Error("a wrong blob was served")
		case part[1] >= 0 && int64(len(data)) > part[1]:
			t.Errorf("%d bytes for %d", len(data), part[1])
		}
	}
}
