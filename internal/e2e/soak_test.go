package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	soakTime = flag.Duration("soak", 90*time.Second, "how long the soak lasts")
	soakSeed = flag.Uint64("soak-seed", 0, "what the soak's choices come from; 0: the time")
)

// soak is replicas with collectors on all of them, on stores that break, while many clients push and delete.
type soak struct {
	*backends
	*soakWorld
	random   *rand.Rand
	index    *faulttest.TCP
	objects  *faulttest.HTTP
	servers  []*servertest.Server
	postgres *backendtest.PostgresServer

	disturbances *soakDeck[func(*testing.T, context.Context)]
	troubles     *soakDeck[func()]

	kills, faults, audits int
	watch                 *soakWatch
	stores                soakStores
}

// collectorArgs make everything due at once: what is safe for an hour must be safe for a second. The delay covers a pull that has
// found where a blob is, and has not begun to read it.
var collectorArgs = []string{
	"--gc-grace", "2s", "--gc-delay", "3s", "--gc-pause", "200ms", "--gc-share", "0.5", "--write-timeout", "4s", "--upload-idle", "8s", "--log-level", "warn",
}

// Whatever happens, for as long as it lasts: what was acknowledged and not deleted can be pulled whole, byte for byte; and
// when all is deleted, nothing is left anywhere. For longer, and again:
//
//	go test ./internal/e2e -run TestSoak -soak 1h -soak-seed N -timeout 2h -v
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("pushes, deletes, breaks and collects for a while")
	}
	t.Parallel()
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) //nolint:gosec // any number does
	}
	t.Logf("-soak-seed %d", seed)
	s := newSoak(t, seed)
	defer s.logFigures(t) // also of a soak that failed

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	clients := s.startClients(t, ctx, seed)
	s.disturbFor(t, *soakTime)
	cancel()
	s.calm(t)
	clients.Wait()
	s.requireNoWrongs(t)
	s.pullAll(t, seed)
	s.requireNoWrongs(t)
	s.deleteEverything(t)
	s.requireNothingLeft(t)
	s.watch.requireNoMultiparts(t, s.stores)
	s.requireFigures(t)
}

func newSoak(t *testing.T, seed uint64) *soak {
	t.Helper()
	s := &soak{random: rand.New(rand.NewPCG(seed, 0)), postgres: backendtest.NewPostgres(t)}
	s.backends = newBackendsOn(t, s.postgres, backendtest.NewMinIO(t))
	s.index = faulttest.NewTCP(t, s.postgres.Address())
	s.objects, s.watch = faulttest.NewHTTP(t, s.store.Endpoint()), newSoakWatch()
	s.objects.Intercept(s.watch.intercept)
	s.stores = soakStores{s.backends}
	var urls []string
	for range 3 {
		server := s.start(t, route{postgres: s.index.Address(), s3: s.objects.URL(), options: partsOf("5MiB")}, collectorArgs...)
		s.servers, urls = append(s.servers, server), append(urls, server.URL())
	}
	s.soakWorld = newSoakWorld(seed, urls)
	s.drop = func(repository string) {
		told, status := servertest.RunStatus(t, nil, "delete-repository", repository, "--database", s.database)
		if status != 0 && !strings.Contains(told, "no repository is called") { // it went with its last image
			s.wrong("delete-repository %s: %s", repository, told)
		}
	}
	s.disturbances = &soakDeck[func(*testing.T, context.Context)]{random: s.random, cards: []func(*testing.T, context.Context){
		s.audit, s.kill, s.kill, s.kill, s.fault, s.fault, s.fault, s.fault, s.fault, s.fault,
	}}
	s.troubles = &soakDeck[func()]{random: s.random, cards: s.allTroubles(t)}
	return s
}

// startClients starts those who push and delete, and those who only pull.
func (s *soak) startClients(t *testing.T, ctx context.Context, seed uint64) *sync.WaitGroup {
	t.Helper()
	const pushers, pullers = 8, 3
	group := &sync.WaitGroup{}
	for number := range pushers {
		group.Go(func() { assert.NoError(t, newSoakClient(s.soakWorld, seed, number).run(ctx)) })
	}
	for number := range pullers {
		puller := newSoakClient(s.soakWorld, seed, pushers+number)
		group.Go(func() {
			for ctx.Err() == nil {
				assert.NoError(t, puller.pull(context.WithoutCancel(ctx), s.any(puller.decisions.Uint64())))
				wait(ctx, 20*time.Millisecond)
			}
		})
	}
	return group
}

