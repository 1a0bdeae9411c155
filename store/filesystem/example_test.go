package filesystem_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/filesystem"
)

// An object that comes in parts becomes visible, whole, when it is completed.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "objects")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	objects, err := filesystem.New(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	upload, err := objects.Begin(ctx, store.NewBlobKey())
	if err != nil {
		fmt.Println(err)
		return
	}
	var parts []store.Part
	var offset int64
	for i, text := range []string{"written ", "in ", "place"} {
		part := store.Part{Number: int32(i + 1), Offset: offset, Size: int64(len(text))}
		part, err := objects.PutPart(ctx, upload, 1, part, strings.NewReader(text))
		if err != nil {
			fmt.Println(err)
			return
		}
		parts = append(parts, part)
		offset += part.Size
	}
	if err := objects.Complete(ctx, upload, parts); err != nil {
		fmt.Println(err)
		return
	}

	r, err := objects.Open(ctx, upload.Key, 0, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	fmt.Println(string(content), err)
	// Output: written in place <nil>
}
