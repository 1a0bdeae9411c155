package upstream_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
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

func TestListsOfManyPagesAreWhole(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	const all, perPage = 3000, 10
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		last, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Query().Get("last"), "t"))
		end := min(last+perPage, all)
		if end < all {
			w.Header().Set("Link", fmt.Sprintf(`<%s?last=t%05d>; rel="next"`, r.URL.Path, end))
		}
		var tags []string
		for i := last + 1; i <= end; i++ {
			tags = append(tags, fmt.Sprintf("t%05d", i))
		}
		data, err := json.Marshal(map[string]any{"name": repository, "tags": tags})
		assert.NoError(t, err)
		_, _ = w.Write(data)
		return true
	})
	m := newMirror(t, o.URL)
	require.Len(t, m.tags(t, all), all)
	require.Len(t, m.tags(t, 100), all)
	require.Equal(t, all/perPage, o.asked("tags/list"), "and read once for many clients")
}

// endless are lists that have no end, or are too long to be passed on, by how a page of one is written.
var endless = map[string]struct {
	want error
	page func(w http.ResponseWriter, r *http.Request, entry func(i int) string)
}{
	"the same page again": {registry.ErrUnavailable, func(w http.ResponseWriter, r *http.Request, entry func(int) string) {
		w.Header().Set("Link", `<`+r.URL.Path+`?again>; rel="next"`)
		fmt.Fprint(w, entry(1))
	}},
	"ever more pages": {registry.ErrUnsupported, func(w http.ResponseWriter, r *http.Request, entry func(int) string) {
		n, _ := strconv.Atoi(r.URL.Query().Get("page"))
		w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, n+1))
		entries := make([]string, 0, 5000)
		for i := range cap(entries) {
			entries = append(entries, entry(n*cap(entries)+i))
		}
		fmt.Fprint(w, strings.Join(entries, ","))
	}},
	"a page of nothing": {registry.ErrUnsupported, func(w http.ResponseWriter, _ *http.Request, entry func(int) string) {
		fmt.Fprint(w, strings.Repeat(entry(-1)+",", 2_700_000)+entry(-1))
	}},
	"a large entry": {registry.ErrUnavailable, func(w http.ResponseWriter, _ *http.Request, _ func(int) string) {
		fmt.Fprint(w, `{"digest":"`+digest.FromString("x").String()+`","urls":[`+strings.Repeat(`"",`, 1_000_000)+`""]}`)
	}},
	"a large page": {registry.ErrUnavailable, func(w http.ResponseWriter, _ *http.Request, entry func(int) string) {
		fmt.Fprint(w, entry(1)+strings.Repeat(" ", 9<<20))
	}},
	"another key": {registry.ErrUnavailable, func(w http.ResponseWriter, _ *http.Request, entry func(int) string) {
		fmt.Fprint(w, entry(1)+`],"other":[`+strings.Repeat("{},", 3<<20)+`{}`)
	}},
}

// Not parallel: it counts what is allocated.
func TestListsThatAreTooLongAreRefusedAndCostLittle(t *testing.T) {
	lists := map[string]struct {
		begin string
		entry func(i int) string
		read  func(m *mirror) error
	}{
		"tags": {
			`{"tags":[`,
			func(i int) string {
				if i < 0 {
					return `""`
				}
				return `"t` + strconv.Itoa(i) + `"`
			},
			func(m *mirror) error {
				_, err := m.Tags(t.Context(), repository, "", 1)
				return err
			},
		},
		"referrers": {
			`{"schemaVersion":2,"manifests":[`,
			func(i int) string {
				if i < 0 {
					return `{}`
				}
				return `{"digest":"` + digest.FromString(strconv.Itoa(i)).String() + `","size":1}`
			},
			func(m *mirror) error {
				_, err := m.Referrers(t.Context(), repository, digest.FromString("subject"), registry.ReferrersPage{Limit: 1})
				return err
			},
		},
	}
	for kind, list := range lists {
		for name, test := range endless {
			t.Run(kind+" "+name, func(t *testing.T) {
				o := newOrigin(t)
				o.answers(func(w http.ResponseWriter, r *http.Request) bool {
					page := httptest.NewRecorder() // since headers come first
					fmt.Fprint(page, list.begin)
					test.page(page, r, list.entry)
					fmt.Fprint(page, `]}`)
					w.Header().Set("Link", page.Header().Get("Link"))
					_, _ = w.Write(page.Body.Bytes())
					return true
				})
				m := newMirror(t, o.URL)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := list.read(m)
				runtime.ReadMemStats(&after)
				require.Less(t, (after.TotalAlloc-before.TotalAlloc)>>20, uint64(256), "MiB allocated, pages included")
				require.ErrorIs(t, err, test.want)
				if errors.Is(test.want, registry.ErrUnsupported) {
					o.forget()
					require.ErrorIs(t, list.read(m), test.want)
					require.Zero(t, o.asked("/"), "that it is too long is remembered")
				}
			})
		}
	}
}