// disturbFor does one thing after the other to the replicas or to what they need, each for a moment, and each at least once: on a slow
// machine that may take longer. What it does follows from the seed and from nothing else; when, and how often, from how long it takes.
func (s *soak) disturbFor(t *testing.T, duration time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	for done := 0; ctx.Err() == nil || done < len(s.disturbances.cards); done++ {
		wait(ctx, time.Duration(s.random.IntN(1500))*time.Millisecond)
		s.disturbances.deal()(t, t.Context())
	}
}

// kill kills a replica, and starts it again.
func (s *soak) kill(t *testing.T, ctx context.Context) {
	t.Helper()
	server := s.servers[s.random.IntN(len(s.servers))]
	server.Kill()
	s.kills++
	wait(ctx, time.Duration(s.random.IntN(1000))*time.Millisecond)
	server.Restart(t)
}

// fault lets something happen to the stores.
func (s *soak) fault(t *testing.T, ctx context.Context) {
	t.Helper()
	s.troubles.deal()()
	s.faults++
	wait(ctx, time.Duration(s.random.IntN(2000))*time.Millisecond)
	s.calm(t)
}

// audit compares the bucket with the index while everything goes on: nothing that is stored may be found to be missing or wrong.
func (s *soak) audit(t *testing.T, _ context.Context) {
	t.Helper()
	told, _ := servertest.RunStatus(t, s.credentials(), "audit", "--deep", "--database", s.database, "--objects", s.objectsURL(route{}))
	require.Contains(t, told, "contents compared")
	for line := range strings.Lines(told) {
		kind, _, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"missing", "size", "data", "found", "broken"}, kind) {
			s.wrong("an audit found: %s", line)
		}
	}
	s.audits++
}

// allTroubles are what can happen to the stores.
func (s *soak) allTroubles(t *testing.T) []func() {
	return []func(){
		s.index.Cut,
		func() { s.index.Delay(20 * time.Millisecond) },
		func() { s.index.Refuse(t, true); s.index.Cut() },
		func() { s.index.LoseAnswer(faulttest.Contains("commit")) },
		func() {
			s.watch.disturb(nowAndThen(faulttest.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}))
		},
		func() { s.watch.disturb(nowAndThen(faulttest.Fault{LoseAnswer: true})) },
		func() { s.watch.disturb(nowAndThen(faulttest.Fault{Cut: true})) },
		func() { s.watch.disturb(nowAndThen(faulttest.Fault{CutRequestAfter: 1000})) },
		func() { s.watch.disturb(faulttest.Every(faulttest.Fault{Delay: 200 * time.Millisecond})) },
		func() {
			s.watch.disturb(faulttest.Every(faulttest.Fault{Status: http.StatusInternalServerError, Code: "InternalError"},
				faulttest.DeleteObjects, faulttest.CompleteMultipartUpload))
		},
	}
}

func (s *soak) calm(t *testing.T) {
	t.Helper()
	s.index.Delay(0)
	s.index.Refuse(t, false)
	s.watch.disturb(nil)
}

func (s *soak) requireNoWrongs(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, wrong := range s.wrongs {
		assert.NoError(t, wrong)
	}
	require.Empty(t, s.wrongs, "violations")
}

// pullAll pulls every image that was acknowledged.
func (s *soak) pullAll(t *testing.T, seed uint64) {
	t.Helper()
	puller := newSoakClient(s.soakWorld, seed, 99)
	for _, image := range slices.Clone(s.images) {
		require.NoError(t, puller.pull(t.Context(), image))
	}
	require.NoError(t, puller.pullTags(t.Context()))
}

// deleteEverything deletes half of the images one by one, and the rest with their repositories.
func (s *soak) deleteEverything(t *testing.T) {
	t.Helper()
	deleter := newSoakClient(s.soakWorld, 1, 100)
	repositories := map[string]bool{}
	for i, image := range slices.Clone(s.images) {
		repositories[image.repository] = true
		if i%2 == 0 {
			require.NoError(t, deleter.deleteImage(t.Context(), image))
		}
	}
	s.images = nil
	for repository := range repositories {
		s.drop(repository)
	}
	s.requireNoWrongs(t)
}

