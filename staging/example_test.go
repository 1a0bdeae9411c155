package staging_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store/memory"
)

func Example() {
	ctx := context.Background()
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	here, there := staging.New(meta, objects, nil), staging.New(meta, objects, nil) // two replicas

	upload, err := here.Start(ctx, "team/app", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	upload, err = there.Append(ctx, "team/app", upload.ID, staging.Chunk{Body: strings.NewReader("hello "), At: 0, Size: -1})
	fmt.Println(upload.Offset, err)

	last := staging.Chunk{Body: strings.NewReader("world"), At: upload.Offset, Size: 5}
	size, err := here.Finish(ctx, "team/app", upload.ID, last, digest.FromString("hello world"))
	fmt.Println(size, err)
	// Output:
	// 6 <nil>
	// 11 <nil>
}
