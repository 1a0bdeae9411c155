package imagetest_test

import (
	"fmt"
	"log"

	"github.com/ocikit/ocikit/internal/imagetest"
)

// An image prints its greeting, which is in one layer, and the checksum of
// another layer's file.
func Example() {
	image, err := imagetest.NewImage(imagetest.Options{Greeting: "good morning", LargeSize: 1 << 10})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(image.Output)
	fmt.Println(image.Root.MediaType, image.Root.Platform.OS)
	// Output:
	// good morning 26f47781
	// application/vnd.oci.image.manifest.v1+json linux
}
