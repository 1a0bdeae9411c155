package e2e_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// BenchmarkCollectFromABucket lets one collector collect blobs, each an object of its own, from PostgreSQL and MinIO.
func BenchmarkCollectFromABucket(b *testing.B) {
	const blobs, clients = 4000, 8
	shared := newBackends(b, backendtest.MinIO(b))
	replica := shared.start(b, route{}, "--gc=false")
	client := newPushClient(replica.URL())
	content := randomBytes(rand.New(rand.NewPCG(3, 3)), 65<<10) // more than is kept inline
	var collected, seconds float64
	round := uint64(0)
	for b.Loop() {
		b.StopTimer()
		var group sync.WaitGroup
		for number := range uint64(clients) {
			group.Go(func() {
				own := bytes.Clone(content)
				for i := range uint64(blobs / clients) {
					binary.BigEndian.PutUint64(own, round<<40|number<<32|i)
					if err := client.putBlob(b.Context(), "team/app", digest.FromBytes(own), bytes.NewReader(own), int64(len(own))); err != nil {
						b.Error(err)
					}
				}
			})
		}
		group.Wait()
		round++
		b.StartTimer()
		began := time.Now()
		told := servertest.RunEnv(b, shared.credentials(), "gc", "--json", "--grace=1ns", "--delay=1ns", "--redirect-expiry=0s", "--write-timeout=1ns",
			"--database", shared.database, "--objects", shared.objectsURL(route{}))
		seconds += time.Since(began).Seconds()
		var stats gc.Stats
		require.NoError(b, json.Unmarshal([]byte(told), &stats))
		require.Equal(b, blobs, stats.Contents)
		require.Equal(b, blobs, stats.Objects)
		collected += blobs
	}
	b.ReportMetric(collected/seconds*60, "blobs/min")
}

// BenchmarkClientsBesideACollector tells how long clients wait, at the 99th percentile, on a replica that collects, and on one that does
// not. What is pushed and pulled is an image of up to three layers, whole: its manifest, its config and its layers. What is collected are
// blobs that come meanwhile and that nothing refers to, some hundreds a second; or a backlog that has no end, so that the collector
// works all the time, as fast as its share of the time lets it.
func BenchmarkClientsBesideACollector(b *testing.B) {
	for _, each := range []neighbours{
		{name: "small", largest: 64 << 10, stream: true},
		{name: "large", largest: 4 << 20, stream: true},
		{name: "small, a backlog", largest: 64 << 10, backlog: 40_000},
		{name: "large, a backlog", largest: 4 << 20, backlog: 40_000},
	} {
		b.Run(each.name, each.measure)
	}
}

// neighbours are clients and what is collected beside them.
type neighbours struct {
	name    string
	largest int64 // bounds layers
	stream  bool  // whether garbage comes while clients push and pull
	backlog int   // how much of it there is before
}

// neighbourhood is a replica, and how long clients waited for it.
type neighbourhood struct {
	name      string
	collects  bool
	shared    *backends
	client    *pushClient
	round     uint64
	collected int
	seconds   float64

	mu    sync.Mutex
	waits map[string][]time.Duration
}

func (n neighbours) measure(b *testing.B) {
	const phase = 10 * time.Second
	idle := newNeighbourhood(b, "idle", "--gc=false", "--gc-pause=5s") // both record pulls, as often
	collecting := newNeighbourhood(b, "collecting", "--gc-grace=500ms", "--gc-delay=500ms", "--gc-pause=5s", "--write-timeout=1s")
	collecting.collects = true
	for b.Loop() {
		for _, side := range []*neighbourhood{idle, collecting} {
			side.live(b, n, phase)
		}
	}
	for _, side := range []*neighbourhood{idle, collecting} {
		for what, waits := range side.waits {
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, side.name+"-"+what+"-p99-ms")
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, side.name+"-"+what+"-median-ms")
		}
	}
	if n.backlog > 0 {
		b.ReportMetric(float64(collecting.collected)/collecting.seconds, "collected/s")
	}
}

func newNeighbourhood(b *testing.B, name string, args ...string) *neighbourhood {
	b.Helper()
	shared := newBackends(b, backendtest.MinIO(b))
	replica := shared.start(b, route{}, append(args, "--log-level=warn")...)
	return &neighbourhood{name: name, shared: shared, client: newPushClient(replica.URL()), waits: map[string][]time.Duration{}}
}

// live has clients push and pull for a while.
func (h *neighbourhood) live(b *testing.B, n neighbours, phase time.Duration) {
	b.Helper()
	h.round++
	if n.backlog > 0 {
		h.pile(b, n.backlog)
	}
	if n.backlog > 0 && h.collects {
		h.awaitCollector(b, n.backlog)
	}
	ctx, cancel := context.WithTimeout(b.Context(), phase)
	defer cancel()
	var group sync.WaitGroup
	if n.stream {
		for number := range uint64(4) {
			group.Go(func() { h.litter(b, ctx, number) })
		}
	}
	for number := range uint64(2) {
		group.Go(func() { h.pushAndPull(b, ctx, n.largest, number) })
	}
	group.Wait()
	if n.backlog == 0 {
		return
	}
	left := h.clear(b)
	if !h.collects {
		return
	}
	if left == 0 {
		b.Skipf("a backlog of %d is nothing to this machine: it must keep the collector at work all along", n.backlog)
	}
	h.collected, h.seconds = h.collected+n.backlog-left, h.seconds+phase.Seconds()
}

