package sqlite_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// clients is how many calls are under way at once in the parallel benchmarks.
const clients = 16

// BenchmarkManifestByTag reads a manifest of 1 KiB among ten thousand, from as many goroutines as there are cores.
func BenchmarkManifestByTag(b *testing.B) {
	m := openNew(b, &sqlite.Options{NoSync: true})
	const count = 10_000
	for i := range count {
		require.NoError(b, m.PutManifest(b.Context(), manifest("team/app", fmt.Sprintf("%01024d", i), fmt.Sprint("v", i))))
	}
	var next atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tag := fmt.Sprint("v", next.Add(7919)%count)
			if _, err := m.Manifest(b.Context(), "team/app", store.ManifestRef{Tag: tag}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkContent locates content among ten thousand.
func BenchmarkContent(b *testing.B) {
	m := openNew(b, &sqlite.Options{NoSync: true})
	const count = 10_000
	digests := make([]digest.Digest, count)
	for i := range count {
		content := inline(fmt.Sprint(i))
		digests[i] = content.Digest
		require.NoError(b, m.PutContent(b.Context(), "team/app", content))
	}
	var next atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.Content(b.Context(), "team/app", digests[next.Add(7919)%count]); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkPutManifest puts manifests of 1 KiB that refer to five layers, with a tag each, at 16 clients.
func BenchmarkPutManifest(b *testing.B) {
	for _, test := range syncs {
		b.Run(test.name, func(b *testing.B) {
			m := openNew(b, test.options)
			var references []store.Reference
			for i := range 5 {
				content := inline(fmt.Sprint("layer ", i))
				references = append(references, store.Reference{Digest: content.Digest})
				require.NoError(b, m.PutContent(b.Context(), "team/app", content))
			}
			var next atomic.Int64
			concurrently(b, func() error {
				i := next.Add(1)
				put := manifest("team/app", fmt.Sprintf("%01024d", i), fmt.Sprint("v", i))
				put.References = references
				return m.PutManifest(b.Context(), put)
			})
		})
	}
}

// BenchmarkPutContent puts small content, at 16 clients.
func BenchmarkPutContent(b *testing.B) {
	for _, test := range syncs {
		b.Run(test.name, func(b *testing.B) {
			m := openNew(b, test.options)
			var next atomic.Int64
			concurrently(b, func() error {
				return m.PutContent(b.Context(), "team/app", inline(fmt.Sprint(next.Add(1))))
			})
		})
	}
}

// BenchmarkUpload takes a session through its four events, at 16 clients.
func BenchmarkUpload(b *testing.B) {
	for _, test := range syncs {
		b.Run(test.name, func(b *testing.B) {
			m := openNew(b, test.options)
			concurrently(b, func() error {
				id, key := store.NewID(), store.NewBlobKey()
				ref := store.SessionRef{ID: id, Repository: "team/app"}
				if err := m.CreateSession(b.Context(), id, "team/app", ""); err != nil {
					return err
				}
				session, err := m.ClaimSession(b.Context(), store.Claim{SessionRef: ref, Reserve: store.Reservation{Blob: key}})
				if err != nil {
					return err
				}
				if err := m.SaveSession(b.Context(), store.Save{
					ID: id, Version: session.Version, Progress: store.Progress{Hash: make([]byte, 120)}, Reserved: session.Reserved,
				}); err != nil {
					return err
				}
				return m.FinishSession(b.Context(), store.Finish{
					ID: id, Version: session.Version, Content: store.Content{Digest: digest.FromString(id), Size: 1, Key: key},
				})
			})
		})
	}
}

// BenchmarkPutContentAlone is the latency of one durable event, with nobody to share its flush.
func BenchmarkPutContentAlone(b *testing.B) {
	m := openNew(b, nil)
	for i := 0; b.Loop(); i++ {
		if err := m.PutContent(b.Context(), "team/app", inline(fmt.Sprint(i))); err != nil {
			b.Error(err)
		}
	}
}

var syncs = []struct {
	name    string
	options *sqlite.Options
}{
	{"Durable", nil},
	{"NoSync", &sqlite.Options{NoSync: true}},
}

// concurrently runs call b.N times, from all clients at once.
func concurrently(b *testing.B, call func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	errs := make(chan error, clients)
	b.ResetTimer()
	for range clients {
		go func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range clients {
		require.NoError(b, <-errs)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
