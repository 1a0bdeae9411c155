package memory_test

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

func Example() {
	ctx := context.Background()
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)

	// Small content is in the index itself.
	content := store.Content{Digest: digest.FromString("small"), Size: 5, Inline: []byte("small")}
	if err := meta.PutContent(ctx, "team/app", content); err != nil {
		fmt.Println(err)
	}
	found, err := meta.Content(ctx, "team/app", content.Digest)
	fmt.Println(string(found.Inline), err)

	// Large content is an object.
	key := store.NewBlobKey()
	if err := objects.Put(ctx, key, strings.NewReader("large"), 5); err != nil {
		fmt.Println(err)
	}
	r, err := objects.Open(ctx, key, 1, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	fmt.Println(string(data), err)
	// Output:
	// small <nil>
	// arg <nil>
}