// litter pushes blobs that nothing will refer to.
func (h *neighbourhood) litter(b *testing.B, ctx context.Context, number uint64) {
	b.Helper()
	content := randomBytes(rand.New(rand.NewPCG(4, 4)), 65<<10) // more than is kept inline
	for i := uint64(0); ctx.Err() == nil; i++ {
		binary.BigEndian.PutUint64(content, h.round<<48|number<<40|i)
		if err := h.client.putBlob(b.Context(), "garbage", digest.FromBytes(content), bytes.NewReader(content), int64(len(content))); err != nil {
			b.Error(err)
		}
		wait(ctx, 10*time.Millisecond)
	}
}

// pushAndPull pushes images, and pulls each.
func (h *neighbourhood) pushAndPull(b *testing.B, ctx context.Context, largest int64, number uint64) {
	b.Helper()
	took := func(what string, began time.Time) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.waits[what] = append(h.waits[what], time.Since(began))
	}
	pusher := newPusher(h.client, h.round, number)
	pusher.largest = largest
	for ctx.Err() == nil {
		began := time.Now()
		if err := pusher.pushImage(b.Context()); err != nil {
			b.Error(err)
			return
		}
		took("push", began)
		for name := range pusher.manifests { // any
			began := time.Now()
			if err := pullImage(b.Context(), h.client, pusher.repository, name); err != nil {
				b.Error(err)
				return
			}
			took("pull", began)
			break
		}
		wait(ctx, 5*time.Millisecond)
	}
}

// pile makes a backlog: content that nothing refers to, known to the index, whose objects the bucket does not have. To the index and to
// the bucket that is the same work, and it takes seconds where pushes would take minutes.
func (h *neighbourhood) pile(b *testing.B, count int) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), h.shared.database)
	require.NoError(b, err)
	defer func() { _ = conn.Close(b.Context()) }()
	_, err = conn.Exec(b.Context(), fmt.Sprintf(`
		begin;
		set local search_path = ocikit, pg_catalog;
		insert into repositories (name, created) values ('pile', now()) on conflict (name) do nothing;
		create temporary table pile on commit drop as
			select 'sha256:' || encode(sha256(('pile %[1]d ' || i)::bytea), 'hex') as digest, 'pile/%[1]d-' || i as key from generate_series(1, %[2]d) i;
		insert into contents (digest, size, key) select digest, 10, key from pile;
		insert into links (repository, digest) select (select id from repositories where name = 'pile'), digest from pile;
		insert into candidates (repository, digest, touched) select 'pile', digest, now() - interval '2 days' from pile;
		commit`, h.round, count), pgx.QueryExecModeSimpleProtocol)
	require.NoError(b, err)
}

// awaitCollector waits until the collector has found the backlog.
func (h *neighbourhood) awaitCollector(b *testing.B, backlog int) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), h.shared.database)
	require.NoError(b, err)
	defer func() { _ = conn.Close(b.Context()) }()
	for left := backlog; left == backlog; {
		wait(b.Context(), 50*time.Millisecond)
		require.NoError(b, conn.QueryRow(b.Context(), `select count(*) from ocikit.candidates where repository = 'pile'`).Scan(&left))
	}
}

// clear takes what is left of the backlog away, so that nobody works on it while others are measured, and returns how much that was. What is
// in the bucket's turn counts as left. It cleans up as the database itself does from time to time: nobody else leaves so much behind at once.
func (h *neighbourhood) clear(b *testing.B) (left int) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), h.shared.database)
	require.NoError(b, err)
	defer func() { _ = conn.Close(b.Context()) }()
	remove := func(statement string) int {
		done, err := conn.Exec(b.Context(), statement)
		require.NoError(b, err)
		return int(done.RowsAffected())
	}
	remove(`delete from ocikit.candidates where repository = 'pile'`)
	remove(`delete from ocikit.links where repository = (select id from ocikit.repositories where name = 'pile')`)
	left = remove(`delete from ocikit.contents where key like 'pile/%'`)
	left += remove(`delete from ocikit.garbage where key like 'pile/%'`)
	_, err = conn.Exec(b.Context(), `vacuum analyze`)
	require.NoError(b, err)
	return left
}

// pullImage pulls a manifest, its config and its layers, one after the other, and looks at their lengths.
func pullImage(ctx context.Context, client *pushClient, repository string, name digest.Digest) error {
	content, err := client.get(ctx, repository+"/manifests/"+name.String())
	if err != nil {
		return err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(content, &manifest); err != nil {
		return fmt.Errorf("decode manifest %s: %w", name, err)
	}
	for _, blob := range append(manifest.Layers, manifest.Config) {
		content, err := client.get(ctx, repository+"/blobs/"+blob.Digest.String())
		if err != nil {
			return err
		}
		if int64(len(content)) != blob.Size {
			return fmt.Errorf("blob %s of %s has %d bytes, should have %d", blob.Digest, name, len(content), blob.Size)
		}
	}
	return nil
}
