// Command embed is a service that has routes and a login of its own, and a registry beside them.
//
//	KEYS="alice=a-secret-key bob=another-one" go run ./examples/embed
//	curl -H "X-API-Key: a-secret-key" http://localhost:8080/images
//	docker login -u alice -p a-secret-key localhost:8080
//	docker push localhost:8080/alice/app
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/auth"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

func main() {
	keys := accounts{}
	for _, entry := range strings.Fields(os.Getenv("KEYS")) {
		name, key, _ := strings.Cut(entry, "=")
		if name == "" || key == "" {
			log.Fatalf("KEYS: %q is not like alice=a-secret-key", entry)
		}
		keys[sha256.Sum256([]byte(key))] = name
	}
	// In memory, so that nothing is to be set up: a service uses sqlite.Open and filesystem.New here.
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	handler, err := newService(keys, meta, objects)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(gc.Run(context.Background(), meta, objects, nil)) }() // collects what nothing refers to
	// Neither a ReadTimeout nor a WriteTimeout: a layer may take hours, and the registry ends transfers that stall.
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// accounts are the service's users, by the hash of their API key.
type accounts map[[sha256.Size]byte]string

func (a accounts) name(key string) string { return a[sha256.Sum256([]byte(key))] }

func newService(keys accounts, meta store.Metadata, objects store.Objects) (http.Handler, error) {
	login, err := auth.New(&auth.Options{
		Authenticate: func(_ context.Context, user, password string) (bool, error) { return keys.name(password) == user, nil },
		Allows: func(user string, access registry.Access) bool { // in user/… everything, elsewhere nothing
			return user != "" && (access.Action == registry.ActionList || strings.HasPrefix(access.Repository, user+"/"))
		},
	})
	if err != nil {
		return nil, err
	}
	images := registry.NewLocal(meta, objects, nil)
	handler := registry.NewHandler(images, &registry.HandlerOptions{Authorize: login.Authorize})

	mux := http.NewServeMux()
	mux.Handle("/v2/", handler)
	mux.Handle("/v2", handler)
	mux.HandleFunc("GET /images", func(w http.ResponseWriter, r *http.Request) {
		name := keys.name(r.Header.Get("X-API-Key"))
		if name == "" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		all, err := images.Repositories(r.Context(), name+"/", 1000) // the service uses the registry as clients do, without HTTP
		if err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
			return
		}
		own := []string{}
		for _, repository := range all {
			if strings.HasPrefix(repository, name+"/") {
				own = append(own, repository)
			}
		}
		_ = json.NewEncoder(w).Encode(own) // if the client is gone, so be it
	})
	return mux, nil
}
