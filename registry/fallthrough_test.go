package registry_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
	link := func(ctx context.Context, repository string, d digest.Digest, to string) error {
		l.linked = append(l.linked, d.String())
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
	l.both = serve(t, registry.NewFallThrough(local, []registry.Source{{Registry: registry.ReadOnly(source), Link: link}}, opts), nil)
	return l
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
		"digest": {registry.Reference{Digest: m.digest()}, 1},
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

func TestManifestMayReferToWhatIsBehind(t *testing.T) {
	t.Parallel()
	l := newLayers(t, nil)
	m := l.source.image(t, "team/app", "x") // whose blobs a client finds by HEAD, and does not push
	l.source.pushManifest(t, "team/app", "v1", m)
	l.both.pushManifest(t, "team/app", "mine", index(t, nil, m.descriptor()))
	assert.NotEmpty(t, l.linked)
	l.local.send(t, "GET", "/v2/team/app/manifests/"+m.digest().String(), nil).wants(t, http.StatusOK)
	assert.Equal(t, "layer of x", l.local.send(t, "GET", "/v2/team/app/blobs/"+digest.FromString("layer of x").String(), nil).wants(t, http.StatusOK).body)

	missing := index(t, nil, descriptor(typeManifest, "nowhere"))
	l.both.send(t, "PUT", "/v2/team/app/manifests/missing", missing.body, "Content-Type: "+typeIndex).
		wants(t, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
}

// watched tells what a registry is asked for.
type watched struct {
	registry.Registry
	mu    sync.Mutex
	asked map[string]int
}

func (w *watched) note(method string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[method]++
}

func (w *watched) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	w.note("StatBlob")
	return w.Registry.StatBlob(ctx, repository, d)
}

func (w *watched) Blob(ctx context.Context, repository string, d digest.Digest) (registry.Blob, error) {
	w.note("Blob")
	return w.Registry.Blob(ctx, repository, d)
}

func (w *watched) Manifest(ctx context.Context, repository string, ref registry.Reference) (registry.Manifest, error) {
	w.note("Manifest")
	return w.Registry.Manifest(ctx, repository, ref)
}

func TestSourcesAreAskedOnceForWhatAManifestRefersTo(t *testing.T) {
	t.Parallel()
	const repository = "team/app"
	source := newLocal(&registry.LocalOptions{AllowMissing: true, AllowUnknownManifests: true})
	origin := serve(t, source, nil)
	image := origin.image(t, repository, "x")
	origin.pushManifest(t, repository, "v1", image)
	odd := manifest{"application/vnd.example.odd", `{"odd":true}`}
	origin.pushManifest(t, repository, "odd", odd)
	cache := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: origin.pushBlob(t, repository, "cached layer"), Size: 12}
	for name, test := range map[string]struct {
		put  manifest
		want map[string]int
	}{
		"image":                          {image, map[string]int{"StatBlob": 2}},
		"index":                          {index(t, nil, image.descriptor()), map[string]int{"Manifest": 1, "StatBlob": 2}},
		"index of a layer":               {index(t, nil, cache), map[string]int{"StatBlob": 1}},
		"index of what nobody knows":     {index(t, nil, odd.descriptor()), map[string]int{"StatBlob": 1}},
		"image that lacks what is there": {index(t, nil, descriptor(typeManifest, "nowhere")), map[string]int{"Manifest": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			local := newLocal(nil)
			watched := &watched{Registry: source, asked: map[string]int{}}
			link := func(ctx context.Context, from string, d digest.Digest, to string) error {
				blob, err := source.Blob(ctx, from, d)
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
			both := registry.NewFallThrough(local, []registry.Source{{Registry: watched, Link: link}}, nil)
			_, err := both.PutManifest(t.Context(), repository, registry.ManifestPut{MediaType: test.put.mediaType, Bytes: []byte(test.put.body)})
			if strings.Contains(name, "lacks") {
				require.ErrorIs(t, err, registry.ErrManifestBlobUnknown)
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, test.want, watched.asked)
		})
	}
}

func TestPushedManifestsDoNotWaitForASilentSource(t *testing.T) {
	t.Parallel()
	for name, children := range map[string][]ocispec.Descriptor{
		"layers":    {descriptor(ocispec.MediaTypeImageLayer, "a"), descriptor(ocispec.MediaTypeImageLayer, "b")},
		"manifests": {descriptor(typeManifest, "a"), descriptor(typeManifest, "b")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				link := func(context.Context, string, digest.Digest, string) error { return registry.ErrBlobUnknown }
				r := registry.NewFallThrough(newLocal(nil), []registry.Source{{Registry: silent{}, Link: link}}, nil)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := r.PutManifest(ctx, "team/app", registry.ManifestPut{Bytes: []byte(index(t, nil, children...).body)})
				require.ErrorIs(t, err, registry.ErrManifestBlobUnknown)
				require.NoError(t, ctx.Err(), "it takes much less time than a client would wait")
			})
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

func TestFailureOfASourceIsToldOnlyIfNobodyElseAnswers(t *testing.T) {
	t.Parallel()
	good := newLocal(nil)
	d := digest.FromString("x")
	_, err := good.PushBlob(t.Context(), "a", d, io.LimitReader(repeat('x'), 1), 1)
	require.NoError(t, err)
	for _, failure := range []error{registry.ErrDenied, registry.ErrUnavailable} {
		bad := registry.Source{Registry: &fake{err: failure}}
		r := registry.NewFallThrough(newLocal(nil), []registry.Source{bad, {Registry: good}}, nil)
		_, err = r.StatBlob(t.Context(), "a", d)
		require.NoError(t, err)
		_, err = r.Blob(t.Context(), "a", d)
		require.NoError(t, err)
	}
	bad := []registry.Source{{Registry: &fake{err: registry.ErrDenied}}, {Registry: &fake{err: registry.ErrUnavailable}}}
	r := registry.NewFallThrough(newLocal(nil), append(bad, registry.Source{Registry: good}), nil)
	_, err = r.Blob(t.Context(), "a", digest.FromString("y"))
	require.ErrorIs(t, err, registry.ErrUnavailable, "whoever does not answer may have it")
}

// Clients that push ask first for what is there. What they are told of a source that refuses or fails decides whether they can push.
func TestFailureOfASourceIsNoAnswerWhereItMisleadsNobody(t *testing.T) {
	t.Parallel()
	failures := map[string]struct {
		err      error
		status   int // where it is told; else all is unknown
		mentions string
	}{
		"denied":      {err: registry.ErrDenied, mentions: "refuses"},
		"login":       {err: &registry.ChallengeError{Challenge: `Basic realm="theirs"`}, mentions: "refuses"},
		"unavailable": {err: &registry.RetryError{Err: registry.ErrUnavailable}, status: http.StatusServiceUnavailable, mentions: "does not answer"},
		"limited":     {err: &registry.RetryError{Err: registry.ErrTooManyRequests}, status: http.StatusTooManyRequests, mentions: "does not answer"},
		"internal":    {err: errors.New("dial 10.0.0.1"), status: http.StatusInternalServerError, mentions: "does not answer"},
	}
	for name, failure := range failures {
		for _, mix := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", mixed"}[mix], func(t *testing.T) {
				t.Parallel()
				local := newLocal(nil)
				both := registry.NewFallThrough(local, []registry.Source{{Registry: &fake{err: failure.err}}}, &registry.FallThroughOptions{Mix: mix})
				s := serve(t, both, &registry.HandlerOptions{Logger: slog.New(slog.DiscardHandler)})
				own := serve(t, local, nil)
				own.pushManifest(t, "team/own", "v1", own.image(t, "team/own", "x"))
				d := digest.FromString("y").String()
				for _, repository := range []string{"team/own", "team/new"} {
					told := failure.status
					if repository == "team/own" || told == 0 {
						told = http.StatusNotFound
					}
					for _, question := range []struct {
						method, path string
						want         int
					}{
						{"HEAD", "blobs/" + d, http.StatusNotFound},
						{"GET", "blobs/" + d, told},
						{"HEAD", "manifests/" + d, told},
						{"GET", "manifests/" + d, told},
						{"HEAD", "manifests/v2", told},
						{"GET", "manifests/v2", told},
					} {
						got := s.send(t, question.method, "/v2/"+repository+"/"+question.path, nil)
						what := question.method + " " + repository + " " + question.path
						assert.Equal(t, question.want, got.status, what)
						if got.status != http.StatusNotFound {
							continue
						}
						assert.Empty(t, got.header.Get("Www-Authenticate"), what)
						assert.Empty(t, got.header.Get("Retry-After"), what)
						if question.method == "GET" && (question.path != "manifests/v2" || mix || repository == "team/new") {
							assert.Contains(t, got.body, failure.mentions, what)
							assert.NotContains(t, got.body, "10.0.0.1", what)
						}
					}
				}
				assert.JSONEq(t, `{"name":"team/own","tags":["v1"]}`, s.send(t, "GET", "/v2/team/own/tags/list", nil).wants(t, http.StatusOK).body)
				s.send(t, "GET", "/v2/team/own/referrers/"+d, nil).wants(t, http.StatusOK)
				s.send(t, "GET", "/v2/team/new/tags/list", nil).wants(t, cmp.Or(failure.status, http.StatusNotFound))
				s.send(t, "GET", "/v2/team/new/referrers/"+d, nil).wants(t, cmp.Or(failure.status, http.StatusOK))
			})
		}
	}
}

