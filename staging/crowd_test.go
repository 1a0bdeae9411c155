package staging_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

// pipe is what bytes pass through one after the other, at a rate: a network card.
type pipe struct {
	rate int64 // bytes a second

	mu   sync.Mutex
	free time.Time // when what is in it will have passed
}

// pass waits until n bytes have passed.
func (p *pipe) pass(n int) {
	p.mu.Lock()
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
	wait := time.Until(p.free)
	p.mu.Unlock()
	time.Sleep(wait)
}

// bucket is a store as far away as S3 is, which takes parts of S3's sizes made small. It keeps what may be read back;
// of parts it keeps nothing.
type bucket struct {
	store.Objects
	latency time.Duration

	mu    sync.Mutex
	calls calls
}

func newBucket(limits store.Limits, latency time.Duration) *bucket {
	objects := memory.NewObjects(&memory.ObjectsOptions{Limits: limits})
	return &bucket{Objects: objects, latency: latency, calls: calls{}}
}

func (b *bucket) request(method string) {
	b.mu.Lock()
	b.calls[method]++
	b.mu.Unlock()
	time.Sleep(b.latency)
}

func (b *bucket) Put(ctx context.Context, key store.Key, r io.ReadSeeker, size int64) error {
	b.request("Put")
	return b.Objects.Put(ctx, key, r, size)
}

func (b *bucket) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	b.request("Open")
	return b.Objects.Open(ctx, key, offset, length)
}

func (b *bucket) Begin(ctx context.Context, key store.Key) (store.Multipart, error) {
	b.request("Begin")
	return b.Objects.Begin(ctx, key)
}

func (b *bucket) PutPart(_ context.Context, _ store.Multipart, _ int64, part store.Part, r io.ReadSeeker) (store.Part, error) {
	b.request("PutPart")
	if n, err := io.Copy(io.Discard, r); n != part.Size || err != nil {
		return part, fmt.Errorf("%d bytes instead of %d: %w", n, part.Size, err)
	}
	return part, nil
}

func (b *bucket) Complete(context.Context, store.Multipart, []store.Part) error {
	b.request("Complete")
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// sender is a client that sends zeros at its own rate, over a network that all share. What it sends while nobody reads
// waits in the socket's buffer, if there is one.
type sender struct {
	left   int64
	rate   int64 // bytes a second; 0: no limit
	socket int64 // bytes
	net    *pipe
	sent   time.Time // when it began to send what is not read yet
}

func (s *sender) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	if s.sent.IsZero() {
		s.sent = time.Now()
	}
	n := min(s.left, int64(len(p)))
	if s.rate > 0 {
		takes := func(n int64) time.Duration { return time.Duration(n * int64(time.Second) / s.rate) }
		if oldest := time.Now().Add(-takes(s.socket + n)); s.sent.Before(oldest) {
			s.sent = oldest
		}
		s.sent = s.sent.Add(takes(n))
		time.Sleep(time.Until(s.sent))
	}
	s.net.pass(int(n))
	clear(p[:n])
	s.left -= n
	return int(n), nil
}

// crowd is many uploads at once, on a link that they share.
type crowd struct {
	limits   store.Limits
	budget   int64
	latency  time.Duration // of the store
	uploads  int
	size     int64 // of each
	rate     int64 // of each client, bytes a second; 0: as fast as the link
	slow     int   // how many of the clients have slowRate instead
	slowRate int64
	socket   int64 // bytes that come while nobody reads
}

// outcome is how a crowd fared.
type outcome struct {
	calls    calls
	took     time.Duration // until all were finished
	fastTook time.Duration // until those were that are not slow
	refused  int
	most     int64 // bytes of the budget
}

func (o outcome) String() string {
	return fmt.Sprintf("took %v, the fast ones %v, %d refused, %d KiB held, requests %v",
		o.took.Round(time.Millisecond), o.fastTook.Round(time.Millisecond), o.refused, o.most>>10, o.calls)
}

const link = 150 << 20 // bytes a second

// run lets all of the crowd upload: one PATCH of a size that is not told, and an empty PUT.
func (c crowd) run(t *testing.T) (result outcome) {
	t.Helper()
	d, err := digest.FromReader(io.LimitReader(zeros{}, c.size))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		objects := newBucket(c.limits, c.latency)
		budget := staging.NewBudget(c.budget)
		s := staging.New(memory.NewMetadata(nil), objects, &staging.Options{Budget: budget})
		net := &pipe{rate: link}
		var mu sync.Mutex
		var running sync.WaitGroup
		begin := time.Now()
		for i := range c.uploads {
			body := &sender{left: c.size, rate: c.rate, socket: c.socket, net: net}
			if i < c.slow {
				body.rate = c.slowRate
			}
			running.Go(func() {
				upload, err := s.Start(t.Context(), repository, "")
				if err == nil {
					_, err = s.Append(t.Context(), repository, upload.ID, staging.Chunk{Body: body, Size: -1})
				}
				if err == nil {
					_, err = s.Finish(t.Context(), repository, upload.ID, staging.Chunk{At: -1}, d)
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					assert.ErrorIs(t, err, staging.ErrBusy)
					result.refused++
				}
				if i >= c.slow {
					result.fastTook = time.Since(begin)
				}
			})
		}
		done := make(chan struct{})
		go func() { running.Wait(); close(done) }()
		for over := false; !over; {
			select {
			case <-done:
				over = true
			case <-time.After(10 * time.Millisecond):
				result.most = max(result.most, budget.Held())
			}
		}
		result.took = time.Since(begin)
		result.calls = objects.calls
		assert.Zero(t, budget.Held(), "all buffers should be given back")
	})
	t.Log(result)
	return result
}

