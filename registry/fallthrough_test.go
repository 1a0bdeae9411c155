package registry_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

// layers are a local registry and one behind it, each with a server of its own to push to, and the one over both.
type layers struct {
	local, source, both *server
	linked              []string
}

func newLayers(t *testing.T, opts *registry.FallThroughOptions) *layers {
	t.Helper()
	l := &layers{}
	local, source := newLocal(nil), newLocal(&registry.LocalOptions{AllowMissing: true})
	l.local, l.source = serve(t, local, nil), serve(t, source, nil)
	bring := linkFrom(source, local)
	link := func(ctx context.Context, repository string, d digest.Digest, to string) error {
		l.linked = append(l.linked, d.String())
		return bring(ctx, repository, d, to)
	}
	l.both = serve(t, registry.NewFallThrough(local, []registry.Source{{Registry: registry.ReadOnly(source), Link: link}}, opts), nil)
	return l
}

// linkFrom returns what makes a blob of one registry visible in another, here by pushing its bytes.
func linkFrom(source, local registry.Registry) func(ctx context.Context, repository string, d digest.Digest, to string) error {
	return func(ctx context.Context, repository string, d digest.Digest, to string) error {
		blob, err := source.Blob(ctx, repository, d)
		if err != nil {
			return err
		}
		body, err := blob.Open(ctx, 0, -1)
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = local.PushBlob(ctx, to, d, body, blob.Size)
		return err
	}
}

