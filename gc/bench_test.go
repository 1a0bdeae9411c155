package gc_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

// BenchmarkGarbage deletes a thousand objects that were condemned, as finished content and as what uploads have left behind.
func BenchmarkGarbage(b *testing.B) {
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	opts := &gc.Options{Delay: time.Nanosecond, WriteTimeout: time.Nanosecond}
	for b.Loop() {
		b.StopTimer()
		keys := make([]store.Key, 1000)
		for i := range keys {
			keys[i] = store.NewBlobKey()
			require.NoError(b, objects.Put(b.Context(), keys[i], bytes.NewReader([]byte("x")), 1))
		}
		_, err := meta.CondemnKeys(b.Context(), keys)
		require.NoError(b, err)
		b.StartTimer()
		stats, err := gc.Once(b.Context(), meta, objects, opts)
		require.NoError(b, err)
		require.Equal(b, len(keys), stats.Objects)
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

// BenchmarkAudit compares ten thousand objects with as many rows.
func BenchmarkAudit(b *testing.B) {
	w := newWorld()
	const n = 10_000
	for i := range n {
		w.push(b, repository, text(i))
	}
	for b.Loop() {
		report, err := gc.Audit(b.Context(), w.meta, w.objects, &gc.AuditOptions{Batch: n})
		require.NoError(b, err)
		require.Equal(b, int64(n), report.Objects)
		require.Empty(b, report.Findings)
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

func BenchmarkPullsRecord(b *testing.B) {
	pulls := gc.NewPulls(0)
	for b.Loop() {
		pulls.Record(repository, "sha256:a", "latest")
	}
}
