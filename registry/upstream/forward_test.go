package upstream_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
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