// silent is a registry that answers nothing.
type silent struct{ registry.Unsupported }

func (silent) StatBlob(ctx context.Context, _ string, _ digest.Digest) (ocispec.Descriptor, error) {
	<-ctx.Done()
	return ocispec.Descriptor{}, ctx.Err()
}

func (silent) Blob(ctx context.Context, _ string, _ digest.Digest) (registry.Blob, error) {
	<-ctx.Done()
	return registry.Blob{}, ctx.Err()
}

func (silent) Manifest(ctx context.Context, _ string, _ registry.Reference) (registry.Manifest, error) {
	<-ctx.Done()
	return registry.Manifest{}, ctx.Err()
}

func TestPushesDoNotWaitForASilentSource(t *testing.T) {
	t.Parallel()
	d := digest.FromString("y")
	const long = time.Minute // that the client would wait
	for name, test := range map[string]struct {
		repository string
		ask        func(ctx context.Context, r registry.Registry, repository string) error
		unknown    error // nil: it waits as long as the client does
	}{
		"blob that need not be pushed":           {"team/new", statBlob(d), registry.ErrBlobUnknown},
		"blob that need not be pushed, of ours":  {"team/own", statBlob(d), registry.ErrBlobUnknown},
		"blob":                                   {"team/new", getBlob(d), nil},
		"blob of ours":                           {"team/own", getBlob(d), registry.ErrBlobUnknown},
		"manifest":                               {"team/new", getManifest(registry.Reference{Digest: d}), nil},
		"manifest of ours":                       {"team/own", getManifest(registry.Reference{Digest: d}), registry.ErrManifestUnknown},
		"tag":                                    {"team/new", getManifest(registry.Reference{Tag: "v2"}), nil},
		"tag of ours, where all may be answered": {"team/own", getManifest(registry.Reference{Tag: "v2"}), registry.ErrManifestUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				local := newLocal(nil)
				pushImage(t, local, "team/own")
				r := registry.NewFallThrough(local, []registry.Source{{Registry: silent{}}}, &registry.FallThroughOptions{Mix: true})
				ctx, cancel := context.WithTimeout(t.Context(), long)
				defer cancel()
				began := time.Now()
				err := test.ask(ctx, r, test.repository)
				if test.unknown == nil {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					return
				}
				require.ErrorIs(t, err, test.unknown)
				require.LessOrEqual(t, time.Since(began), long/6)
			})
		})
	}
}

func TestPushesWaitOnceForASilentSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &watched{Registry: silent{}, asked: map[string]int{}}
		r := registry.NewFallThrough(newLocal(nil), []registry.Source{{Registry: source}}, nil)
		began := time.Now()
		for i := range 20 {
			require.ErrorIs(t, statBlob(digest.FromString(itoa(i)))(t.Context(), r, "team/new"), registry.ErrBlobUnknown)
		}
		require.LessOrEqual(t, time.Since(began), 10*time.Second)
		assert.Equal(t, map[string]int{"StatBlob": 1}, source.asked)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		require.ErrorIs(t, getBlob(digest.FromString("x"))(ctx, r, "team/new"), context.DeadlineExceeded, "who pulls waits")
		require.ErrorIs(t, statBlob(digest.FromString("x"))(t.Context(), r, "team/new"), registry.ErrBlobUnknown)
		assert.Equal(t, map[string]int{"StatBlob": 2, "Blob": 1}, source.asked, "it is asked again after a while")
	})
}

type question = func(ctx context.Context, r registry.Registry, repository string) error

func statBlob(d digest.Digest) question {
	return func(ctx context.Context, r registry.Registry, repository string) error {
		_, err := r.StatBlob(ctx, repository, d)
		return err
	}
}

func getBlob(d digest.Digest) question {
	return func(ctx context.Context, r registry.Registry, repository string) error {
		_, err := r.Blob(ctx, repository, d)
		return err
	}
}

