package e2e_test

import (
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// Nothing is kept for longer than tests can wait. The servers leave collecting to ocikit gc beside them, and do not record what is
// pulled before they end: whatever was pulled, as far as anybody knows, is kept for two hours at least.
var (
	hastyServer = []string{"--gc-grace=1s", "--gc=false", "--gc-pause=1h"}
	hastyGC     = []string{"--grace=1s", "--delay=1s", "--redirect-expiry=0s", "--evict-idle=1s"}
)

// evict has all go that was not put within a second.
func (m *mirror) evict(t *testing.T) {
	t.Helper()
	servertest.Run(t, append([]string{"gc", "--data", m.data}, hastyGC...)...)
}

// A client reads a layer from the store while it is evicted, collected, and its file is deleted: it gets all of it. Who comes
// then gets it from the upstream again.
func TestTransferOutlivesTheEvictionOfWhatItReads(t *testing.T) {
	t.Parallel()
	const size = 24 << 20 // more than is on its way between a server and a client
	tree := newPlainTree(t, 51, size)
	layer := childrenOf(t, tree.Content[tree.Root.Digest]).Layers[0].Digest
	upstream := startOcikitOrigin(t)
	pushTree(t, upstream.url, "library/app", "v1", tree)
	slow := newSlowOrigin(t, upstream.url)
	m := startMirror(t, hub(slow.url), hastyServer...)
	pull := &treePull{client: newPushClient(m.URL()), repository: "hub/library/app", tree: tree}
	require.NoError(t, pull.run(t.Context()))
	m.awaitKept(t)
	require.Equal(t, 1, filesOf(t, m.data, size), "the files that have the layer's size")

	req, err := pull.client.request(t.Context(), http.MethodGet, "/v2/hub/library/app/blobs/"+layer.String(), nil, 0)
	require.NoError(t, err)
	resp, err := pull.client.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	requireSoon(t, func() bool {
		m.evict(t)
		return filesOf(t, m.data, size) == 0
	}, "the layer is evicted, and its file is deleted")
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err, "a transfer that had begun before the file was deleted")
	require.Equal(t, layer, digest.FromBytes(content), "the digest of what came")

	require.NoError(t, pull.run(t.Context()), "the next pull")
	for _, times := range slow.askedFor(layer.String()) {
		require.Equal(t, 2, times, "how often the upstream was asked for the layer: once before it was evicted, and once after")
	}
}

// filesOf counts the files of a size.
func filesOf(t *testing.T, folder string, size int64) (count int) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // it has gone meanwhile
		}
		if info, err := entry.Info(); err == nil && info.Size() == size {
			count++
		}
		return nil
	}))
	return count
}

// Many clients pull the same few images through, again and again, and all of them are evicted and collected all the time:
// no pull fails, none is cut off, and every byte is right. An image that was pushed here, of the same layers, stays.
func TestPullsThroughGoOnWhileAllIsEvicted(t *testing.T) {
	if testing.Short() {
		t.Skip("pulls and evicts for a while")
	}
	t.Parallel()
	t.Run("sqlite and filesystem", func(t *testing.T) {
		t.Parallel()
		requirePullsGoOn(t, func(t *testing.T, configuration []string) ([]*mirror, func()) {
			t.Helper()
			m := startMirror(t, configuration, hastyServer...)
			return []*mirror{m}, func() { m.evict(t) }
		})
	})
	t.Run("replicas", func(t *testing.T) {
		t.Parallel()
		requirePullsGoOn(t, func(t *testing.T, configuration []string) (mirrors []*mirror, evict func()) {
			t.Helper()
			shared := newBackends(t, backendtest.MinIO(t))
			for range 3 {
				mirrors = append(mirrors, shared.startMirrorReplica(t, route{}, configuration, hastyServer...))
			}
			args := append([]string{"gc", "--database", shared.database, "--objects", shared.objectsURL(route{})}, hastyGC...)
			return mirrors, func() { servertest.RunEnv(t, shared.credentials(), args...) }
		})
	})
}

func requirePullsGoOn(t *testing.T, start func(t *testing.T, configuration []string) (mirrors []*mirror, evict func())) {
	t.Helper()
	const (
		images, clients = 6, 12
		blobs           = 4                       // of each image
		phases          = 5                       // in each, half of the images have a rest
		rests           = 3500 * time.Millisecond // and it lasts so long, at the least,
		looks           = 4                       // and through so many looks for what to evict
	)
	upstream := startOcikitOrigin(t)
	names := [images]string{"a", "b", "c", "d", "e", "f"}
	var trees [images]*imagetest.Tree
	for i, name := range names {
		trees[i] = newPlainTree(t, uint64(52+i), 3<<20, 200<<10, 100)
		pushTree(t, upstream.url, "library/"+name, "v1", trees[i])
	}
	mirrors, evict := start(t, hub(upstream.url))
	pushTree(t, mirrors[0].URL(), "team/own", "v1", trees[0])

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var phase, pulled atomic.Int64
	group, failed := errgroup.WithContext(ctx)
	for number := range uint64(clients) {
		client, random := newPushClient(mirrors[int(number)%len(mirrors)].URL()), rand.New(rand.NewPCG(52, number))
		group.Go(func() error {
			for failed.Err() == nil {
				i := (random.IntN(images/2)*2 + int(phase.Load())) % images
				pull := &treePull{client: client, repository: "hub/library/" + names[i], tree: trees[i]}
				if err := pull.run(t.Context()); err != nil { // not ctx: what has begun is brought to its end
					return err
				}
				pulled.Add(1)
			}
			return nil
		})
	}
	for failed.Err() == nil && phase.Load() < phases {
		began := time.Now()
		for look := 0; failed.Err() == nil && (look < looks || time.Since(began) < rests); look++ {
			evict()
		}
		phase.Add(1)
	}
	stop()
	require.NoError(t, group.Wait(), "every pull must succeed, with the right bytes")
	var fetched, layers float64
	for _, m := range mirrors {
		(&registry{url: m.URL()}).requireTree(t, "team/own", "v1", trees[0])
		fetched += m.metric(t, "ocikit_upstream_requests_total", `kind="manifest"`, `outcome="fetched"`)
		layers += m.metric(t, "ocikit_upstream_requests_total", `kind="blob"`, `outcome="fetched"`)
	}
	t.Logf("%d pulls; manifests came %.0f times, blobs %.0f times", pulled.Load(), fetched, layers)
	assert.GreaterOrEqual(t, fetched, float64(phases*images/2), "how often manifests came: after each rest again")
	assert.Greater(t, layers, float64(images*blobs), "how often blobs came, some again after they were collected")
}
