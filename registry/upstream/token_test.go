package upstream_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLargeTokensAreNotRemembered(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{1000: 1, 100_000: 2} {
		o := newOrigin(t)
		o.push(t, "v1", []byte("layer"))
		token := strings.Repeat("x", size)
		o.answers(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.URL.Path == "/token":
				_, _ = w.Write([]byte(`{"token":"` + token + `"}`))
			case r.Header.Get("Authorization") == "Bearer "+token:
				return false
			default:
				w.Header().Set("Www-Authenticate", `Bearer realm="`+o.URL+`/token",service="origin"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
			return true
		})
		m := newMirror(t, o.URL, always)
		for range 2 {
			_, err := m.tag(t, "v1")
			require.NoError(t, err)
		}
		require.Equal(t, want, o.asked("/token"), "of %d bytes", size)
	}
}
