package upstream_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

// tags lists all tags, by pages.
func (m *mirror) tags(t testing.TB, limit int) []string {
	t.Helper()
	var all []string
	for after := ""; ; {
		page, err := m.Tags(t.Context(), repository, after, limit)
		require.NoError(t, err)
		all = append(all, page...)
		if len(page) < limit {
			return all
		}
		after = page[len(page)-1]
	}
}

func TestTagsAreTheUpstreamsAndThoseThatAreKept(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	var want []string
	for i := range 25 {
		want = append(want, "v"+strconv.Itoa(i))
		o.push(t, want[i], []byte("layer"))
	}
	slices.Sort(want)
	require.Equal(t, want, m.tags(t, 7))
	require.Equal(t, 1, o.asked("tags/list"), "a list is read once for all its pages")

	_, err := m.tag(t, "v3")
	require.NoError(t, err)
	down := newReplica(t, o.URL, m.meta, m.objects)
	o.Close()
	require.Equal(t, []string{"v3"}, down.tags(t, 7), "while the upstream is down, the kept ones are listed")
	_, err = down.Tags(t.Context(), "library/other", "", 1)
	require.ErrorIs(t, err, registry.ErrUnavailable)
}

func TestTagsOfAnUnknownRepository(t *testing.T) {
	t.Parallel()
	_, err := newMirror(t, newOrigin(t).URL).Tags(t.Context(), repository, "", 1)
	require.ErrorIs(t, err, registry.ErrNameUnknown)
}

func TestListsAreReadAsTheUpstreamLinksThem(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		if page < 3 {
			w.Header().Set("Link", fmt.Sprintf(`<https://elsewhere.example.com%s?page=%d>; rel="next"`, r.URL.Path, page+1))
		}
		fmt.Fprintf(w, `{"tags":["b%d","a%d","no tag!"]}`, page, page)
		return true
	})
	require.Equal(t, []string{"a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"}, newMirror(t, o.URL).tags(t, 100))
	require.Equal(t, 4, o.asked("tags/list"))
}

func TestEndlessListsEnd(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Link", `<`+r.URL.Path+`?again>; rel="next"`)
		fmt.Fprint(w, `{"tags":["same"]}`)
		return true
	})
	require.Equal(t, []string{"same"}, newMirror(t, o.URL).tags(t, 100))
	require.LessOrEqual(t, o.asked("tags/list"), 200)
}

func TestReferrersAreTheUpstreamsAndThoseThatAreKept(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", []byte("layer"))
	var signatures []digest.Digest
	for _, kind := range []string{"a", "b"} {
		signature := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","artifactType":"application/` + kind +
			`","config":{"mediaType":"` + ocispec.MediaTypeEmptyJSON + `","digest":"` + digest.FromBytes(i.config).String() + `","size":` + strconv.Itoa(len(i.config)) +
			`},"layers":[],"subject":{"mediaType":"` + i.MediaType + `","digest":"` + i.digest.String() + `","size":1}}`)
		_, err := o.registry.PutManifest(t.Context(), repository, registry.ManifestPut{Bytes: signature})
		require.NoError(t, err)
		signatures = append(signatures, digest.FromBytes(signature))
	}
	m := newMirror(t, o.URL)
	found, err := m.Referrers(t.Context(), repository, i.digest, registry.ReferrersPage{Limit: 10})
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Less(t, found[0].Digest, found[1].Digest)
	found, err = m.Referrers(t.Context(), repository, i.digest, registry.ReferrersPage{Limit: 10, ArtifactTypes: []string{"application/b"}})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, signatures[1], found[0].Digest)

	_, err = m.Manifest(t.Context(), repository, registry.Reference{Digest: signatures[0]})
	require.NoError(t, err)
	down := newReplica(t, o.URL, m.meta, m.objects)
	o.says(http.StatusBadGateway)
	found, err = down.Referrers(t.Context(), repository, i.digest, registry.ReferrersPage{Limit: 10})
	require.NoError(t, err)
	require.Len(t, found, 1, "while the upstream is down, the kept ones are listed")
	require.Equal(t, signatures[0], found[0].Digest)
}

func TestReferrersOfAnUpstreamWithoutTheAPI(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", []byte("layer"))
	index := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[{"mediaType":"` + i.MediaType +
		`","digest":"` + i.digest.String() + `","size":` + strconv.Itoa(len(i.Bytes)) + `,"artifactType":"application/a"}]}`)
	subject := digest.FromString("subject")
	_, err := o.registry.PutManifest(t.Context(), repository, registry.ManifestPut{Bytes: index, Tags: []string{"sha256-" + subject.Encoded()}})
	require.NoError(t, err)
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if bytes.Contains([]byte(r.URL.Path), []byte("/referrers/")) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	m := newMirror(t, o.URL)
	found, err := m.Referrers(t.Context(), repository, subject, registry.ReferrersPage{Limit: 10})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, i.digest, found[0].Digest)
	found, err = m.Referrers(t.Context(), repository, digest.FromString("none"), registry.ReferrersPage{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, found)
}
