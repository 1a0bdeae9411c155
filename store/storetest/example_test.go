package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/memory"
	"github.com/ocikit/ocikit/store/storetest"
)

// An implementation adopts the kit with one test a contract, here with two handles to one store.
func Example() {
	objects := func(t *testing.T) {
		storetest.Objects(t, func(*testing.T) []store.Objects {
			o := memory.NewObjects(nil) // yours: open it, and close it in t.Cleanup
			return []store.Objects{o, o}
		})
	}
	metadata := func(t *testing.T) {
		storetest.Metadata(t, func(_ *testing.T, now func() time.Time) []store.Metadata {
			m := memory.NewMetadata(&memory.MetadataOptions{Now: now})
			return []store.Metadata{m, m}
		})
	}
	// In a test file of yours these two are TestObjects and TestMetadata.
	_, _ = objects, metadata
}

// An answer is lost, after the object was stored.
func ExampleHookObjects() {
	ctx := context.Background()
	lost := errors.New("connection reset")
	calls := 0
	objects := storetest.HookObjects(memory.NewObjects(nil), storetest.Hook{
		After: func(_ context.Context, method string, err error) error {
			if calls++; method == "Put" && calls == 1 {
				return lost
			}
			return err
		},
	})
	key := store.NewBlobKey()
	fmt.Println(objects.Put(ctx, key, strings.NewReader("hello"), 5))
	fmt.Println(objects.Put(ctx, key, strings.NewReader("hello"), 5))
	// Output:
	// connection reset
	// <nil>
}

// A request is refused before it reaches the index.
func ExampleHookMetadata() {
	metadata := storetest.HookMetadata(memory.NewMetadata(nil), storetest.Hook{
		Before: func(_ context.Context, method string) error {
			if method == "Repositories" {
				return store.ErrUnavailable
			}
			return nil
		},
	})
	_, err := metadata.Repositories(context.Background(), "", 10)
	fmt.Println(err)
	_, err = metadata.Holders(context.Background(), "sha256:0", "", 10)
	fmt.Println(err)
	// Output:
	// store unavailable
	// <nil>
}

func ExampleClock() {
	clock := storetest.NewClock()
	metadata := memory.NewMetadata(&memory.MetadataOptions{Now: clock.Now})
	ctx := context.Background()
	id := store.NewID()
	if err := metadata.CreateSession(ctx, id, "team/app", ""); err != nil {
		fmt.Println(err)
	}
	clock.Advance(25 * time.Hour)
	_, err := metadata.Session(ctx, store.SessionRef{ID: id, Repository: "team/app", Life: store.Life{Idle: 24 * time.Hour}})
	fmt.Println(errors.Is(err, store.ErrSessionUnknown))
	// Output: true
}