// Not parallel: it counts what is allocated.
func TestFallbackIndexOfNothingCostsLittle(t *testing.T) {
	o := newOrigin(t)
	index := []byte(`{"schemaVersion":2,"manifests":[` + strings.Repeat("{},", 1_000_000) + `{}]}`)
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/referrers/") {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		w.Header().Set("Content-Type", "application/vnd.example.index.v1+json") // of which nobody knows what it must have
		_, _ = w.Write(index)
		return true
	})
	m := newMirror(t, o.URL)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := m.Referrers(t.Context(), repository, digest.FromString("subject"), registry.ReferrersPage{Limit: 1})
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)>>20, uint64(128), "MiB allocated")
	require.ErrorIs(t, err, registry.ErrUnsupported)
}

func TestListThatIsRefusedIsNotServedAsItWas(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		o := newOrigin(t)
		m := newMirror(t, o.URL, always)
		i := o.push(t, "v1", []byte("layer"))
		signature := o.refer(t, i, "application/a")
		_, err := m.tag(t, "v1")
		require.NoError(t, err)
		_, err = m.Manifest(t.Context(), repository, registry.Reference{Digest: signature})
		require.NoError(t, err)
		require.Equal(t, []string{"v1"}, m.tags(t, 10))
		o.says(status, `Www-Authenticate: Basic realm="x"`)
		o.forget()
		for range 3 {
			_, err = m.Tags(t.Context(), repository, "", 10)
			require.ErrorIs(t, err, registry.ErrDenied)
			_, err = m.Referrers(t.Context(), repository, i.digest, registry.ReferrersPage{Limit: 10})
			require.ErrorIs(t, err, registry.ErrDenied)
		}
		require.Equal(t, 2, o.asked("/"), "a refusal is remembered for a while")
	}
}

// refer pushes a manifest that refers to an image.
func (o *origin) refer(t testing.TB, i image, artifactType string) digest.Digest {
	t.Helper()
	signature := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","artifactType":"` + artifactType +
		`","config":{"mediaType":"` + ocispec.MediaTypeEmptyJSON + `","digest":"` + digest.FromBytes(i.config).String() + `","size":` + strconv.Itoa(len(i.config)) +
		`},"layers":[],"subject":{"mediaType":"` + i.MediaType + `","digest":"` + i.digest.String() + `","size":1}}`)
	_, err := o.registry.PutManifest(t.Context(), repository, registry.ManifestPut{Bytes: signature})
	require.NoError(t, err)
	return digest.FromBytes(signature)
}

func TestRepositoriesAreListedByPages(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	i := o.push(t, "v1", []byte("layer"))
	o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", i.MediaType)
		_, _ = w.Write(i.Bytes)
		return true
	})
	var want []string
	for n := range 5 {
		want = append(want, "library/app"+strconv.Itoa(n))
		_, err := m.Manifest(t.Context(), want[n], registry.Reference{Tag: "v1"})
		require.NoError(t, err)
	}
	var all []string
	for after := ""; ; after = all[len(all)-1] {
		page, err := m.Repositories(t.Context(), after, 2)
		require.NoError(t, err)
		all = append(all, page...)
		if len(page) < 2 {
			break
		}
	}
	require.Equal(t, want, all)
}

func TestReferrersAreTheUpstreamsAndThoseThatAreKept(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", []byte("layer"))
	var signatures []digest.Digest
	for _, kind := range []string{"a", "b"} {
		signatures = append(signatures, o.refer(t, i, "application/"+kind))
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
