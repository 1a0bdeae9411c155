package registry_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

// callAll calls every method of Registry with a context, one for each number, and zero values, and returns their errors.
func callAll(t *testing.T, r registry.Registry) map[string]error {
	t.Helper()
	errs := map[string]error{}
	methods := reflect.TypeFor[registry.Registry]()
	for i := range methods.NumMethod() {
		method := methods.Method(i)
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for j := 1; j < method.Type.NumIn(); j++ {
			arg := reflect.New(method.Type.In(j)).Elem()
			if arg.Kind() == reflect.Int {
				arg.SetInt(1)
			}
			args = append(args, arg)
		}
		results := reflect.ValueOf(r).MethodByName(method.Name).Call(args)
		err, _ := results[len(results)-1].Interface().(error)
		errs[method.Name] = err
	}
	return errs
}

// methodsOf returns the names of an interface's methods.
func methodsOf[I any]() []string {
	var names []string
	for i := range reflect.TypeFor[I]().NumMethod() {
		names = append(names, reflect.TypeFor[I]().Method(i).Name)
	}
	return names
}

func TestUnsupportedRefusesEveryMethod(t *testing.T) {
	t.Parallel()
	for method, err := range callAll(t, registry.Unsupported{}) {
		assert.ErrorIs(t, err, registry.ErrUnsupported, method)
	}
}

func TestReadOnlyReadsAndListsAndDoesNothingElse(t *testing.T) {
	t.Parallel()
	inner := &fake{}
	errs := callAll(t, registry.ReadOnly(inner))
	for _, method := range append(methodsOf[registry.Reader](), methodsOf[registry.Lister]()...) {
		assert.NoError(t, errs[method], method)
		delete(errs, method)
	}
	assert.ElementsMatch(t, append(methodsOf[registry.Writer](), methodsOf[registry.Deleter]()...), keys(errs))
	for method, err := range errs {
		assert.ErrorIs(t, err, registry.ErrUnsupported, method)
	}
	for _, call := range inner.called() {
		method, _, _ := strings.Cut(call, " ")
		assert.NotContains(t, errs, method, "was passed on")
	}
}

func keys[V any](m map[string]V) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

func TestAReadOnlyRegistryAnswers405ToWrites(t *testing.T) {
	t.Parallel()
	s := serve(t, registry.ReadOnly(&fake{blob: "b", holders: []string{"a"}}), nil)
	d := digest.FromString("b").String()
	s.send(t, "HEAD", "/v2/a/blobs/"+d, nil).wants(t, http.StatusOK)
	for _, path := range []string{"", "?mount=" + d + "&from=a", "?mount=" + d} {
		s.send(t, "POST", "/v2/a/blobs/uploads/"+path, nil).wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	}
	s.send(t, "PUT", "/v2/a/manifests/t", "{}").wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	s.send(t, "DELETE", "/v2/a/manifests/t", nil).wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
}

func TestRouteGivesNamesToTheLongestPrefix(t *testing.T) {
	t.Parallel()
	children := map[string]*fake{"": {}, "hub": {}, "hub/library": {}, "a/b/c": {}}
	for name, prefix := range map[string]string{
		"hub": "hub", "hub/x": "hub", "hubble": "", "hub-x/y": "", "hub/library": "hub/library", "hub/library/alpine": "hub/library",
		"hub/libraries": "hub", "a": "", "a/b": "", "a/b/c": "a/b/c", "a/b/c/d/e": "a/b/c", "x/hub": "",
	} {
		r := route(t, children)
		require.NoError(t, r.DeleteTag(t.Context(), name, "t"))
		for p, child := range children {
			want := []string(nil)
			if p == prefix {
				want = []string{"DeleteTag " + name + " t"}
			}
			assert.Equal(t, want, child.called(), "child %q, asked for %s", p, name)
			child.calls = nil
		}
	}
}

func route(t *testing.T, fakes map[string]*fake) *registry.Route {
	t.Helper()
	var children []registry.Child
	for prefix, f := range fakes {
		children = append(children, registry.Child{Prefix: prefix, Registry: f})
	}
	r, err := registry.NewRoute(children...)
	require.NoError(t, err)
	return r
}

