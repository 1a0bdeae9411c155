package e2e_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// The index, or the objects, go while a client pulls through, and stay away while others do, of what is new and of what was
// kept before: all get the right bytes, which are not kept. When the stores are back, the next pull keeps them.
func TestPullsThroughOutliveTheirStores(t *testing.T) {
	if testing.Short() {
		t.Skip("stops servers")
	}
	t.Parallel()
	for name, pick := range map[string]func(*backendtest.PostgresServer, *backendtest.S3Server) *backendtest.Server{
		"PostgreSQL": func(index *backendtest.PostgresServer, _ *backendtest.S3Server) *backendtest.Server {
			return &index.Server
		},
		"MinIO": func(_ *backendtest.PostgresServer, objects *backendtest.S3Server) *backendtest.Server {
			return &objects.Server
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireOutlived(t, pick)
		})
	}
}

func requireOutlived(t *testing.T, pick func(*backendtest.PostgresServer, *backendtest.S3Server) *backendtest.Server) {
	t.Helper()
	upstream := startOcikitOrigin(t)
	begun, other, known := newPlainTree(t, 31, 8<<20, 100), newPlainTree(t, 32, 2<<20, 100), newPlainTree(t, 33, 2<<20, 100)
	pushTree(t, upstream.url, "library/begun", "v1", begun)
	pushTree(t, upstream.url, "library/other", "v1", other)
	pushTree(t, upstream.url, "library/known", "v1", known)
	slow := newSlowOrigin(t, upstream.url)
	index, objects := backendtest.NewPostgres(t), backendtest.NewMinIO(t)
	m := newBackendsOn(t, index, objects).startMirrorReplica(t, route{}, hub(slow.url))
	store := pick(index, objects)
	unkept := func() float64 {
		return m.metric(t, "ocikit_upstream_requests_total", `kind="blob"`, `outcome="unkept"`)
	}
	require.NoError(t, pullThrough(t.Context(), m, "hub/library/known", known, nil), "a pull before the store stops")
	m.awaitKept(t)

	slow.hold()
	half, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- pullThrough(t.Context(), m, "hub/library/begun", begun, func() { close(half) }) }()
	tooltest.RequireEvent(t, half, "the first half of the layer comes while the upstream holds the other")
	store.Stop(t)
	slow.open()
	require.NoError(t, <-done, "a pull that had begun when the store stopped")
	requireSoon(t, func() bool { return unkept() > 0 }, "what could not be kept is counted as unkept")

	before := unkept()
	require.NoError(t, pullThrough(t.Context(), m, "hub/library/other", other, nil), "a pull while the store is down")
	require.NoError(t, pullThrough(t.Context(), m, "hub/library/known", known, nil), "a pull of what the store has, while it is down")
	requireSoon(t, func() bool { return unkept() > before }, "what could not be kept is counted as unkept")

	store.Start(t)
	layer := childrenOf(t, other.Content[other.Root.Digest]).Layers[0].Digest.String()
	requireSoon(t, func() bool {
		m.awaitKept(t)
		asked := slow.askedFor(layer)
		require.NoError(t, pullThrough(t.Context(), m, "hub/library/other", other, nil), "a pull when the store is back")
		return maps.Equal(asked, slow.askedFor(layer))
	}, "what was pulled when the store was back is kept, so that the upstream is asked no more")
	upstream.end()
	require.NoError(t, pullThrough(t.Context(), m, "hub/library/other", other, nil), "a pull of what is kept, without the upstream")
}

// pullThrough pulls an image, and says when the first byte of the largest layer has come.
func pullThrough(ctx context.Context, m *mirror, repository string, tree *imagetest.Tree, began func()) error {
	pull := &treePull{client: newPushClient(m.URL()), repository: repository, tree: tree}
	pull.began = func(name imagetest.Digest) {
		if began != nil && len(tree.Content[name]) > heldSize {
			began()
		}
	}
	return pull.run(ctx)
}

// requireSoon polls.
func requireSoon(t *testing.T, holds func() bool, what string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("this should hold soon: %s", what)
		}
		<-tick.C
	}
}