func getManifest(ref registry.Reference) question {
	return func(ctx context.Context, r registry.Registry, repository string) error {
		_, err := r.Manifest(ctx, repository, ref)
		return err
	}
}

// pushImage pushes an image of nothing but a config, as v1.
func pushImage(t *testing.T, r registry.Registry, repository string) {
	t.Helper()
	m := ocispec.Manifest{MediaType: typeManifest, Config: descriptor(ocispec.MediaTypeImageConfig, "{}")}
	m.SchemaVersion = 2
	_, err := r.PushBlob(t.Context(), repository, m.Config.Digest, strings.NewReader("{}"), 2)
	require.NoError(t, err)
	_, err = r.PutManifest(t.Context(), repository, registry.ManifestPut{Bytes: []byte(marshal(t, typeManifest, m).body), Tags: []string{"v1"}})
	require.NoError(t, err)
}

func TestNameIsNotAnotherSourcesWhileItsOwnFails(t *testing.T) {
	t.Parallel()
	other := newLocal(nil)
	origin := serve(t, other, nil)
	origin.pushManifest(t, "a", "v1", origin.image(t, "a", "x"))
	for name, mix := range map[string]bool{"hidden": false, "mixed": true} {
		for failure, want := range map[error]struct{ manifest, listing error }{
			registry.ErrUnavailable: {registry.ErrUnavailable, registry.ErrUnavailable},
			registry.ErrDenied:      {registry.ErrManifestUnknown, registry.ErrNameUnknown},
		} {
			r := registry.NewFallThrough(nil, []registry.Source{{Registry: &fake{err: failure}}, {Registry: other}}, &registry.FallThroughOptions{Mix: mix})
			_, err := r.Manifest(t.Context(), "a", registry.Reference{Tag: "v1"})
			_, listing := r.Tags(t.Context(), "a", "", 1)
			if mix {
				require.NoError(t, err, name)
				require.NoError(t, listing, name)
			} else {
				require.ErrorIs(t, err, want.manifest, name)
				require.ErrorIs(t, listing, want.listing, name)
			}
		}
	}
}

func TestPushThatFailsLinksNothing(t *testing.T) {
	t.Parallel()
	l := newLayers(t, nil)
	m := l.source.image(t, "team/app", "x")
	l.source.pushManifest(t, "team/app", "v1", m)
	broken := index(t, nil, m.descriptor(), descriptor(typeManifest, "nowhere"))
	l.both.send(t, "PUT", "/v2/team/app/manifests/mine", broken.body, "Content-Type: "+typeIndex).wants(t, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")
	assert.Empty(t, l.linked)
	l.both.send(t, "GET", "/v2/team/app/manifests/v1", nil).wants(t, http.StatusOK)
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
