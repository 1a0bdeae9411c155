package upstream_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store"
)

type causeKey struct{}

// What is asked for upstream outlives whoever wants it first, and is asked for in his name all the same.
func TestUpstreamIsToldWhatTheCauseKnows(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(ctx context.Context, m *mirror, i image) error{
		"stat": func(ctx context.Context, m *mirror, i image) error {
			_, err := m.StatBlob(ctx, repository, i.layerDigest())
			return err
		},
		"blob": func(ctx context.Context, m *mirror, i image) error {
			_, err := m.Blob(ctx, repository, i.layerDigest())
			return err
		},
		"manifest": func(ctx context.Context, m *mirror, _ image) error {
			_, err := m.Manifest(ctx, repository, registry.Reference{Tag: "v1"})
			return err
		},
		"tags": func(ctx context.Context, m *mirror, _ image) error {
			_, err := m.Tags(ctx, repository, "", 10)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			i := o.push(t, "v1", content("layer", 1000))
			o.answers(func(_ http.ResponseWriter, r *http.Request) bool {
				assert.Equal(t, "ours", r.Header.Get("X-Key"))
				assert.Equal(t, "theirs", r.Header.Get("X-Cause"))
				return false
			})
			m := newMirror(t, o.URL, func(options *upstream.Options) {
				options.Header = http.Header{"X-Key": {"ours"}}
				options.Forward = func(ctx context.Context) http.Header {
					cause, _ := ctx.Value(causeKey{}).(string)
					return http.Header{"x-cause": {cause}}
				}
			})
			require.NoError(t, ask(context.WithValue(t.Context(), causeKey{}, "theirs"), m, i))
			assert.Positive(t, o.asked(repository))
		})
	}
}

// Who asks in the name of another registry may invent it, and be refused for that.
func TestWhatOneCauseIsRefusedOthersAreGiven(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusNotFound} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			i := o.push(t, "v1", content("layer", 1000))
			o.answers(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("X-Cause") == "" {
					return false
				}
				w.WriteHeader(status)
				return true
			})
			m := newMirror(t, o.URL, always, func(options *upstream.Options) {
				options.MissingAge = time.Hour
				options.Forward = func(ctx context.Context) http.Header {
					cause, _ := ctx.Value(causeKey{}).(string)
					return http.Header{"x-cause": {cause}}
				}
			})
			asking := context.WithValue(t.Context(), causeKey{}, "theirs")
			refused := func() {
				t.Helper()
				for _, ref := range []registry.Reference{{Tag: "v1"}, {Digest: digest.FromBytes([]byte("none"))}} {
					_, err := m.Manifest(asking, repository, ref)
					require.Error(t, err)
				}
				_, err := m.Tags(asking, repository, "", 10)
				if status == http.StatusForbidden {
					require.Error(t, err)
				}
				_, err = m.Referrers(asking, repository, i.digest, registry.ReferrersPage{Limit: 10})
				if status == http.StatusForbidden {
					require.Error(t, err)
				}
			}
			refused()
			_, err := m.StatBlob(asking, repository, i.layerDigest())
			require.Error(t, err)
			_, err = m.Blob(asking, repository, i.layerDigest())
			require.Error(t, err)

			given := func() {
				t.Helper()
				_, err := m.tag(t, "v1")
				require.NoError(t, err)
				require.Equal(t, []string{"v1"}, m.tags(t, 10))
				_, err = m.Referrers(t.Context(), repository, i.digest, registry.ReferrersPage{Limit: 10})
				require.NoError(t, err)
			}
			given()
			m.mustPull(t, i.layerDigest())
			refused() // though it is known, and is not forgotten by that
			_, err = m.meta.MirroredTag(t.Context(), store.MirrorPrefix+"hub/"+repository, "v1")
			require.NoError(t, err)
			given()
		})
	}
}
