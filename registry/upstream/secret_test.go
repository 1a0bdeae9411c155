package upstream_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

func TestErrorsHaveNoSecretsOfURLs(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	for name, lead := range map[string]string{
		"nobody there":    down.URL + "/blob?X-Amz-Signature=SECRET&x=y",
		"with a login":    strings.Replace(down.URL, "://", "://me:SECRET@", 1) + "/blob#SECRET",
		"forbidden":       "http://10.0.0.1/blob?X-Amz-Signature=SECRET",
		"another scheme":  "gopher://x/?SECRET",
		"no URL":          "http://x/%zz?SECRET",
		"the same, again": "/v2/library/app/blobs/?SECRET",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			m := newMirror(t, o.URL, impatient, loopback)
			o.answers(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Location", lead)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			})
			_, blob := m.pull(t, digest.FromString("x"))
			_, tag := m.tag(t, "v1")
			_, list := m.Tags(t.Context(), repository, "", 1)
			_, stat := m.StatBlob(t.Context(), repository, digest.FromString("x"))
			for _, err := range []error{blob, tag, list, stat} {
				require.Error(t, err)
				require.NotContains(t, err.Error(), "SECRET")
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			require.NotEmpty(t, m.events)
			for _, e := range m.events {
				if e.Err != nil {
					require.NotContains(t, e.Err.Error(), "SECRET")
				}
			}
		})
	}
}
