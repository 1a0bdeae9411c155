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

// BenchmarkClientsBesideACollector tells how long clients wait, at the 99th percentile, while blobs come that nothing refers to, some
// hundreds a second: on a replica that collects all of them, sixty times as often as by default, and on one that does not collect.
// What is pushed and pulled is an image of up to three layers of at most 64 KiB, whole: its manifest, its config and its layers.
func BenchmarkClientsBesideACollector(b *testing.B) {
	const phase = 5 * time.Second
	type side struct {
		name   string
		client *pushClient
		waits  map[string][]time.Duration
		round  uint64
	}
	var sides []*side
	for _, s := range []struct {
		name string
		args []string
	}{
		{"idle", []string{"--gc=false"}}, {"collecting", []string{"--gc-grace=500ms", "--gc-delay=500ms", "--gc-pause=1s", "--write-timeout=1s"}},
	} {
		shared := newBackends(b, backendtest.MinIO(b))
		replica := shared.start(b, route{}, append(s.args, "--log-level=warn")...)
		sides = append(sides, &side{name: s.name, client: newPushClient(replica.URL()), waits: map[string][]time.Duration{}})
	}
	content := randomBytes(rand.New(rand.NewPCG(4, 4)), 65<<10)
	for b.Loop() {
		for _, s := range sides {
			s.round++
			ctx, cancel := context.WithTimeout(b.Context(), phase)
			var group sync.WaitGroup
			for number := range uint64(4) { // whose blobs nothing will refer to
				group.Go(func() {
					own := bytes.Clone(content)
					for i := uint64(0); ctx.Err() == nil; i++ {
						binary.BigEndian.PutUint64(own, s.round<<48|number<<40|i)
						if err := s.client.putBlob(b.Context(), "garbage", digest.FromBytes(own), bytes.NewReader(own), int64(len(own))); err != nil {
							b.Error(err)
						}
						wait(ctx, 10*time.Millisecond)
					}
				})
			}
			var mu sync.Mutex
			took := func(what string, began time.Time) {
				mu.Lock()
				defer mu.Unlock()
				s.waits[what] = append(s.waits[what], time.Since(began))
			}
			for number := range 2 {
				group.Go(func() {
					pusher := newPusher(s.client, s.round, uint64(number))
					pusher.largest = 64 << 10
					for ctx.Err() == nil {
						began := time.Now()
						if err := pusher.pushImage(b.Context()); err != nil {
							b.Error(err)
							return
						}
						took("push", began)
						for name := range pusher.manifests {
							began := time.Now()
							if err := pullImage(b.Context(), s.client, pusher.repository, name); err != nil {
								b.Error(err)
								return
							}
							took("pull", began)
							break
						}
						wait(ctx, 5*time.Millisecond)
					}
				})
			}
			group.Wait()
			cancel()
		}
	}
	for _, s := range sides {
		for what, waits := range s.waits {
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, s.name+"-"+what+"-p99-ms")
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, s.name+"-"+what+"-median-ms")
		}
	}
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
