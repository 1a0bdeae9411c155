package upstream_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store/memory"
)

// A registry of one's own whose hub/… is pulled through from another one.
func Example() {
	// The other one, somewhere.
	elsewhere := httptest.NewServer(registry.NewHandler(registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil), nil))
	defer elsewhere.Close()
	layer := "a layer"
	d := digest.FromString(layer).String()
	push(elsewhere.URL+"/v2/library/app/blobs/uploads/?digest="+d, layer)

	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	local := registry.NewLocal(meta, objects, nil)
	hub, err := upstream.New("hub", elsewhere.URL, meta, objects, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Close()
	names, err := registry.NewRoute(registry.Child{Registry: local}, registry.Child{Prefix: "hub", Registry: hub.Under("hub")})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(registry.NewHandler(names, nil))
	defer server.Close()

	push(server.URL+"/v2/team/app/blobs/uploads/?digest="+d, layer) // ours
	for _, repository := range []string{"team/app", "hub/library/app", "hub/library/none"} {
		resp, err := http.Get(server.URL + "/v2/" + repository + "/blobs/" + d)
		if err != nil {
			log.Fatal(err)
		}
		_ = resp.Body.Close()
		fmt.Println(repository, resp.Status)
	}
	// Output:
	// team/app 200 OK
	// hub/library/app 200 OK
	// hub/library/none 404 Not Found
}

func push(url, content string) {
	resp, err := http.Post(url, "application/octet-stream", strings.NewReader(content))
	if err != nil {
		log.Fatal(err)
	}
	_ = resp.Body.Close()
}
