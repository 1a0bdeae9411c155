package store_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

// An upload, event by event: the key is in the index before anything is written under it, the bytes are durable before a row
// counts them, and what was written becomes the content as it is. Package staging does this for real.
func Example() {
	ctx := context.Background()
	var meta store.Metadata = memory.NewMetadata(nil)
	var objects store.Objects = memory.NewObjects(nil)
	id, bytes := store.NewID(), "a layer"

	if err := meta.CreateSession(ctx, id, "team/app", ""); err != nil {
		fmt.Println(err)
	}
	claim := store.Claim{
		SessionRef: store.SessionRef{ID: id, Repository: "team/app"},
		Reserve:    store.Reservation{Blob: store.NewBlobKey(), Tail: store.NewUploadKey(id)},
	}
	session, err := meta.ClaimSession(ctx, claim)
	if err != nil {
		fmt.Println(err)
	}
	if err := objects.Put(ctx, session.Reserved.Blob, strings.NewReader(bytes), int64(len(bytes))); err != nil {
		fmt.Println(err)
	}
	content := store.Content{Digest: digest.FromString(bytes), Size: int64(len(bytes)), Key: session.Reserved.Blob}
	if err := meta.FinishSession(ctx, store.Finish{ID: id, Version: session.Version, Content: content}); err != nil {
		fmt.Println(err)
	}

	found, err := meta.Content(ctx, "team/app", content.Digest)
	fmt.Println(found.Size, found.Key == session.Reserved.Blob, err)
	condemned, err := meta.Garbage(ctx, 0, 10)
	fmt.Println(len(condemned), condemned[0].Key == session.Reserved.Tail, err)
	// Output:
	// 7 true <nil>
	// 1 true <nil>
}
