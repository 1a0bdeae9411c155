package upstream_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

func TestRepositoryThatFailsKeepsNoOtherOneFromNews(t *testing.T) {
	t.Parallel()
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()
	for name, fail := range map[string]http.HandlerFunc{
		"error":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"too slow": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"breaks":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"forbidden": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.2/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			o.push(t, "v1", []byte("one"))
			m := newMirror(t, o.URL, always, loopback, func(options *upstream.Options) {
				if name == "too slow" {
					options.AnswerTimeout = 10 * time.Second // for the other one, too, which must not need so long
				}
				options.ConfirmTimeout = 10 * time.Second
			})
			_, err := m.tag(t, "v1")
			require.NoError(t, err)
			o.answers(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "library/broken") {
					return false
				}
				fail(w, r)
				return true
			})
			for range 2 {
				_, err = m.Manifest(t.Context(), "library/broken", registry.Reference{Tag: "v1"})
				require.Error(t, err)
			}
			moved := o.push(t, "v1", []byte("two"))
			got, err := m.tag(t, "v1")
			require.NoError(t, err)
			require.Equal(t, moved.digest, got.Digest)
			require.Empty(t, got.Warning)
		})
	}
}

func TestRepositoryThatFailsIsNotAskedForNewsForAWhile(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, always)
	o.push(t, "v1", []byte("layer"))
	_, err := m.tag(t, "v1")
	require.NoError(t, err)
	o.says(http.StatusNotImplemented) // which is not tried again at once
	m.failsForLong(t, repository)
	o.forget()
	for range 3 {
		got, err := m.tag(t, "v1")
		require.NoError(t, err)
		require.NotEmpty(t, got.Warning)
	}
	require.Zero(t, o.asked("/"))
}

// failsForLong asks for so much that fails that it is not asked for news for a minute: no test takes so long.
func (m *mirror) failsForLong(t testing.TB, name string) {
	t.Helper()
	var done sync.WaitGroup
	for i := range 10 {
		done.Go(func() {
			_, err := m.Manifest(t.Context(), name, registry.Reference{Tag: "none" + strconv.Itoa(i)})
			assert.ErrorIs(t, err, registry.ErrUnavailable)
		})
	}
	done.Wait()
}

func TestUpstreamThatCannotBeReachedIsNotAskedForNewsOfAnything(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, always)
	i := o.push(t, "v1", []byte("layer"))
	o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", i.MediaType)
		_, _ = w.Write(i.Bytes)
		return true
	})
	names := []string{repository, "library/other"}
	for _, name := range names {
		_, err := m.Manifest(t.Context(), name, registry.Reference{Tag: "v1"})
		require.NoError(t, err)
	}
	o.Close()
	m.failsForLong(t, "library/third")
	for _, name := range names {
		got, err := m.Manifest(t.Context(), name, registry.Reference{Tag: "v1"})
		require.NoError(t, err)
		require.NotEmpty(t, got.Warning)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	last := len(m.events) - len(names)
	require.Contains(t, m.events[last-1].Err.Error(), "refused")
	for _, e := range m.events[last:] {
		require.Equal(t, upstream.Stale, e.Outcome)
		require.NotContains(t, e.Err.Error(), "refused", "who asks then is not kept waiting for a connection")
	}
}

func TestWhoAsksToBeLeftAloneIs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status   int
		after    string
		want     error
		from, to time.Duration
		asked    int
	}{
		"limited":          {http.StatusTooManyRequests, "600", registry.ErrTooManyRequests, 9 * time.Minute, 10 * time.Minute, 1},
		"busy":             {http.StatusServiceUnavailable, "600", registry.ErrUnavailable, 9 * time.Minute, 10 * time.Minute, 3},
		"limited for long": {http.StatusTooManyRequests, "86400", registry.ErrTooManyRequests, 59 * time.Minute, time.Hour, 1},
		"busy for long":    {http.StatusServiceUnavailable, "86400", registry.ErrUnavailable, 59 * time.Minute, time.Hour, 3},
	} {
		for who, path := range map[string]string{"upstream": "/", "token server": "/token"} {
			t.Run(who+" "+name, func(t *testing.T) {
				t.Parallel()
				o := newOrigin(t)
				m := newMirror(t, o.URL)
				o.answers(func(w http.ResponseWriter, r *http.Request) bool {
					if strings.HasPrefix(r.URL.Path, path) {
						w.Header().Set("Retry-After", test.after)
						w.WriteHeader(test.status)
						return true
					}
					w.Header().Set("Www-Authenticate", `Bearer realm="`+o.URL+`/token",service="origin"`)
					w.WriteHeader(http.StatusUnauthorized)
					return true
				})
				for _, name := range []string{repository, repository, "library/other"} {
					_, err := m.Manifest(t.Context(), name, registry.Reference{Tag: "v1"})
					require.ErrorIs(t, err, test.want)
					var retry *registry.RetryError
					require.ErrorAs(t, err, &retry)
					require.Greater(t, retry.After, test.from, "clients are told for how long")
					require.LessOrEqual(t, retry.After, test.to)
				}
				require.Equal(t, test.asked, o.asked(path), "one answer is enough of an upstream that limits; who is busy may be so with one thing")
			})
		}
	}
}

