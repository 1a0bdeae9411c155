package staging_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

const streamed = 256 << 20

// benchStage is a stage over new stores in memory.
func benchStage(partSize int64) *staging.Stage {
	objects := memory.NewObjects(&memory.ObjectsOptions{Limits: store.Limits{PartSize: partSize}})
	return staging.New(memory.NewMetadata(nil), objects, nil)
}

// BenchmarkHash is what no upload can be faster than.
func BenchmarkHash(b *testing.B) {
	data := noise(1<<20, 1)
	b.SetBytes(streamed)
	for b.Loop() {
		verifier := digest.SHA256.Digester().Hash()
		for range streamed / len(data) {
			verifier.Write(data)
		}
	}
}

// BenchmarkAppendStream appends 256 MiB in one request, from memory.
func BenchmarkAppendStream(b *testing.B) {
	data := noise(1<<20, 1)
	b.SetBytes(streamed)
	b.ReportAllocs()
	for b.Loop() {
		s := benchStage(0)
		upload, err := s.Start(b.Context(), repository, digest.SHA256)
		require.NoError(b, err)
		_, err = s.Append(b.Context(), repository, upload.ID, staging.Chunk{Body: &repeated{data: data, left: streamed}, Size: -1})
		require.NoError(b, err)
	}
}

// BenchmarkAppendSocket is the same, through the kernel.
func BenchmarkAppendSocket(b *testing.B) {
	data := noise(1<<20, 1)
	b.SetBytes(streamed)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer listener.Close()
	for b.Loop() {
		go func() {
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err == nil {
				_, _ = io.Copy(conn, &repeated{data: data, left: streamed})
				conn.Close()
			}
		}()
		conn, err := listener.Accept()
		require.NoError(b, err)
		s := benchStage(0)
		upload, err := s.Start(b.Context(), repository, digest.SHA256)
		require.NoError(b, err)
		_, err = s.Append(b.Context(), repository, upload.ID, staging.Chunk{Body: conn, Size: streamed})
		require.NoError(b, err)
		conn.Close()
	}
}

// BenchmarkAppendChunk appends small chunks, each with a request of its own.
func BenchmarkAppendChunk(b *testing.B) {
	for _, bench := range []struct {
		name string
		size int
	}{{"100B", 100}, {"4KiB", 4 << 10}, {"64KiB", 64 << 10}} {
		b.Run(bench.name, func(b *testing.B) {
			s := benchStage(0)
			upload, err := s.Start(b.Context(), repository, digest.SHA256)
			require.NoError(b, err)
			data := noise(bench.size, 1)
			b.SetBytes(int64(bench.size))
			b.ReportAllocs()
			for b.Loop() {
				upload, err = s.Append(b.Context(), repository, upload.ID, chunk(data, upload.Offset, true))
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFinish finishes uploads of many parts: one completion, whatever the size.
func BenchmarkFinish(b *testing.B) {
	for _, parts := range []int{2, 1000} {
		b.Run(map[int]string{2: "2 parts", 1000: "1000 parts"}[parts], func(b *testing.B) {
			data := noise(parts*(4<<10), 1)
			d := digest.FromBytes(data)
			for b.Loop() {
				b.StopTimer()
				s := benchStage(4 << 10)
				upload, err := s.Start(b.Context(), repository, digest.SHA256)
				require.NoError(b, err)
				_, err = s.Append(b.Context(), repository, upload.ID, chunk(data, 0, true))
				require.NoError(b, err)
				b.StartTimer()
				_, err = s.Finish(b.Context(), repository, upload.ID, staging.Chunk{At: -1}, d)
				require.NoError(b, err)
			}
		})
	}
}

// repeated reads the same bytes again and again.
type repeated struct {
	data []byte
	at   int
	left int64
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, _ := bytes.NewReader(r.data[r.at:]).Read(p[:min(int64(len(p)), r.left)])
	r.at = (r.at + n) % len(r.data)
	r.left -= int64(n)
	return n, nil
}
