package backendtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/ocikit/ocikit/internal/backendtest"
)

// A test of a store takes a database of its own from the server that all tests
// share; the test's TestMain calls Run.
func Example() {
	_ = func(t *testing.T) { // TestSomething
		connection, err := pgx.Connect(t.Context(), backendtest.Postgres(t).Database(t))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close(t.Context())
	}
}