func TestFallThroughServesWhatIsBehind(t *testing.T) {
	t.Parallel()
	l := newLayers(t, nil)
	m := l.source.image(t, "team/app", "x")
	l.source.pushManifest(t, "team/app", "v1", m)
	for _, path := range []string{"manifests/v1", "manifests/" + m.digest().String()} {
		assert.Equal(t, m.body, l.both.send(t, "GET", "/v2/team/app/"+path, nil).wants(t, http.StatusOK).body)
	}
	blob := "/v2/team/app/blobs/" + digest.FromString("layer of x").String()
	assert.Equal(t, "layer of x", l.both.send(t, "GET", blob, nil).wants(t, http.StatusOK).body)
	l.both.send(t, "HEAD", blob, nil).wants(t, http.StatusOK)
	assert.JSONEq(t, `{"name":"team/app","tags":["v1"]}`, l.both.send(t, "GET", "/v2/team/app/tags/list", nil).wants(t, http.StatusOK).body)
	assert.JSONEq(t, `{"repositories":["team/app"]}`, l.both.send(t, "GET", "/v2/_catalog", nil).wants(t, http.StatusOK).body)
	l.both.send(t, "GET", "/v2/team/app/manifests/none", nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	l.both.send(t, "GET", "/v2/team/none/tags/list", nil).wants(t, http.StatusNotFound, "NAME_UNKNOWN")
	l.both.send(t, "DELETE", "/v2/team/app/manifests/v1", nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	l.local.send(t, "GET", "/v2/team/app/tags/list", nil).wants(t, http.StatusNotFound, "NAME_UNKNOWN")
}

func TestLocalRepositoryHidesTheNamesBehindIt(t *testing.T) {
	t.Parallel()
	for name, mix := range map[string]bool{"hidden": false, "mixed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLayers(t, &registry.FallThroughOptions{Mix: mix})
			ours, theirs := l.both.image(t, "team/app", "ours"), l.source.image(t, "team/app", "theirs")
			l.both.pushManifest(t, "team/app", "v1", ours)
			l.source.pushManifest(t, "team/app", "v1", theirs)
			l.source.pushManifest(t, "team/app", "v2", theirs)
			assert.Equal(t, ours.body, l.both.send(t, "GET", "/v2/team/app/manifests/v1", nil).wants(t, http.StatusOK).body, "what is here comes first")
			tags := `["v1"]`
			if mix {
				tags = `["v1","v2"]`
				l.both.send(t, "GET", "/v2/team/app/manifests/v2", nil).wants(t, http.StatusOK)
			} else {
				l.both.send(t, "GET", "/v2/team/app/manifests/v2", nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
			}
			assert.JSONEq(t, `{"name":"team/app","tags":`+tags+`}`, l.both.send(t, "GET", "/v2/team/app/tags/list", nil).wants(t, http.StatusOK).body)
			l.both.send(t, "GET", "/v2/team/app/manifests/"+theirs.digest().String(), nil).wants(t, http.StatusOK)
		})
	}
}

func TestRepositoryIsLocalFromItsFirstManifestOn(t *testing.T) {
	t.Parallel()
	l := newLayers(t, nil)
	theirs := l.source.image(t, "team/app", "theirs")
	l.source.pushManifest(t, "team/app", "v1", theirs)
	l.source.pushManifest(t, "team/app", "signature", l.source.image(t, "team/app", "s", refersTo(theirs.descriptor(), "application/vnd.example.signature")))
	ours := l.both.image(t, "team/app", "ours") // whose push stops before its manifest
	l.both.pushBlob(t, "team/new", "alone")
	const tags, referrers = "/v2/team/app/tags/list", "/v2/team/app/referrers/"
	assert.Equal(t, theirs.body, l.both.send(t, "GET", "/v2/team/app/manifests/v1", nil).wants(t, http.StatusOK).body)
	assert.JSONEq(t, `{"name":"team/app","tags":["signature","v1"]}`, l.both.send(t, "GET", tags, nil).wants(t, http.StatusOK).body)
	assert.Contains(t, l.both.send(t, "GET", referrers+theirs.digest().String(), nil).wants(t, http.StatusOK).body, "vnd.example.signature")
	assert.JSONEq(t, `{"name":"team/new","tags":[]}`, l.both.send(t, "GET", "/v2/team/new/tags/list", nil).wants(t, http.StatusOK).body)

	l.both.pushManifest(t, "team/app", "", ours) // under no tag
	l.both.send(t, "GET", "/v2/team/app/manifests/v1", nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	assert.JSONEq(t, `{"name":"team/app","tags":[]}`, l.both.send(t, "GET", tags, nil).wants(t, http.StatusOK).body)
	assert.NotContains(t, l.both.send(t, "GET", referrers+theirs.digest().String(), nil).wants(t, http.StatusOK).body, "vnd.example.signature")
}

func TestOwnersDecideWhatIsLocal(t *testing.T) {
	t.Parallel()
	source := newLocal(nil)
	origin := serve(t, source, nil)
	origin.pushManifest(t, "a", "v1", origin.image(t, "a", "x"))
	wrapped := registry.ReadOnly(newLocal(nil))
	for name, test := range map[string]struct {
		local registry.Registry
		owns  func(context.Context, string) (bool, error)
		want  error
	}{
		"by what it lists": {local: wrapped},
		"listed":           {local: &fake{unknown: registry.ErrManifestUnknown}, want: registry.ErrManifestUnknown},
		"own":              {local: wrapped, owns: func(context.Context, string) (bool, error) { return true, nil }, want: registry.ErrManifestUnknown},
		"not own":          {local: &fake{unknown: registry.ErrManifestUnknown}, owns: func(context.Context, string) (bool, error) { return false, nil }},
		"who knows": {
			local: wrapped, owns: func(context.Context, string) (bool, error) { return false, registry.ErrUnavailable }, want: registry.ErrUnavailable,
		},
	} {
		r := registry.NewFallThrough(test.local, []registry.Source{{Registry: source}}, &registry.FallThroughOptions{Owns: test.owns})
		_, err := r.Manifest(t.Context(), "a", registry.Reference{Tag: "v1"})
		require.ErrorIs(t, err, test.want, name)
	}
}

// counting counts the queries of an index.
type counting struct {
	store.Metadata
	queries atomic.Int64
}

func (c *counting) Manifest(ctx context.Context, repository string, ref store.ManifestRef) (store.Manifest, error) {
	c.queries.Add(1)
	return c.Metadata.Manifest(ctx, repository, ref)
}

func (c *counting) Tags(ctx context.Context, repository, after string, limit int) ([]string, error) {
	c.queries.Add(1)
	return c.Metadata.Tags(ctx, repository, after, limit)
}

func (c *counting) ManifestRecords(ctx context.Context, repository string, after digest.Digest, limit int) ([]store.ManifestRecord, error) {
	c.queries.Add(1)
	return c.Metadata.ManifestRecords(ctx, repository, after, limit)
}

func TestWhatFallsThroughCostsFewQueriesHere(t *testing.T) {
	t.Parallel()
	source := newLocal(nil)
	origin := serve(t, source, nil)
	m := origin.image(t, "a", "x")
	origin.pushManifest(t, "a", "v1", m)
	index := &counting{Metadata: memory.NewMetadata(nil)}
	r := registry.NewFallThrough(registry.NewLocal(index, memory.NewObjects(nil), nil), []registry.Source{{Registry: source}}, nil)
	for name, test := range map[string]struct {
		ref  registry.Reference
		want int64
	}{
		"tag":    {registry.Reference{Tag: "v1"}, 2},
		"digest": {registry.Reference{Digest: m.digest()}, 2},
	} {
		index.queries.Store(0)
		_, err := r.Manifest(t.Context(), "a", test.ref)
		require.NoError(t, err, name)
		assert.Equal(t, test.want, index.queries.Load(), name)
	}
}

func TestReferrersOfALocalRepositoryAreItsOwn(t *testing.T) {
	t.Parallel()
	for name, mix := range map[string]bool{"hidden": false, "mixed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLayers(t, &registry.FallThroughOptions{Mix: mix})
			subject := l.both.image(t, "team/app", "subject")
			l.both.pushManifest(t, "team/app", "v1", subject)
			forged := l.source.image(t, "team/app", "signature", refersTo(subject.descriptor(), "application/vnd.example.signature"))
			l.source.pushManifest(t, "team/app", "forged", forged)
			got := l.both.send(t, "GET", "/v2/team/app/referrers/"+subject.digest().String(), nil).wants(t, http.StatusOK).body
			if mix {
				assert.Contains(t, got, forged.digest().String())
			} else {
				assert.NotContains(t, got, forged.digest().String())
			}
		})
	}
}

