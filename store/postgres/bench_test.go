package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// full is what the benchmarks beside an empty index run on: a million tags in one repository, and a hundred thousand repositories.
var full = size{tags: 1_000_000, repositories: 100_000, layers: 1}

// hot is a call that clients wait for, on an index whose repository "full" has tags from v0000001 on.
type hot struct {
	name string
	call func(ctx context.Context, m store.Metadata, tags int) error
}

// hotCalls returns them. Each call of one picks another row.
func hotCalls() []hot {
	pick := func(tags int) int { return 1 + rand.IntN(tags) }
	tag := func(i int) string { return fmt.Sprintf("v%07d", i) }
	manifestDigest := func(i int) digest.Digest { return digest.FromString("manifest " + strconv.Itoa(i)) }
	layer := func(i int) digest.Digest { return digest.FromString("layer 1 of " + strconv.Itoa(i)) }
	return []hot{
		{"Page100Tags", func(ctx context.Context, m store.Metadata, tags int) error {
			_, err := m.Tags(ctx, "full", tag(pick(tags)), 100)
			return err
		}},
		{"ManifestByTag", func(ctx context.Context, m store.Metadata, tags int) error {
			_, err := m.Manifest(ctx, "full", store.ManifestRef{Tag: tag(pick(tags))})
			return err
		}},
		{"ManifestByDigest", func(ctx context.Context, m store.Metadata, tags int) error {
			_, err := m.Manifest(ctx, "full", store.ManifestRef{Digest: manifestDigest(pick(tags))})
			return err
		}},
		{"Content", func(ctx context.Context, m store.Metadata, tags int) error {
			_, err := m.Content(ctx, "full", layer(pick(tags)))
			return err
		}},
		{"RenewContent", func(ctx context.Context, m store.Metadata, tags int) error {
			_, err := m.RenewContent(ctx, "full", layer(pick(tags)), time.Hour)
			return err
		}},
		{"PutContent", func(ctx context.Context, m store.Metadata, _ int) error {
			return m.PutContent(ctx, "full", inline(store.NewID()))
		}},
		{"PutManifest", func(ctx context.Context, m store.Metadata, tags int) error {
			put := manifest("full", store.NewID(), "new-"+store.NewID())
			put.References = []store.Reference{{Digest: layer(pick(tags))}, {Digest: layer(pick(tags))}}
			return m.PutManifest(ctx, put)
		}},
		{"MoveTag", func(ctx context.Context, m store.Metadata, tags int) error {
			put := manifest("full", store.NewID(), tag(pick(tags)))
			return m.PutManifest(ctx, put)
		}},
		{"Upload", func(ctx context.Context, m store.Metadata, _ int) error { return upload(ctx, m) }},
	}
}

// upload takes a session through its four events, of one, two, two and two round trips.
func upload(ctx context.Context, m store.Metadata) error {
	id, key := store.NewID(), store.NewBlobKey()
	ref := store.SessionRef{ID: id, Repository: "full"}
	if err := m.CreateSession(ctx, id, "full", ""); err != nil {
		return err
	}
	session, err := m.ClaimSession(ctx, store.Claim{SessionRef: ref, Reserve: store.Reservation{Blob: key}})
	if err != nil {
		return err
	}
	if err := m.SaveSession(ctx, store.Save{
		ID: id, Version: session.Version, Progress: store.Progress{Hash: make([]byte, 120)}, Reserved: session.Reserved,
	}); err != nil {
		return err
	}
	return m.FinishSession(ctx, store.Finish{
		ID: id, Version: session.Version, Content: store.Content{Digest: digest.FromString(id), Size: 1, Key: key},
	})
}

// BenchmarkEmptyAndFull compares the latency of each hot call, alone, on an index with a thousand tags and on a full one. Its
// server has the memory that one for a full index should have, and does not wait for the disk.
func BenchmarkEmptyAndFull(b *testing.B) {
	calls := hotCalls()
	server := backendtest.NewPostgres(b, "shared_buffers=4GB", "fsync=off", "max_wal_size=8GB")
	on := func(config *pgxpool.Config) { through(b, server.Address())(config) }
	for _, size := range []size{{tags: 1000, repositories: 10, layers: 1}, full} {
		b.Run(fmt.Sprintf("tags=%d", size.tags), func(b *testing.B) {
			options := &postgres.Options{Schema: fmt.Sprint("full_", size.tags)}
			pool := newPool(b, 1, on)
			require.NoError(b, postgres.Migrate(b.Context(), pool, options))
			start := time.Now()
			fill(b, pool, options.Schema, size)
			b.Logf("filled in %v", time.Since(start))
			// As after some time of use, all is in the server's memory.
			_, err := pool.Exec(b.Context(), `create extension if not exists pg_prewarm`)
			require.NoError(b, err)
			_, err = pool.Exec(b.Context(), `
				select sum(pg_prewarm(c.oid)) from pg_class c join pg_namespace n on n.oid = c.relnamespace
				where n.nspname = $1 and c.relkind in ('r', 'i')`, options.Schema)
			require.NoError(b, err)
			m := open(b, newPool(b, 1, on), options)
			for _, hot := range calls {
				b.Run(hot.name, func(b *testing.B) {
					for b.Loop() {
						if err := hot.call(b.Context(), m, size.tags); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

// BenchmarkModes compares the ways in which pgx can send statements.
func BenchmarkModes(b *testing.B) {
	schema := newSchema(b)
	size := size{tags: 10_000, repositories: 1000, layers: 1}
	fill(b, newPool(b, 1), schema, size)
	for _, hot := range hotCalls() {
		for _, mode := range modes {
			b.Run(hot.name+"/"+mode.String(), func(b *testing.B) {
				m := open(b, newPool(b, 1, in(mode)), &postgres.Options{Schema: schema})
				for b.Loop() {
					if err := hot.call(b.Context(), m, size.tags); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkClients is the throughput of each hot call with 16 clients, with prepared statements and without.
func BenchmarkClients(b *testing.B) {
	const clients = 16
	schema := newSchema(b)
	size := size{tags: 10_000, repositories: 1000, layers: 1}
	fill(b, newPool(b, 1), schema, size)
	for _, hot := range hotCalls() {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
			pool := newPool(b, clients, in(mode))
			m := open(b, pool, &postgres.Options{Schema: schema})
			b.Run(hot.name+"/"+mode.String(), func(b *testing.B) {
				concurrently(b, clients, func() error { return hot.call(b.Context(), m, size.tags) })
			})
		}
	}
}

// concurrently makes b.N calls, by so many clients at once.
func concurrently(b *testing.B, clients int, call func() error) {
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
