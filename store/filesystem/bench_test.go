package filesystem_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/filesystem"
)

// synced runs a benchmark on a store that syncs and on one that does not.
func synced(b *testing.B, run func(b *testing.B, o *filesystem.Objects)) {
	for name, opts := range map[string]*filesystem.Options{"synced": nil, "unsynced": {NoSync: true}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			run(b, newObjects(b, opts))
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			data := make([]byte, size)
			synced(b, func(b *testing.B, o *filesystem.Objects) {
				b.SetBytes(int64(size))
				for b.Loop() {
					key := store.NewBlobKey()
					if err := o.Put(b.Context(), key, bytes.NewReader(data), int64(size)); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := o.Delete(b.Context(), []store.Key{key}); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		})
	}
}

func BenchmarkPutParallel(b *testing.B) {
	data := make([]byte, 64<<10)
	synced(b, func(b *testing.B, o *filesystem.Objects) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := o.Put(b.Context(), store.NewBlobKey(), bytes.NewReader(data), int64(len(data))); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkPutPart writes parts of one upload, which begins anew after 256 of them.
func BenchmarkPutPart(b *testing.B) {
	for _, size := range []int{4 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			data := make([]byte, size)
			synced(b, func(b *testing.B, o *filesystem.Objects) {
				b.SetBytes(int64(size))
				var m store.Multipart
				for n := int32(0); b.Loop(); n++ {
					if n%256 == 0 {
						b.StopTimer()
						if err := o.Abort(b.Context(), m); err != nil {
							b.Fatal(err)
						}
						var err error
						if m, err = o.Begin(b.Context(), store.NewBlobKey()); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
					part := store.Part{Number: n%256 + 1, Offset: int64(n%256) * int64(size), Size: int64(size)}
					if _, err := o.PutPart(b.Context(), m, 1, part, bytes.NewReader(data)); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				if err := o.Abort(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkComplete shows that the size does not matter.
func BenchmarkComplete(b *testing.B) {
	for _, count := range []int32{1, 64} {
		b.Run(fmt.Sprintf("%dMiB", count*4), func(b *testing.B) {
			data := make([]byte, 4<<20)
			synced(b, func(b *testing.B, o *filesystem.Objects) {
				for b.Loop() {
					b.StopTimer()
					m, err := o.Begin(b.Context(), store.NewBlobKey())
					if err != nil {
						b.Fatal(err)
					}
					parts := make([]store.Part, count)
					for i := range count {
						part := store.Part{Number: i + 1, Offset: int64(i) * int64(len(data)), Size: int64(len(data))}
						if parts[i], err = o.PutPart(b.Context(), m, 1, part, bytes.NewReader(data)); err != nil {
							b.Fatal(err)
						}
					}
					b.StartTimer()
					if err := o.Complete(b.Context(), m, parts); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := o.Delete(b.Context(), []store.Key{m.Key}); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	o := newObjects(b, &filesystem.Options{NoSync: true})
	key, _ := putRandom(b, o, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		r, err := o.Open(b.Context(), key, 1000, 10_000)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
