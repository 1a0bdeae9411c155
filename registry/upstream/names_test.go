package upstream_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store/memory"
)

func TestNamesAreRewrittenForTheUpstream(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.push(t, "v1", []byte("layer"))
	m := newMirror(t, o.URL, func(options *upstream.Options) {
		options.Names = upstream.Names{Rewrite: []upstream.Rewrite{
			{From: "special", To: "exact/name"}, {From: "*", To: "library/*"}, {From: "k8s/**", To: "**"}, {From: "swap/*/of/*", To: "*/and/*"},
		}}
	})
	under := m.Under("hub")
	for here, there := range map[string]string{
		"hub/app": "library/app", "hub/special": "exact/name", "hub/library/app": "library/app", "hub/k8s/a/b/c": "a/b/c",
		"hub/swap/x/of/y": "x/and/y", "hub/a/b": "a/b",
	} {
		o.forget()
		_, err := under.Manifest(t.Context(), here, registry.Reference{Tag: "of-" + digest.FromString(here).Encoded()})
		require.ErrorIs(t, err, registry.ErrManifestUnknown)
		require.Equal(t, 1, o.asked("GET /v2/"+there+"/manifests/of-"), "%s is %s upstream", here, there)
	}
	got, err := under.Manifest(t.Context(), "hub/app", registry.Reference{Tag: "v1"})
	require.NoError(t, err)
	o.says(http.StatusInternalServerError)
	again, err := under.Manifest(t.Context(), "hub/library/app", registry.Reference{Tag: "v1"})
	require.NoError(t, err, "two names of one repository are kept once")
	require.Equal(t, got.Digest, again.Digest)
	names, err := under.Repositories(t.Context(), "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"hub/library/app"}, names)
}

func TestWrongOptionsAreRefusedWithTheirNames(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		name, address string
		options       upstream.Options
		want          string
	}{
		"name":             {"Hub", "https://registry.example.com", upstream.Options{}, `name "Hub"`},
		"name of two":      {"a/b", "https://registry.example.com", upstream.Options{}, `name "a/b"`},
		"scheme":           {"hub", "ftp://registry.example.com", upstream.Options{}, "is not a URL like"},
		"password":         {"hub", "https://me:secret@registry.example.com", upstream.Options{}, "use a file of credentials"},
		"query":            {"hub", "https://registry.example.com?x", upstream.Options{}, "is not a URL like"},
		"time-out":         {"hub", "https://registry.example.com", upstream.Options{IdleTimeout: -time.Second}, "time-outs must not be negative"},
		"rewrite pattern":  {"hub", "https://registry.example.com", rewrites("a b", "c"), `pattern "a b"`},
		"rewrite stars":    {"hub", "https://registry.example.com", rewrites("*", "c"), "as many stars"},
		"rewrite name":     {"hub", "https://registry.example.com", rewrites("a", "C"), "no repository's name"},
		"rewrite twice":    {"hub", "https://registry.example.com", rewrites("a", "b", "a", "c"), "never reached"},
		"rewrite collides": {"hub", "https://registry.example.com", rewrites("x/*", "z/*", "y/*", "z/*"), `"y/*" collides with the rule from "x/*"`},
		"rewrite covered":  {"hub", "https://registry.example.com", rewrites("**", "x/**", "a/*", "c/*"), "never reached"},
	} {
		_, err := upstream.New(test.name, test.address, memory.NewMetadata(nil), memory.NewObjects(nil), &test.options)
		require.ErrorContains(t, err, test.want, name)
		require.NotContains(t, err.Error(), "secret")
	}
	for _, address := range []string{"registry.example.com", "https://registry.example.com/v2/", "http://localhost:5000/base"} {
		m, err := upstream.New("hub", address, memory.NewMetadata(nil), memory.NewObjects(nil), nil)
		require.NoError(t, err)
		require.NoError(t, m.Close())
	}
}

func rewrites(pairs ...string) (options upstream.Options) {
	for i := 0; i < len(pairs); i += 2 {
		options.Names.Rewrite = append(options.Names.Rewrite, upstream.Rewrite{From: pairs[i], To: pairs[i+1]})
	}
	return options
}

// FuzzNames lets rules and names be anything: what comes out is a repository's name, or nothing.
func FuzzNames(f *testing.F) {
	f.Add("*", "library/*", "app")
	f.Add("k8s/**", "**", "k8s/a/b")
	f.Add("swap/*/of/*", "*/and/*", "swap/x/of/y")
	f.Fuzz(func(t *testing.T, from, to, name string) {
		o := upstream.Options{Names: upstream.Names{Rewrite: []upstream.Rewrite{{From: from, To: to}}}}
		if o.Names.Check() != nil {
			return
		}
		there, ok := o.Names.Upstream(name)
		if ok != registry.ValidRepository(there) {
			t.Errorf("%q is %q upstream, %t", name, there, ok)
		}
	})
}
