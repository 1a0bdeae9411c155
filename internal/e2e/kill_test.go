package e2e_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

var (
	kills    = flag.Int("kills", 25, "how often the kill test kills the server")
	killSeed = flag.Uint64("kill-seed", 1, "the seed of what the kill test pushes, and of when it kills")
)

// Whatever the server had acknowledged when it was killed is there, and whole,
// when it is started again; uploads go on from where it says; nothing partial is
// ever visible.
//
// Several clients push at once, in all the ways that clients have. The server is
// killed after a random number of bytes that they handed over, plus a moment, so
// that it dies while it receives as well as while it makes durable. For a longer
// hunt: go test ./internal/e2e -run Kill -kills 1000 -kill-seed 7 -timeout 1h
func TestAcknowledgedPushesSurviveKill(t *testing.T) {
	if testing.Short() {
		t.Skip("kills a server many times")
	}
	t.Parallel()
	for name, args := range map[string][]string{"durable": nil, "without sync": {"--sync=false"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servertest.Start(t, append([]string{"--data", t.TempDir()}, args...)...)
			killAgainAndAgain(t, server)
		})
	}
}

func killAgainAndAgain(t *testing.T, server *servertest.Server) {
	const pusherCount = 6
	ctx := t.Context()
	client := newPushClient(server.URL())
	random := rand.New(rand.NewPCG(*killSeed, 0))
	var shot fuse
	var pushers []*pusher
	for number := range uint64(pusherCount) {
		p := newPusher(client, *killSeed, number+1)
		p.spend = shot.spend
		pushers = append(pushers, p)
	}
	// One upload is so long that it outlives several servers.
	require.NoError(t, pushers[0].startUpload(ctx, 48<<20))

	for kill := range *kills {
		shot.arm(random.Int64N(12 << 20))
		errs := pushUntilKilled(t, server, pushers, &shot, time.Duration(random.IntN(15))*time.Millisecond)
		for i, err := range errs {
			var lost *lostError
			require.ErrorAs(t, err, &lost, "pusher %d, before kill %d (seed %d)", i, kill, *killSeed)
		}
		server.Restart(t)
		client.http.CloseIdleConnections()
		var offered []mountable
		for _, p := range pushers {
			require.NoError(t, p.verify(ctx), "after kill %d (seed %d)", kill, *killSeed)
			offered = append(offered, p.offer()...)
		}
		for _, p := range pushers {
			p.mountable = offered
		}
	}

	shot.arm(1 << 60)
	blobs, manifests, resumed := 0, 0, 0
	for _, p := range pushers {
		if p.open != nil {
			require.NoError(t, p.resume(ctx), "go on after the last kill (seed %d)", *killSeed)
		}
		require.NoError(t, p.verify(ctx), "after the last kill (seed %d)", *killSeed)
		blobs, manifests, resumed = blobs+len(p.blobs), manifests+len(p.manifests), resumed+p.resumed
	}
	t.Logf("%d kills; %d blobs and %d manifests pushed, %d uploads went on", *kills, blobs, manifests, resumed)
	require.Greater(t, manifests, *kills, "fewer manifests than kills prove little")
	require.Greater(t, resumed, *kills/2, "fewer resumed uploads than that prove little")
}

// pushUntilKilled runs the pushers, kills the server a moment after the fuse has
// burnt down, and returns how each pusher ended.
func pushUntilKilled(t *testing.T, server *servertest.Server, pushers []*pusher, shot *fuse, moment time.Duration) []error {
	t.Helper()
	var killed atomic.Bool
	var group sync.WaitGroup
	errs := make([]error, len(pushers))
	for i, p := range pushers {
		group.Go(func() {
			errs[i] = p.run(t.Context())
			if !killed.Load() {
				errs[i] = errors.Join(errors.New("pushing failed before the server was killed"), hideLost(errs[i]))
			}
		})
	}
	deadline := time.NewTimer(5 * time.Minute)
	defer deadline.Stop()
	select {
	case <-shot.burnt:
	case <-deadline.C:
		t.Errorf("the pushers were stuck for five minutes")
	}
	timer := time.NewTimer(moment)
	defer timer.Stop()
	<-timer.C
	killed.Store(true)
	server.Kill()
	group.Wait()
	return errs
}

// hideLost keeps an error's text: a lost answer counts only if it was the kill
// that lost it.
func hideLost(err error) error { return errors.New(err.Error()) }

// fuse burns down as bytes are spent.
type fuse struct {
	left  atomic.Int64
	burnt chan struct{} // closed when nothing is left; replaced by arm
}

// arm makes the fuse so many bytes long. Nobody may spend meanwhile.
func (f *fuse) arm(bytes int64) {
	f.burnt = make(chan struct{})
	f.left.Store(bytes)
}

func (f *fuse) spend(n int) {
	left := f.left.Add(-int64(n))
	if left <= 0 && left+int64(n) > 0 {
		close(f.burnt)
	}
}

// startUpload leaves the pusher with an upload that takes many requests.
func (p *pusher) startUpload(ctx context.Context, size int64) error {
	location, err := p.client.start(ctx, p.repository)
	if err != nil {
		return err
	}
	content := randomBytes(p.random, size)
	p.open = &transfer{location: location, content: content, name: digest.FromBytes(content)}
	p.blobs[p.open.name] = false
	return nil
}

// offer returns a few blobs that others may mount.
func (p *pusher) offer() []mountable {
	var offered []mountable
	for name, acknowledged := range p.blobs {
		if acknowledged && len(offered) < 3 {
			offered = append(offered, mountable{repository: p.repository, name: name})
		}
	}
	return offered
}
