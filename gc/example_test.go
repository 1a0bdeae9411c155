package gc_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/memory"
)

// A service runs the collector beside its registry, on a goroutine of its own, until it ends.
func Example() {
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	local := registry.NewLocal(meta, objects, nil)

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- gc.Run(ctx, meta, objects, nil) }()

	const blob = "a layer that no manifest refers to"
	d := digest.FromString(blob)
	if _, err := local.PushBlob(ctx, "team/app", d, strings.NewReader(blob), int64(len(blob))); err != nil {
		fmt.Println(err)
	}
	stop()
	fmt.Println(<-ended)

	// By hand, with no grace: what the collector would do tomorrow.
	stats, err := gc.Once(context.Background(), meta, objects, &gc.Options{Grace: time.Nanosecond})
	fmt.Println(stats.Contents, stats.Bytes, err)
	// Output:
	// <nil>
	// 1 34 <nil>
}
