package e2e_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/ocikit/ocikit/store"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// startMirrorReplica starts a replica on the backends that pulls through.
func (b *backends) startMirrorReplica(t *testing.T, by route, configuration []string, args ...string) *mirror {
	t.Helper()
	metrics := tooltest.FreeAddress(t)
	args = append([]string{"--metrics-listen", metrics, "--config", writeConfiguration(t, configuration...)}, args...)
	server := b.start(t, by, args...)
	return &mirror{Server: server, metrics: metrics}
}

// A crowd asks three replicas at once for an image that none of them has, and whose upstream stops in the middle of each
// layer. All of them have a first byte of everything then; each replica has asked for each blob once; when the upstream
// goes on, all get the right bytes, and one copy is kept.
func TestCrowdOnReplicasCostsTheUpstreamOneRequestEach(t *testing.T) {
	t.Parallel()
	const crowd, replicas = 50, 3
	tree := newPlainTree(t, 50, 8<<20, 3<<20, 100<<10, 100)
	upstream := startOcikitOrigin(t)
	pushTree(t, upstream.url, "library/app", "v1", tree)
	slow := newSlowOrigin(t, upstream.url)
	shared := newBackends(t, backendtest.MinIO(t))
	var mirrors []*mirror
	for range replicas {
		mirrors = append(mirrors, shared.startMirrorReplica(t, route{}, hub(slow.url)))
	}

	slow.hold()
	var first sync.WaitGroup
	first.Add(crowd * (len(tree.Content) - 1)) // all but the manifest
	pulls, ctx := errgroup.WithContext(t.Context())
	for number := range crowd {
		pull := &treePull{
			client: newPushClient(mirrors[number%replicas].URL()), repository: "hub/library/app", tree: tree,
			began: func(imagetest.Digest) { first.Done() },
		}
		pulls.Go(func() error { return pull.run(ctx) })
	}
	requireFirstBytes(t, ctx, &first, pulls)
	slow.open()
	require.NoError(t, pulls.Wait(), "every client must get the right bytes")

	for name, content := range tree.Content {
		what := name.String()
		if name == tree.Root.Digest {
			what = "v1"
		}
		asked := slow.askedFor(what)
		assert.NotEmpty(t, asked, "who asked for %s", what)
		assert.LessOrEqual(t, len(asked), replicas, "who asked for %s: no more than the replicas", what)
		for who, times := range asked {
			assert.Equal(t, 1, times, "how often %s asked for %s, of %d bytes", who, what, len(content))
		}
	}
	for _, m := range mirrors {
		m.awaitKept(t)
	}
	requireOneCopy(t, shared, tree)
}

// requireFirstBytes waits until all have a first byte. Pulls that end before have failed.
func requireFirstBytes(t *testing.T, ctx context.Context, first *sync.WaitGroup, pulls *errgroup.Group) {
	t.Helper()
	came := make(chan struct{})
	go func() { first.Wait(); close(came) }()
	select {
	case <-came:
	case <-ctx.Done():
		require.NoError(t, pulls.Wait(), "every client must get the first byte of each blob")
	case <-time.After(time.Minute):
		t.Fatal("every client must get the first byte of each blob while the upstream still holds the rest")
	}
}

// requireOneCopy requires that each blob that is too large for the index is one object, and that nothing else was kept. Replicas
// may have saved what they had when the upstream stood still for too long: a part of a blob, under the upload's own keys.
func requireOneCopy(t *testing.T, shared *backends, tree *imagetest.Tree) {
	t.Helper()
	const inline = 64 << 10
	var want, got []int64
	for _, content := range tree.Content {
		if len(content) > inline {
			want = append(want, int64(len(content)))
		}
	}
	stores := soakStores{shared}
	objects, err := stores.client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &shared.bucket})
	require.NoError(t, err)
	for _, object := range objects.Contents {
		if !strings.Contains(*object.Key, store.UploadPrefix) {
			got = append(got, *object.Size)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(t, want, got, "the sizes of the bucket's objects: one for each layer, and nothing else")
	conn := stores.connect(t)
	defer func() { _ = conn.Close(t.Context()) }()
	var garbage int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from ocikit.garbage where key not like $1", store.UploadPrefix+"%").Scan(&garbage))
	require.Zero(t, garbage, "nothing was kept twice, and has to be deleted")
}
