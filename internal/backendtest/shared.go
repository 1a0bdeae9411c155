package backendtest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// Run runs a package's tests, then stops the servers that they shared and
// removes their data. It returns the status to exit with:
//
//	func TestMain(m *testing.M) { os.Exit(backendtest.Run(m)) }
func Run(m *testing.M) int {
	code := m.Run()
	for _, closeServer := range []func() error{sharedPostgres.close, sharedMinIO.close, sharedVersityGW.close} {
		if err := closeServer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

// The servers that the tests of this binary share, if they do.
var (
	sharedPostgres  shared[*PostgresServer]
	sharedMinIO     shared[*S3Server]
	sharedVersityGW shared[*S3Server]
)

// shared is a server that is started at its first use, and ended by close.
type shared[S interface{ close() error }] struct {
	mu      sync.Mutex
	started bool
	server  S
	err     error
}

// get returns the server, or fails the test with the reason why there is none.
func (s *shared[S]) get(t testing.TB, start func() (S, error)) S {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.started = true
		s.server, s.err = start()
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.server
}

func (s *shared[S]) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started || s.err != nil {
		return nil
	}
	return s.server.close()
}
