package postgres_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

func Example() {
	ctx := context.Background()
	run := func(pool *pgxpool.Pool) {
		if err := postgres.Migrate(ctx, pool, nil); err != nil { // once a release, rather than in each replica
			log.Fatal(err)
		}
		meta, err := postgres.New(ctx, pool, nil)
		if err != nil {
			log.Fatal(err) // one line, which tells what to do
		}
		data := []byte(`{"schemaVersion":2}`)
		if err := meta.PutManifest(ctx, store.ManifestPut{
			Repository: "team/app",
			Manifest: store.Manifest{
				Digest:    digest.FromBytes(data),
				MediaType: "application/vnd.oci.image.index.v1+json",
				Bytes:     data,
			},
			Tags: []string{"latest"},
		}); err != nil {
			log.Fatal(err)
		}
		manifest, err := meta.Manifest(ctx, "team/app", store.ManifestRef{Tag: "latest"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(manifest.MediaType, string(manifest.Bytes))
	}
	pool, err := pgxpool.New(ctx, "postgres://ocikit@localhost/registry")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	if pool.Ping(ctx) == nil { // where there is a database
		run(pool)
	}
}

func ExampleMigrations() {
	files, err := postgres.Migrations("registry")
	if err != nil {
		log.Fatal(err)
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(names)
	// Output: [00001_index.sql 00002_collector.sql 00003_due.sql 00004_mirror.sql 00005_preview.sql]
}