// asS3 is the limits of S3, as package store/s3 has them.
var asS3 = store.Limits{MinPart: 5 << 20, PartSize: 16 << 20, MaxPart: 5 << 30, MaxParts: 10_000}

// TestCrowdFillsWholeParts: many more uploads than there is memory for take turns, and each costs about what it costs
// alone.
func TestCrowdFillsWholeParts(t *testing.T) {
	t.Parallel()
	equal := asS3
	equal.EqualParts = true
	const latency = 20 * time.Millisecond
	for _, test := range []struct {
		name  string
		crowd crowd
		parts int // of an upload, if it had the memory
		more  int // object requests of an upload that a crowd may cost
	}{
		{"64 of 64 MiB", crowd{asS3, 64 << 20, latency, 64, 64 << 20, 0, 0, 0, 0}, 4, 1},
		{"32 of 64 MiB, far away", crowd{asS3, 64 << 20, 10 * latency, 32, 64 << 20, 0, 0, 0, 0}, 4, 1},
		{"32 of 64 MiB, equal parts", crowd{equal, 64 << 20, latency, 32, 64 << 20, 0, 0, 0, 0}, 4, 2},
		{"128 of 32 MiB", crowd{asS3, 64 << 20, latency, 128, 32 << 20, 0, 0, 0, 0}, 2, 4},
		{"3 of 256 MiB", crowd{asS3, 64 << 20, latency, 3, 256 << 20, 0, 0, 0, 0}, 16, 0},
		{"16 of 64 MiB, little memory", crowd{asS3, 20 << 20, latency, 16, 64 << 20, 0, 0, 0, 0}, 4, 0},
		{"16 of 64 MiB, less memory than a part", crowd{asS3, 8 << 20, latency, 16, 64 << 20, 0, 0, 0, 0}, 4, 12},
		{"64 of 32 MiB, parts of any size", crowd{store.Limits{PartSize: 4 << 20}, 64 << 20, latency / 20, 64, 32 << 20, 0, 0, 0, 0}, 8, 16},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := test.crowd.run(t)
			assert.Zero(t, got.refused, "uploads that were refused")
			requests := 0
			for _, n := range got.calls {
				requests += n
			}
			assert.LessOrEqual(t, requests, test.crowd.uploads*(test.parts+2+test.more), "object requests: parts, Begin and Complete, and a few")
			assert.LessOrEqual(t, got.most, test.crowd.budget)
			if test.crowd.latency <= latency && test.crowd.budget >= 16<<20 {
				least := time.Duration(test.crowd.uploads) * time.Duration(test.crowd.size) * time.Second / link
				assert.Less(t, got.took, least*3/2, "the link should be used, which needs %v", least)
			}
		})
	}
}

// TestSlowClientsDoNotStarveFastOnes, nor are they refused.
func TestSlowClientsDoNotStarveFastOnes(t *testing.T) {
	t.Parallel()
	const latency, size = 20 * time.Millisecond, 32 << 20
	alone := 8 * time.Duration(size) * time.Second / link
	for _, test := range []struct {
		name  string
		crowd crowd
		fast  time.Duration
	}{
		{"32 very slow", crowd{asS3, 64 << 20, latency, 40, size, 0, 32, 200 << 10, 1 << 20}, 2 * alone},
		{"32 slow", crowd{asS3, 64 << 20, latency, 40, size, 0, 32, 2 << 20, 0}, 4 * alone},
		{"64 slow", crowd{asS3, 64 << 20, latency, 64, size, 0, 64, 2 << 20, 0}, 0},
		{"64 very slow", crowd{asS3, 64 << 20, latency, 64, size / 4, 0, 64, 200 << 10, 0}, 0},
		{"200 slow", crowd{asS3, 64 << 20, latency, 200, size / 4, 0, 200, 2 << 20, 0}, 0},
		{"64 slow, parts of any size", crowd{store.Limits{PartSize: 4 << 20}, 64 << 20, latency / 20, 64, size, 0, 64, 2 << 20, 0}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := test.crowd.run(t)
			assert.Zero(t, got.refused, "uploads that were refused")
			assert.LessOrEqual(t, got.fastTook, test.fast, "the fast ones alone need %v", alone)
		})
	}
}
