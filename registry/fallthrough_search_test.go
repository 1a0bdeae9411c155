package registry_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
)

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
		"blob of ours":                           {"team/own", getBlob(d), nil},
		"manifest":                               {"team/new", getManifest(registry.Reference{Digest: d}), nil},
		"manifest of ours":                       {"team/own", getManifest(registry.Reference{Digest: d}), registry.ErrManifestUnknown},
		"tag":                                    {"team/new", getManifest(registry.Reference{Tag: "v2"}), nil},
		"tag of ours, where all may be answered": {"team/own", getManifest(registry.Reference{Tag: "v2"}), nil},
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

// slow is a registry that answers after a minute, unless whoever asks has left.
type slow struct{ registry.Registry }

func (slow) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return nil
	}
}

func (s slow) Blob(ctx context.Context, repository string, d digest.Digest) (registry.Blob, error) {
	if err := s.wait(ctx); err != nil {
		return registry.Blob{}, err
	}
	return s.Registry.Blob(ctx, repository, d)
}

func (s slow) Manifest(ctx context.Context, repository string, ref registry.Reference) (registry.Manifest, error) {
	if err := s.wait(ctx); err != nil {
		return registry.Manifest{}, err
	}
	return s.Registry.Manifest(ctx, repository, ref)
}

// A source may wait itself, until a blob is kept or until it serves a tag as it was: nobody is to leave before.
func TestPullsFromALocalRepositoryWaitForASlowSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source, local := newLocal(nil), newLocal(nil)
		pushImage(t, source, "team/own")
		_, err := source.PushBlob(t.Context(), "team/own", digest.FromString("x"), strings.NewReader("x"), 1)
		require.NoError(t, err)
		m, err := source.Manifest(t.Context(), "team/own", registry.Reference{Tag: "v1"})
		require.NoError(t, err)
		_, err = source.PutManifest(t.Context(), "team/own", registry.ManifestPut{Bytes: m.Bytes, Tags: []string{"v2"}})
		require.NoError(t, err)
		pushImage(t, local, "team/own")
		r := registry.NewFallThrough(local, []registry.Source{{Registry: slow{source}}}, &registry.FallThroughOptions{Mix: true})
		require.NoError(t, getManifest(registry.Reference{Tag: "v2"})(t.Context(), r, "team/own"))
		blob, err := r.Blob(t.Context(), "team/own", digest.FromString("x"))
		require.NoError(t, err)
		body, err := blob.Open(t.Context(), 0, -1)
		require.NoError(t, err)
		read, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		assert.Equal(t, "x", string(read))
	})
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
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		require.ErrorIs(t, getBlob(digest.FromString("x"))(ctx, r, "team/new"), context.DeadlineExceeded, "who pulls waits")
		began = time.Now()
		require.ErrorIs(t, statBlob(digest.FromString("x"))(t.Context(), r, "team/new"), registry.ErrBlobUnknown)
		require.GreaterOrEqual(t, time.Since(began), 5*time.Second, "after a while it is waited for again")
		assert.Equal(t, map[string]int{"StatBlob": 21, "Blob": 1}, source.asked)
	})
}

// failing is a registry that has some blobs and fails at all else, at once or, as others do, by silence.
type failing struct {
	registry.Registry
	silent bool
}

func (f failing) StatBlob(ctx context.Context, repository string, d digest.Digest) (ocispec.Descriptor, error) {
	found, err := f.Registry.StatBlob(ctx, repository, d)
	if err == nil {
		return found, nil
	}
	if f.silent {
		<-ctx.Done()
	}
	return found, &registry.RetryError{Err: registry.ErrUnavailable}
}

func (failing) Tags(context.Context, string, string, int) ([]string, error) {
	return nil, &registry.RetryError{Err: registry.ErrUnavailable}
}

func (failing) Manifest(context.Context, string, registry.Reference) (registry.Manifest, error) {
	return registry.Manifest{}, &registry.RetryError{Err: registry.ErrUnavailable}
}

// A mirror whose upstream is down still has what it keeps, also for a push.
func TestSourceThatFailsStillHasWhatItKeeps(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]bool{"at once": false, "by silence": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				source, d := newLocal(nil), digest.FromString("x")
				_, err := source.PushBlob(t.Context(), "a", d, strings.NewReader("x"), 1)
				require.NoError(t, err)
				r := registry.NewFallThrough(newLocal(nil), []registry.Source{{Registry: failing{source, silent}}}, nil)
				_, err = r.Tags(t.Context(), "b", "", 10)
				require.ErrorIs(t, err, registry.ErrUnavailable)
				require.ErrorIs(t, getManifest(registry.Reference{Tag: "v1"})(t.Context(), r, "b"), registry.ErrUnavailable)
				began := time.Now()
				require.ErrorIs(t, statBlob(digest.FromString("y"))(t.Context(), r, "b"), registry.ErrBlobUnknown)
				if silent {
					require.Equal(t, 5*time.Second, time.Since(began), "what else fails is no reason to give up earlier")
				}
				require.NoError(t, statBlob(d)(t.Context(), r, "a"), "what it keeps")
			})
		})
	}
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
