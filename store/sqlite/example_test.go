package sqlite_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

func Example() {
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)

	meta, err := sqlite.Open(filepath.Join(folder, "index.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer meta.Close()

	ctx := context.Background()
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
	// Output: application/vnd.oci.image.index.v1+json {"schemaVersion":2}
}
