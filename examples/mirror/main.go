// Command mirror is a registry of one's own, behind which another one lies: what nobody pushed here is pulled through from there and
// kept, and hub/… is all the other one's.
//
//	UPSTREAM=https://registry.example.com go run ./examples/mirror
//	docker pull localhost:8080/hub/library/alpine
//	docker push localhost:8080/team/app
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
)

func main() {
	// In memory, so that nothing is to be set up: a service uses sqlite.Open and filesystem.New here.
	meta, objects := memory.NewMetadata(nil), memory.NewObjects(nil)
	pulls := gc.NewPulls(0)
	handler, closeAll, err := newRegistry(os.Getenv("UPSTREAM"), meta, objects, pulls)
	if err != nil {
		log.Fatal(err)
	}
	defer closeAll()
	go func() {
		log.Print(gc.Run(context.Background(), meta, objects, &gc.Options{
			Pulls:    pulls,
			Eviction: gc.Eviction{Idle: 30 * 24 * time.Hour, Budget: 100 << 30}, // of what was pulled through
		}))
	}()
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
	}
}

// newRegistry returns the registry over the stores, and what closes it.
func newRegistry(address string, meta store.Metadata, objects store.Objects, pulls *gc.Pulls) (http.Handler, func(), error) {
	hub, err := upstream.New("hub", address, meta, objects, &upstream.Options{
		Names: upstream.Names{Rewrite: []upstream.Rewrite{{From: "*", To: "library/*"}}}, // alpine is library/alpine there
		Kept:  registry.LocalOptions{Pulled: pulls.Record},
	})
	if err != nil {
		return nil, nil, err
	}
	local := registry.NewLocal(meta, objects, &registry.LocalOptions{Pulled: pulls.Record})
	names, err := registry.NewRoute(
		registry.Child{Prefix: "hub", Registry: hub.Under("hub")},
		registry.Child{Registry: registry.NewFallThrough(local, []registry.Source{{Registry: hub, Link: hub.Link}}, nil)},
	)
	if err != nil {
		return nil, nil, err
	}
	handler := registry.NewHandler(names, &registry.HandlerOptions{
		// containerd, told that this is a mirror of docker.io, asks for library/alpine?ns=docker.io.
		Namespace: func(namespace, repository string) (string, bool) {
			return "hub/" + repository, namespace == "docker.io"
		},
	})
	return handler, func() { _ = hub.Close() }, nil
}
