package upstream_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry/upstream"
)

// slowLists has lists of library/slow… held by what is called, until a test ends; they are asked for in the background.
func (o *origin) slowLists(t testing.TB, m *mirror, n int, hold func(w http.ResponseWriter)) {
	t.Helper()
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "library/slow") {
			return false
		}
		hold(w)
		<-r.Context().Done()
		return true
	})
	ctx, leave := context.WithCancel(t.Context())
	t.Cleanup(leave)
	for i := range n {
		go func() { _, _ = m.Tags(ctx, "library/slow"+strconv.Itoa(i), "", 10) }()
	}
	eventually(t, "all are asked for", func() bool { return o.asked("library/slow") == n })
}

// Two registries that fall through to each other would each wait for the other's turn.
func TestListsWaitForNoneThatTheUpstreamHasNotBegunToAnswer(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.push(t, "v1", []byte("layer"))
	m := newMirror(t, o.URL)
	o.slowLists(t, m, 20, func(http.ResponseWriter) {})
	require.Equal(t, []string{"v1"}, m.tags(t, 10))
}

func TestKnownListIsServedWhileOthersTakeLongToCome(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.push(t, "v1", []byte("layer"))
	m := newMirror(t, o.URL, always)
	require.Equal(t, []string{"v1"}, m.tags(t, 10))
	o.slowLists(t, m, 4, func(w http.ResponseWriter) {
		fmt.Fprint(w, `{"tags":[`)
		_ = http.NewResponseController(w).Flush()
	})
	eventually(t, "it is served as it was", func() bool {
		require.Equal(t, []string{"v1"}, m.tags(t, 10))
		return m.outcomes()["manifest stale"] > 0
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.IndexFunc(m.events, func(e upstream.Event) bool { return e.Outcome == upstream.Stale })
	require.ErrorContains(t, m.events[at].Err, "many lists")
}

// The more pages a list has, the less it is read: of few it is always asked for where tags are.
func TestListsOfManyPagesAreNotReadAllTheTime(t *testing.T) {
	t.Parallel()
	for pages, want := range map[int]int{1: 2, 12: 12} {
		t.Run(strconv.Itoa(pages), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			o.answers(func(w http.ResponseWriter, r *http.Request) bool {
				page, _ := strconv.Atoi(r.URL.Query().Get("page"))
				time.Sleep(1200 * time.Millisecond / time.Duration(pages))
				if page < pages-1 {
					w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, page+1))
				}
				_, err := fmt.Fprintf(w, `{"tags":["v%d"]}`, page)
				assert.NoError(t, err)
				return true
			})
			m := newMirror(t, o.URL, always)
			for range 2 {
				require.Len(t, m.tags(t, 100), pages)
			}
			require.Equal(t, want, o.asked("tags/list"))
		})
	}
}

func TestListEndsWithAnEmptyPageThatLinksToItself(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Link", `<`+r.URL.Path+`?n=1&last=v1>; rel="next"`)
		tags := "[]"
		if r.URL.Query().Get("last") == "" {
			tags = `["v1"]`
		}
		fmt.Fprintf(w, `{"tags":%s}`, tags)
		return true
	})
	require.Equal(t, []string{"v1"}, newMirror(t, o.URL).tags(t, 10))
	require.Equal(t, 2, o.asked("tags/list"))
}