func TestFailureOfTheLocalRegistryIsNotHidden(t *testing.T) {
	t.Parallel()
	source := newLocal(nil)
	d := digest.FromString("x")
	_, err := source.PushBlob(t.Context(), "a", d, io.LimitReader(repeat('x'), 1), 1)
	require.NoError(t, err)
	r := registry.NewFallThrough(&fake{err: registry.ErrUnavailable}, []registry.Source{{Registry: source}}, nil)
	_, err = r.Blob(t.Context(), "a", d)
	require.ErrorIs(t, err, registry.ErrUnavailable)
	_, err = r.Manifest(t.Context(), "a", registry.Reference{Tag: "t"})
	require.ErrorIs(t, err, registry.ErrUnavailable)
	_, err = r.Tags(t.Context(), "a", "", 1)
	require.ErrorIs(t, err, registry.ErrUnavailable)
}

// repeat is an endless reader.
type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

func TestFallThroughWithoutALocalRegistryReads(t *testing.T) {
	t.Parallel()
	source := newLocal(nil)
	s, origin := serve(t, registry.NewFallThrough(nil, []registry.Source{{Registry: source}}, nil), nil), serve(t, source, nil)
	origin.pushManifest(t, "a", "v1", origin.image(t, "a", "x"))
	s.send(t, "GET", "/v2/a/manifests/v1", nil).wants(t, http.StatusOK)
	s.send(t, "GET", "/v2/a/tags/list", nil).wants(t, http.StatusOK)
	s.send(t, "GET", "/v2/_catalog", nil).wants(t, http.StatusOK)
	s.send(t, "POST", "/v2/a/blobs/uploads/", nil).wants(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
}

func TestFallThroughPassesWritesToTheLocalRegistry(t *testing.T) {
	t.Parallel()
	r := registry.NewFallThrough(&fake{err: registry.ErrDenied}, []registry.Source{{Registry: &fake{}}}, nil)
	for method, err := range callAll(t, r) {
		assert.ErrorIs(t, err, registry.ErrDenied, method)
	}
}

func TestPullsFromAMirrorAreGivenTheirNameHere(t *testing.T) {
	t.Parallel()
	local := newLocal(nil)
	var wanted []registry.Access
	s := serve(t, local, &registry.HandlerOptions{
		Namespace: func(namespace, repository string) (string, bool) {
			return "hub/" + repository, namespace == "docker.io"
		},
		Authorize: func(_ *http.Request, want []registry.Access) (func(registry.Access) bool, error) {
			wanted = want
			return nil, nil
		},
	})
	m := s.image(t, "hub/library/alpine", "x")
	s.pushManifest(t, "hub/library/alpine", "latest", m)
	got := s.send(t, "GET", "/v2/library/alpine/manifests/latest?ns=docker.io", nil).wants(t, http.StatusOK)
	assert.Equal(t, m.body, got.body)
	assert.Equal(t, "docker.io", got.header.Get("Oci-Namespace"))
	assert.Equal(t, []registry.Access{{Repository: "hub/library/alpine", Action: registry.ActionPull}}, wanted, "what is authorised is what is served")
	s.send(t, "GET", "/v2/library/alpine/manifests/latest", nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	own := strings.TrimPrefix(s.URL, "http://")
	s.send(t, "GET", "/v2/hub/library/alpine/manifests/latest?ns="+own, nil).wants(t, http.StatusOK)
	got = s.send(t, "GET", "/v2/hub/library/alpine/manifests/latest?ns=elsewhere.example.com", nil).wants(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	assert.Empty(t, got.header.Get("Oci-Namespace"), "what has the same name here is something else")
	s.send(t, "PUT", "/v2/library/alpine/manifests/latest?ns=docker.io", m.body, "Content-Type: "+m.mediaType).
		wants(t, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
}

func TestManifestsCarryTheirWarning(t *testing.T) {
	t.Parallel()
	m := registry.Manifest{Bytes: []byte("{}"), Warning: "out of \"date\"\n\\ since 1999"}
	m.Digest, m.MediaType = digest.FromString("{}"), typeManifest
	s := serve(t, &fake{manifest: m}, nil)
	got := s.send(t, "GET", "/v2/a/manifests/t", nil).wants(t, http.StatusOK)
	assert.Equal(t, `299 - "out of 'date' ' since 1999"`, got.header.Get("Warning"))
}

func TestMirroredRepositoriesAreNotListed(t *testing.T) {
	t.Parallel()
	meta := memory.NewMetadata(nil)
	local := registry.NewLocal(meta, memory.NewObjects(nil), nil)
	d := digest.FromString("x")
	content := store.Content{Digest: d, Size: 1, Inline: []byte("x")}
	for _, repository := range []string{"a", "zz", store.MirrorPrefix + "hub/library/alpine"} {
		require.NoError(t, meta.PutContent(t.Context(), repository, content))
	}
	names, err := local.Repositories(t.Context(), "", 10)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "zz"}, names)
	names, err = local.Holders(t.Context(), d, "", 10)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "zz"}, names, "what was pulled through cannot be mounted from")
}
