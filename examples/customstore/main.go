// Command customstore serves a registry whose blobs are encrypted on the disk, by a store of its own: package encrypted.
//
//	SECRET=$(openssl rand -hex 32) go run ./examples/customstore DIR
//
// The index is not encrypted: package encrypted tells what it holds.
package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ocikit/ocikit/examples/customstore/encrypted"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/filesystem"
	"github.com/ocikit/ocikit/store/sqlite"
)

const address = "127.0.0.1:5000"

func main() {
	if err := run(os.Args[1:], os.Getenv("SECRET")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, secret string) error {
	if len(args) != 1 {
		return errors.New("usage: SECRET=64-hexadecimal-digits customstore DIR")
	}
	handler, closeIndex, err := newHandler(args[0], secret)
	if err != nil {
		return err
	}
	// Neither a ReadTimeout nor a WriteTimeout: a layer may take hours, and the handler ends transfers that stall.
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	fmt.Println("docker push " + address + "/team/app")
	return errors.Join(server.ListenAndServe(), closeIndex())
}

// newHandler returns a registry that keeps everything in a folder, and what closes it.
func newHandler(dir, secret string) (handler http.Handler, closeIndex func() error, err error) {
	key, err := hex.DecodeString(secret)
	if err != nil {
		return nil, nil, fmt.Errorf("read SECRET: %w", err)
	}
	files, err := filesystem.New(filepath.Join(dir, "objects"), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("open objects: %w", err)
	}
	objects, err := encrypted.New(files, key)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt objects: %w", err)
	}
	index, err := sqlite.Open(filepath.Join(dir, "index.db"), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("open index: %w", err)
	}
	// Small blobs, too, go to the objects, not into the index, which nobody encrypts.
	local := registry.NewLocal(index, objects, &registry.LocalOptions{InlineLimit: -1})
	return registry.NewHandler(local, nil), index.Close, nil
}