// requireNothingLeft waits until all is collected.
func (s *soak) requireNothingLeft(t *testing.T) {
	t.Helper()
	settle := func() (left string) {
		for range 240 {
			if left = s.stores.left(t); left == "" {
				break
			}
			wait(t.Context(), 250*time.Millisecond)
		}
		return left
	}
	t.Logf("before the audit: %s", settle())
	t.Log(servertest.RunEnv(t, s.credentials(), "audit", "--repair", "--force", "--safe-age", "0s", "--database", s.database, "--objects", s.objectsURL(route{})))
	require.Empty(t, settle(), "what is left when everything was deleted and collected")
}

func (s *soak) logFigures(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.figures
	t.Logf("%d kills, %d faults, %d audits, %d blobs collected, %d violations", s.kills, s.faults, s.audits, s.watch.collections(), len(s.wrongs))
	t.Logf("%d steps: %d images pushed, %d pulled, %d deleted, %d repositories deleted, %d tags moved, %d pulled, %d blobs mounted, %d found by HEAD; %d uploads went on, %d abandoned, %d taken over, %d writers fenced off; "+
		"%d manifests refused for a layer that was collected, %d requests sent again", f.steps.Load(), f.pushes.Load(), f.pulls.Load(), f.deletes.Load(), f.dropped.Load(), f.retags.Load(), f.tags.Load(),
		f.mounts.Load(), f.kept.Load(), f.resumed.Load(), f.abandoned.Load(), f.taken.Load(), f.fenced.Load(), f.refused.Load(), f.again.Load())
}

// requireFigures fails a soak that did too little, which must not happen by chance. Kills and faults are dealt: the least of both in
// 90 s is what one round of the deck has, which every soak brings to its end. Each of the eight clients takes an upload over once in 15
// steps, and mostly fences a writer off. At a load of twelve on two cores a client takes 70 steps in 90 s, and of all else there is six
// times what is asked for.
func (s *soak) requireFigures(t *testing.T) {
	t.Helper()
	f := &s.figures
	for what, figure := range map[string]struct{ count, least int64 }{ // the least in 90 s
		"kills": {int64(s.kills), 3}, "faults": {int64(s.faults), 6}, "audits": {int64(s.audits), 1}, "blobs collected": {int64(s.watch.collections()), 60},
		"writers fenced off": {f.fenced.Load(), 3}, "tags pulled": {f.tags.Load(), 5}, "blobs mounted": {f.mounts.Load(), 5},
		"images pushed": {f.pushes.Load(), 30}, "images pulled": {f.pulls.Load(), 30}, "images deleted": {f.deletes.Load(), 30},
	} {
		least := figure.least * int64(*soakTime) / int64(90*time.Second)
		assert.GreaterOrEqual(t, figure.count, least, "%s: there must be enough of them for the soak to mean something", what)
	}
}

// soakStores look at what is stored, past the replicas.
type soakStores struct{ *backends }

// left tells what is in the tables and in the bucket, or "".
func (s soakStores) left(t *testing.T) string {
	t.Helper()
	var left []string
	conn := s.connect(t)
	defer func() { _ = conn.Close(t.Context()) }()
	for _, table := range []string{
		"repositories", "contents", "links", "manifests", "edges", "tags", "sessions", "parts", "tails", "candidates", "garbage",
	} {
		var rows int
		require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from ocikit."+table).Scan(&rows))
		if rows > 0 {
			left = append(left, fmt.Sprintf("%d %s", rows, table))
		}
	}
	var garbage string
	require.NoError(t, conn.QueryRow(t.Context(),
		`select coalesce(string_agg(key || ', taken ' || tries || ' times', '; '), '') from (select * from ocikit.garbage limit 3) g`).Scan(&garbage))
	if garbage != "" {
		left = append(left, garbage)
	}
	client := s.client()
	objects, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &s.bucket})
	require.NoError(t, err)
	if len(objects.Contents) > 0 {
		left = append(left, fmt.Sprintf("%d objects, among them %s", len(objects.Contents), *objects.Contents[0].Key))
	}
	return strings.Join(left, ", ")
}

func (s soakStores) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	return conn
}

func (s soakStores) client() *s3.Client {
	return s3.New(s3.Options{
		Region:       s.store.Region(),
		BaseEndpoint: aws.String(s.store.Endpoint()),
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(s.store.AccessKey(), s.store.SecretKey(), ""),
	})
}
