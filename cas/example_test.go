package cas_test

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/store/memory"
)

func Example() {
	ctx := context.Background()
	contents := cas.New(memory.NewMetadata(nil), memory.NewObjects(nil), nil)
	config := []byte(`{"architecture":"amd64","os":"linux"}`)
	d := digest.FromBytes(config)

	if err := contents.Put(ctx, "team/app", d, config); err != nil {
		fmt.Println(err)
	}
	found, err := contents.Find(ctx, "team/app", d)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := found.Open(ctx, 2, 12)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	fmt.Println(string(data), found.Size, err)

	_, err = contents.Find(ctx, "team/other", d)
	fmt.Println(err)
	// Output:
	// architecture 37 <nil>
	// find content: find content: content unknown
}
