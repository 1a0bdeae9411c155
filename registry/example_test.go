package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/memory"
)

// A service serves a whole registry beside its own routes.
func Example() {
	local := registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil)
	handler := registry.NewHandler(local, nil)
	mux := http.NewServeMux()
	mux.Handle("/v2/", handler)
	mux.Handle("/v2", handler)
	server := httptest.NewServer(mux)
	defer server.Close()

	// What clients do: push a blob in one request, and pull it.
	d := digest.FromString("hello")
	resp, err := http.Post(server.URL+"/v2/team/app/blobs/uploads/?digest="+d.String(), "application/octet-stream", strings.NewReader("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	resp, err = http.Get(server.URL + resp.Header.Get("Location"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	fmt.Println(string(content), err)
	// Output:
	// 201 Created
	// hello <nil>
}

// Authorize decides about every repository that a request touches, and about those that it would reveal.
func ExampleHandlerOptions_authorize() {
	may := func(user string, access registry.Access) bool {
		public := strings.HasPrefix(access.Repository, "public/")
		return user == "alice" || public && access.Action == registry.ActionPull
	}
	local := registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil)
	handler := registry.NewHandler(local, &registry.HandlerOptions{
		Authorize: func(r *http.Request, want []registry.Access) (func(registry.Access) bool, error) {
			user, _, _ := r.BasicAuth() // a real service checks the password
			for _, access := range want {
				if !access.Optional && !may(user, access) {
					return nil, &registry.ChallengeError{Challenge: `Basic realm="registry.example.com"`}
				}
			}
			return func(access registry.Access) bool { return may(user, access) }, nil
		},
	})
	for _, path := range []string{"/v2/public/app/manifests/v1", "/v2/team/app/manifests/v1"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Printf("%d %q\n", w.Code, w.Header().Get("WWW-Authenticate"))
	}
	// Output:
	// 404 ""
	// 401 "Basic realm=\"registry.example.com\""
}

// greetings is a registry of one's own that has a manifest for every tag.
type greetings struct{ registry.Unsupported }

func (greetings) Manifest(_ context.Context, repository string, ref registry.Reference) (registry.Manifest, error) {
	if ref.Tag == "" {
		return registry.Manifest{}, registry.ErrManifestUnknown
	}
	body := []byte(`{"schemaVersion":2,"manifests":[],"annotations":{"hello":"` + repository + `"}}`)
	return registry.Manifest{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(body), Size: int64(len(body))},
		Bytes:      body,
	}, nil
}

func ExampleUnsupported() {
	handler := registry.NewHandler(greetings{}, nil)
	for _, path := range []string{"/v2/world/manifests/latest", "/v2/world/tags/list"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 200 {"schemaVersion":2,"manifests":[],"annotations":{"hello":"world"}}
	// 405 {"errors":[{"code":"UNSUPPORTED","message":"operation not supported"}]}
}

func ExampleNewRoute() {
	local := registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil)
	route, err := registry.NewRoute(
		registry.Child{Prefix: "greetings", Registry: greetings{}},
		registry.Child{Prefix: "", Registry: local},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for _, repository := range []string{"greetings/world", "team/app"} {
		_, err := route.Manifest(ctx, repository, registry.Reference{Tag: "latest"})
		fmt.Println(repository, "known:", !errors.Is(err, registry.ErrManifestUnknown))
	}
	_, err = registry.ReadOnly(route).StartUpload(ctx, "team/app", "")
	fmt.Println(err)
	// Output:
	// greetings/world known: true
	// team/app known: false
	// unsupported: operation not supported
}