func TestRoutePassesEveryMethodOn(t *testing.T) {
	t.Parallel()
	for method, err := range callAll(t, route(t, map[string]*fake{"": {err: registry.ErrDenied}})) {
		assert.ErrorIs(t, err, registry.ErrDenied, method)
	}
}

func TestRouteRefusesPrefixesThatCannotBe(t *testing.T) {
	t.Parallel()
	ok := &fake{}
	for name, children := range map[string][]registry.Child{
		"Twice":         {{Prefix: "a", Registry: ok}, {Prefix: "a", Registry: ok}},
		"FallbackTwice": {{Registry: ok}, {Registry: ok}},
		"UpperCase":     {{Prefix: "A", Registry: ok}},
		"Slash":         {{Prefix: "a/", Registry: ok}},
		"LeadingSlash":  {{Prefix: "/a", Registry: ok}},
		"Nil":           {{Prefix: "a"}},
	} {
		_, err := registry.NewRoute(children...)
		assert.Error(t, err, name)
	}
}

func TestRouteMountsWithinAChildOnly(t *testing.T) {
	t.Parallel()
	d := digest.FromString("b")
	local := &fake{blob: "b", holders: []string{"x", "y"}, upload: registry.Upload{ID: "id"}}
	hub := &fake{blob: "b", holders: []string{"hub/x"}, upload: registry.Upload{ID: "id"}}
	r := route(t, map[string]*fake{"": local, "hub": hub})
	_, err := r.Mount(t.Context(), d, "hub/x", "y")
	require.ErrorIs(t, err, registry.ErrBlobUnknown)
	_, err = r.Mount(t.Context(), d, "x", "y")
	require.NoError(t, err)

	s := serve(t, r, nil)
	s.send(t, "POST", "/v2/z/blobs/uploads/?mount="+d.String()+"&from=hub/x", nil).wants(t, http.StatusAccepted)
	s.send(t, "POST", "/v2/z/blobs/uploads/?mount="+d.String(), nil).wants(t, http.StatusCreated) // from x, hub/x being elsewhere
}

func TestRouteMergesTheChildrensNames(t *testing.T) {
	t.Parallel()
	fallback := &fake{names: sorted([]string{"a", "hub/hidden", "huba", "hubble", "z/a", "z/b", "hub-x", "hub.x", "x"})}
	hub := &fake{names: sorted([]string{"a", "hub", "hub/a", "hub/b/c", "hub/library", "hub/library/hidden", "hub/library/zz", "hub/zz", "z"})}
	library := &fake{names: sorted([]string{"hub/library/alpine", "hub/library/zsh", "other"})}
	silent := &fake{err: registry.ErrUnsupported, names: []string{"silent/a"}}
	r := route(t, map[string]*fake{"": fallback, "hub": hub, "hub/library": library, "silent": silent})
	want := sorted([]string{"a", "huba", "hubble", "z/a", "z/b", "hub-x", "hub.x", "x", "hub", "hub/a", "hub/b/c", "hub/library/alpine", "hub/library/zsh", "hub/zz"})
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []string
		for after := ""; ; {
			page, err := r.Repositories(t.Context(), after, limit)
			require.NoError(t, err)
			got = append(got, page...)
			if len(page) < limit {
				break
			}
			after = page[len(page)-1]
		}
		require.Equal(t, want, got, "in pages of %d", limit)
	}
}

func TestRouteWithoutAFallbackHasNoOtherNames(t *testing.T) {
	t.Parallel()
	s := serve(t, route(t, map[string]*fake{"hub": {}}), nil)
	d := digest.FromString("x").String()
	s.send(t, "GET", "/v2/a/blobs/"+d, nil).wants(t, http.StatusNotFound, "BLOB_UNKNOWN")
	s.send(t, "HEAD", "/v2/a/blobs/"+d, nil).wants(t, http.StatusNotFound)
	s.send(t, "GET", "/v2/a/manifests/t", nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	s.send(t, "GET", "/v2/a/tags/list", nil).wants(t, http.StatusNotFound, "NAME_UNKNOWN")
	s.send(t, "GET", "/v2/a/referrers/"+d, nil).wants(t, http.StatusOK)
	s.send(t, "GET", "/v2/a/blobs/uploads/id", nil).wants(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	s.send(t, "POST", "/v2/a/blobs/uploads/", nil).wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
}
