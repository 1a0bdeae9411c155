package faulttest_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
)

// A part arrives at the store when everybody has given it up.
func Example() {
	_ = func(t *testing.T) { // TestSomething
		store := faulttest.NewHTTP(t, backendtest.MinIO(t).Endpoint())
		hold := faulttest.NewHold()
		store.Intercept(faulttest.First(faulttest.UploadPart, faulttest.Fault{Hold: hold}))
		// Have a server whose endpoint is store.URL() send a part, then …
		<-hold.Arrived()
		// … do its work with another server, and have the first one's part arrive.
		hold.Release()
		<-hold.Reached()
	}
}

func ExampleOperationOf() {
	r, err := http.NewRequest(http.MethodPut, "http://localhost/bucket/key?partNumber=1&uploadId=2", http.NoBody)
	if err != nil {
		panic(err)
	}
	fmt.Println(faulttest.OperationOf(r))
	// Output: UploadPart
}
