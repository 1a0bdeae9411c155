package encrypted_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/ocikit/ocikit/examples/customstore/encrypted"
	"github.com/ocikit/ocikit/store/memory"
)

func Example() {
	ctx := context.Background()
	below := memory.NewObjects(nil)
	objects, err := encrypted.New(below, bytes.Repeat([]byte("k"), encrypted.MinSecret))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := objects.Put(ctx, "blobs/1", strings.NewReader("attack at dawn"), 14); err != nil {
		fmt.Println(err)
	}
	read := func(open func() (io.ReadCloser, error)) []byte {
		r, err := open()
		if err != nil {
			fmt.Println(err)
			return nil
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		if err != nil {
			fmt.Println(err)
		}
		return data
	}
	fmt.Printf("%s\n", read(func() (io.ReadCloser, error) { return objects.Open(ctx, "blobs/1", 10, -1) }))
	fmt.Println(bytes.Contains(read(func() (io.ReadCloser, error) { return below.Open(ctx, "blobs/1", 0, -1) }), []byte("dawn")))
	// Output:
	// dawn
	// false
}