func TestRepositoryThatIsBusyIsLeftAloneAndNoOther(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", []byte("layer"))
	m := newMirror(t, o.URL, always)
	_, err := m.tag(t, "v1")
	require.NoError(t, err)
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, repository) {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		w.Header().Set("Content-Type", i.MediaType)
		_, _ = w.Write(i.Bytes)
		return true
	})
	o.forget()
	for range 3 {
		got, err := m.tag(t, "v1")
		require.NoError(t, err)
		require.NotEmpty(t, got.Warning)
		got, err = m.Manifest(t.Context(), "library/other", registry.Reference{Tag: "v1"})
		require.NoError(t, err)
		require.Empty(t, got.Warning)
	}
	require.Equal(t, 1, o.asked(repository), "it is asked for no news for as long as it wants")
}

// A host that the upstream sends clients to is not the upstream.
func TestWhereTheUpstreamLeadsSaysNothingAboutIt(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			m := newMirror(t, o.URL, always, loopback)
			i := o.push(t, "v1", []byte("layer"))
			e := newElsewhere(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "600")
				w.WriteHeader(status)
			})
			o.answers(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				http.Redirect(w, r, e.URL, http.StatusTemporaryRedirect)
				return true
			})
			_, err := m.tag(t, "v1")
			require.NoError(t, err)
			for range 2 {
				_, err = m.Blob(t.Context(), repository, i.layerDigest())
				require.ErrorIs(t, err, registry.ErrUnavailable)
				var retry *registry.RetryError
				require.ErrorAs(t, err, &retry)
				require.Equal(t, 10*time.Minute, retry.After, "clients are told for how long")
				got, err := m.tag(t, "v1")
				require.NoError(t, err)
				require.Empty(t, got.Warning)
			}
			require.Len(t, e.received(), 2)
		})
	}
}

func TestUpstreamThatIsBusyForAMomentIsAskedAgain(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL)
	i := o.push(t, "v1", []byte("layer"))
	o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
		if o.asked("/") > 1 {
			return false
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	began := time.Now()
	got, err := m.tag(t, "v1")
	require.NoError(t, err)
	require.Equal(t, i.digest, got.Digest)
	require.GreaterOrEqual(t, time.Since(began), time.Second, "as late as it asks for")
}

func TestUpstreamThatTakesNoHEADIsAskedByGET(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		o := newOrigin(t)
		meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
		m := newReplica(t, o.URL, meta, objects, always, func(options *upstream.Options) { options.StaleAge = -1 })
		i := o.push(t, "v1", []byte("one"))
		o.answers(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead {
				w.WriteHeader(status)
			}
			return r.Method == http.MethodHead
		})
		for range 2 {
			got, err := m.tag(t, "v1")
			require.NoError(t, err)
			require.Equal(t, i.digest, got.Digest)
			require.Empty(t, got.Warning)
		}
		found, err := m.StatBlob(t.Context(), repository, i.layerDigest())
		require.NoError(t, err)
		require.EqualValues(t, len(i.layer), found.Size)
		moved := o.push(t, "v1", []byte("two"))
		got, err := m.tag(t, "v1")
		require.NoError(t, err)
		require.Equal(t, moved.digest, got.Digest)
		require.NoError(t, o.registry.DeleteTag(t.Context(), repository, "v1"))
		_, err = m.tag(t, "v1")
		require.ErrorIs(t, err, registry.ErrManifestUnknown)
		_, err = meta.MirroredTag(t.Context(), store.MirrorPrefix+"hub/"+repository, "v1")
		require.Error(t, err, "what is gone upstream is gone here")
	}
}
