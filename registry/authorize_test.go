package registry_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

// untouched is a body that must not be read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body was read although the request was refused")
	return 0, io.ErrUnexpectedEOF
}

func TestAuthorizeSeesEveryPairBeforeAnythingElseHappens(t *testing.T) {
	t.Parallel()
	d := digest.FromString("x").String()
	pull := []registry.Access{{Repository: "a/b", Action: registry.ActionPull}}
	push := append(pull[:1:1], registry.Access{Repository: "a/b", Action: registry.ActionPush})
	del := []registry.Access{{Repository: "a/b", Action: registry.ActionDelete}}
	own := []registry.Access{{Repository: "a/b", Action: registry.ActionPush}}
	from := append(push[:2:2], registry.Access{Repository: "secret/c", Action: registry.ActionPull, Optional: true})
	tests := []struct {
		method, path string
		want         []registry.Access
	}{
		{"GET", "/v2/", []registry.Access{}},
		{"HEAD", "/v2", []registry.Access{}},
		{"GET", "/v2/_catalog", []registry.Access{{Action: registry.ActionList}}},
		{"GET", "/v2/a/b/tags/list", pull},
		{"GET", "/v2/a/b/manifests/t", pull},
		{"HEAD", "/v2/a/b/manifests/t", pull},
		{"PUT", "/v2/a/b/manifests/t", push},
		{"DELETE", "/v2/a/b/manifests/t", del},
		{"DELETE", "/v2/a/b/manifests/" + d, del},
		{"GET", "/v2/a/b/referrers/" + d, pull},
		{"GET", "/v2/a/b/blobs/" + d, pull},
		{"HEAD", "/v2/a/b/blobs/" + d, pull},
		{"HEAD", "/v2/%61/b/blobs/sha256%3a" + d[7:], pull},
		{"DELETE", "/v2/a/b/blobs/" + d, del},
		{"POST", "/v2/a/b/blobs/uploads/", push},
		{"POST", "/v2/a/b/blobs/uploads/?digest=" + d, push},
		{"POST", "/v2/a/b/blobs/uploads/?mount=" + d + "&from=secret/c", from},
		{"POST", "/v2/a/b/blobs/uploads/?mount=" + d + "&from=secret%2Fc", from},
		{"POST", "/v2/a/b/blobs/uploads/?mount=" + d, push},
		{"POST", "/v2/a/b/blobs/uploads/?mount=bad&from=secret/c", push},
		{"POST", "/v2/a/b/blobs/uploads/?mount=" + d + "&from=BAD", push},
		{"GET", "/v2/a/b/blobs/uploads/id", own},
		{"PATCH", "/v2/a/b/blobs/uploads/id", push},
		{"PUT", "/v2/a/b/blobs/uploads/id?digest=" + d, push},
		{"DELETE", "/v2/a/b/blobs/uploads/id", own},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			t.Parallel()
			var seen [][]registry.Access
			r := &fake{}
			h := registry.NewHandler(r, &registry.HandlerOptions{
				Authorize: func(_ *http.Request, want []registry.Access) (func(registry.Access) bool, error) {
					seen = append(seen, want)
					return nil, registry.ErrDenied
				},
			})
			reply := record(t, h, test.method, test.path, untouched{t})
			assert.Equal(t, http.StatusForbidden, reply.Code)
			assert.Equal(t, [][]registry.Access{test.want}, seen)
			assert.Empty(t, r.called(), "the registry was asked although the request was refused")
		})
	}
}

func TestAMountNeedsPullOnItsSource(t *testing.T) {
	t.Parallel()
	const blob = "secret content"
	d := digest.FromString(blob).String()
	onlyPublic := func(*http.Request, []registry.Access) (func(registry.Access) bool, error) {
		return func(a registry.Access) bool {
			return a.Optional && a.Action == registry.ActionPull && strings.HasPrefix(a.Repository, "public/")
		}, nil
	}
	tests := map[string]struct {
		holders []string
		query   string
		status  int
		calls   []string
	}{
		"Allowed":           {[]string{"public/a"}, "&from=public/a", 201, []string{"Mount public/a to/here"}},
		"NotAllowed":        {[]string{"secret/a"}, "&from=secret/a", 202, []string{"StartUpload to/here "}},
		"Absent":            {[]string{"secret/a"}, "&from=public/b", 202, []string{"Mount public/b to/here", "StartUpload to/here "}},
		"Malformed":         {[]string{"public/a"}, "&from=public//a", 202, []string{"StartUpload to/here "}},
		"Anonymous":         {[]string{"a", "public/x", "secret/a"}, "", 201, []string{"Holders  100", "Mount public/x to/here"}},
		"AnonymousEmpty":    {[]string{"public/x"}, "&from=", 201, []string{"Holders  100", "Mount public/x to/here"}},
		"AnonymousOfSecret": {[]string{"secret/a", "secret/b"}, "", 202, []string{"Holders  100", "StartUpload to/here "}},
		"AnonymousOfNobody": {nil, "", 202, []string{"Holders  100", "StartUpload to/here "}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &fake{blob: blob, holders: test.holders, upload: registry.Upload{ID: "id"}}
			s := serve(t, r, &registry.HandlerOptions{Authorize: onlyPublic})
			got := s.send(t, "POST", "/v2/to/here/blobs/uploads/?mount="+d+test.query, nil).wants(t, test.status)
			assert.Equal(t, test.calls, r.called())
			if test.status == http.StatusCreated {
				assert.Equal(t, "/v2/to/here/blobs/"+d, got.header.Get("Location"))
			} else {
				assert.Equal(t, "/v2/to/here/blobs/uploads/id", got.header.Get("Location"))
			}
		})
	}
}

func TestTheCatalogShowsWhatMayBePulled(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 30 {
		names = append(names, "public/"+string(rune('a'+i%26))+itoa(i), "secret/"+itoa(i))
	}
	r := &fake{names: sorted(names)}
	s := serve(t, r, &registry.HandlerOptions{
		PageLimit: 7,
		Authorize: func(*http.Request, []registry.Access) (func(registry.Access) bool, error) {
			return func(a registry.Access) bool { return strings.HasPrefix(a.Repository, "public/") }, nil
		},
	})
	var all []string
	for next := "/v2/_catalog?n=4"; next != ""; {
		got := s.send(t, "GET", next, nil).wants(t, http.StatusOK)
		page := list(t, got, "repositories")
		require.LessOrEqual(t, len(page), 4)
		all = append(all, page...)
		require.NotContains(t, got.header.Get("Link"), "secret", "a link that reveals a hidden repository")
		next = nextPage(t, got)
	}
	want := []string{}
	for _, name := range sorted(names) {
		if strings.HasPrefix(name, "public/") {
			want = append(want, name)
		}
	}
	assert.Equal(t, want, all)
}

func TestWithoutAllowsNothingOptionalIsRevealed(t *testing.T) {
	t.Parallel()
	r := &fake{blob: "b", names: []string{"a", "b"}, holders: []string{"a"}}
	s := serve(t, r, &registry.HandlerOptions{
		Authorize: func(*http.Request, []registry.Access) (func(registry.Access) bool, error) { return nil, nil },
	})
	assert.Empty(t, list(t, s.send(t, "GET", "/v2/_catalog", nil), "repositories"))
	mount := "/v2/c/blobs/uploads/?mount=" + digest.FromString("b").String()
	s.send(t, "POST", mount, nil).wants(t, http.StatusAccepted)
	s.send(t, "POST", mount+"&from=a", nil).wants(t, http.StatusAccepted)
}
